"""Remove from installed packages what a running service never opens, and compile the rest.

Removed are the packages' tests, type stubs, and the sources and headers of compiled modules.

Bytecode is marked as unchecked (PEP 552): on a read-only root it cannot be written again.
"""

import compileall
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from py_compile import PycInvalidationMode

_FOLDERS = {"__pycache__", "tests", "test", "include"}
#: Named like tests, but imported by its own package.
_KEPT = {"astropy/tests"}
#: Packages of which only these files are needed: plotly is installed for its JavaScript, with which the page draws,
#: fastapi-swagger for that of /docs.
_ONLY: dict[str, set[str]] = {
    "plotly": {"package_data/plotly.min.js"},
    "_plotly_utils": set(),
    "narwhals": set(),
    "fastapi_swagger": {"__init__.py", "resources/swagger-ui-bundle.js", "resources/swagger-ui.css"},
}
_ENDINGS = {".pyi", ".pyx", ".pxd", ".pxi", ".c", ".cpp", ".h", ".hpp", ".f", ".f90", ".a", ".pyc"}


def removable(root: Path) -> Iterator[Path]:
    """Yield the folders and files under `root` to remove, outermost first."""
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
                yield from removable(path)
        elif path.suffix in _ENDINGS:
            yield path


def trim(root: Path) -> None:
    """Remove what is removable under `root`, and compile the rest."""
    for path in list(removable(root)):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    if not compileall.compile_dir(root, quiet=1, workers=0, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH):
        sys.exit(f"trim: not everything under {root} could be compiled")


if __name__ == "__main__":
    for root in sys.argv[1:]:
        trim(Path(root))
