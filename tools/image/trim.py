"""Take out of installed packages what a running service never opens, and compile the rest.

What is taken: the packages' own tests, type stubs, sources and headers of what is compiled already. What a package
imports in spite of its name is kept; the images' tests run every command that they are made for.

Bytecode is marked never to be checked against its source (PEP 552): a read-only root has no place for another.
"""

import compileall
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from py_compile import PycInvalidationMode

_FOLDERS = {"__pycache__", "tests", "test", "include"}
#: Imported by its own package, in spite of its name.
_KEPT = {"astropy/tests"}
#: Opened for these files alone: all that is wanted of plotly is the JavaScript in its wheel, which the page draws with.
_ONLY: dict[str, set[str]] = {"plotly": {"package_data/plotly.min.js"}, "_plotly_utils": set(), "narwhals": set()}
_ENDINGS = {".pyi", ".pyx", ".pxd", ".pxi", ".c", ".cpp", ".h", ".hpp", ".f", ".f90", ".a", ".pyc"}


def superfluous(root: Path) -> Iterator[Path]:
    """Give the folders and files under `root` that nobody will miss, outermost first."""
    for path in sorted(root.iterdir()):
        if path.is_symlink():
            continue
        if path.is_dir():
            if path.parent.name == "site-packages" and path.name in _ONLY:
                kept = {path / file for file in _ONLY[path.name]}
                yield from (file for file in path.rglob("*") if file.is_file() and file not in kept)
            elif path.name in _FOLDERS and f"{path.parent.name}/{path.name}" not in _KEPT:
                yield path
            else:
                yield from superfluous(path)
        elif path.suffix in _ENDINGS:
            yield path


def trim(root: Path) -> None:
    """Take away what is superfluous under `root`, and compile what is left."""
    for path in list(superfluous(root)):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    if not compileall.compile_dir(root, quiet=1, workers=0, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH):
        sys.exit(f"trim: not everything under {root} could be compiled")


if __name__ == "__main__":
    for root in sys.argv[1:]:
        trim(Path(root))
