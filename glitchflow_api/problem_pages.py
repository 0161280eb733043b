"""What the gateway tells about problems: docs/problems.md, whole or a section of it.

`problems.md` in this package is a link to that file, so that there is one text; a wheel gets what it leads to.
"""

import re
from functools import cache
from importlib.resources import files

from glitchflow_api.errors import NoSuchProblem


@cache
def problems_page() -> str:
    """Give the whole page, as Markdown."""
    return (files("glitchflow_api") / "problems.md").read_text(encoding="utf-8")


def problem_section(code: str) -> str:
    """Give the section about the problem `code`, as Markdown.

    Raises:
        NoSuchProblem: there is none.

    """
    if code not in _sections():
        raise NoSuchProblem(f"there is no problem {code!r}; /problems tells about all there are")
    return _sections()[code]


@cache
def _sections() -> dict[str, str]:
    _, *sections = re.split(r"^## ", problems_page(), flags=re.MULTILINE)
    return {section.partition("\n")[0]: f"## {section.strip()}\n" for section in sections}
