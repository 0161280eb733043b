"""Print what an extra of the project requires, one requirement in a line, for pip in an image's build.

The dependencies thus get a layer of their own, which changes when they do and not with every line of code.
"""

import sys
import tomllib
from pathlib import Path


def requirements(extra: str) -> list[str]:
    """Give the requirements that every room has, and the extra's own."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    return [*project["dependencies"], *project["optional-dependencies"][extra]]


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1])))
