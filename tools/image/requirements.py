"""Print the requirements of extras of the project, one per line, for pip in the build of an image.

The dependencies thus have their own layer, which changes only when they change.
"""

import sys
import tomllib
from pathlib import Path


def requirements(*extras: str) -> list[str]:
    """Return the requirements of the project and of the extras."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    own = (requirement for extra in extras for requirement in project["optional-dependencies"][extra])
    return [*project["dependencies"], *own]


if __name__ == "__main__":
    print("\n".join(requirements(*sys.argv[1:])))
