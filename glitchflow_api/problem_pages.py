"""The documentation of problems that the gateway serves: docs/problems.md, the whole page or one section.

`problems.md` in this package is a link to that file, so that there is one text; a wheel contains the file itself.
"""

import re
from functools import cache
from importlib.resources import files

from glitchflow_api.errors import NoSuchProblem


@cache
def problems_page() -> str:
    """Return the whole page, as Markdown."""
    return (files("glitchflow_api") / "problems.md").read_text(encoding="utf-8")


def problem_section(code: str) -> str:
    """Return the section about the problem `code`, as Markdown.

    Raises:
        NoSuchProblem: there is no problem with this code.

    """
    if code not in _sections():
        raise NoSuchProblem(f"there is no problem {code!r}; /problems lists all of them")
    return _sections()[code]


@cache
def _sections() -> dict[str, str]:
    _, *sections = re.split(r"^## ", problems_page(), flags=re.MULTILINE)
    return {section.partition("\n")[0]: f"## {section.strip()}\n" for section in sections}
