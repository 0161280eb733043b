"""Print what extras of the project require, one requirement in a line, for pip in an image's build.

The dependencies thus get a layer of their own, which changes when they do and not with every line of code.
"""

import sys
import tomllib
from pathlib import Path


def requirements(*extras: str) -> list[str]:
    """Give the requirements that every room has, and the extras' own."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    own = (requirement for extra in extras for requirement in project["optional-dependencies"][extra])
    return [*project["dependencies"], *own]


if __name__ == "__main__":
    print("\n".join(requirements(*sys.argv[1:])))
