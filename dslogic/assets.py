"""The page's static files: called after their content, compressed once, and kept by browsers for good."""

import gzip
import hashlib
from collections.abc import Iterable
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from types import MappingProxyType

_FOLDER = Path(__file__).parent / "static"
_MEDIA_TYPES = MappingProxyType(
    {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
)


class Asset:
    """A file, compressed when it is first asked for.

    Attributes:
        content: the file, as it is.
        media_type: what it is.
        version: what its folder is called in URLs.

    """

    def __init__(self, path: Path, version: str) -> None:
        self.content = path.read_bytes()
        self.media_type = _MEDIA_TYPES[path.suffix]
        self.version = version
        self._lock = Lock()

    @property
    def compressed(self) -> bytes:
        """The file, as gzip."""
        with self._lock:  # threads that ask at the same time compress it once
            return self._compressed

    @cached_property
    def _compressed(self) -> bytes:
        return gzip.compress(self.content, 9, mtime=0)


class Assets:
    """All files of the page, by their names.

    The modules import each other by relative names. So all of them share one folder in their URLs, called after the
    content of all; the plotting library, which is large and seldom changes, has a folder of its own.
    """

    def __init__(self) -> None:
        own = [path for path in sorted(_FOLDER.iterdir()) if path.suffix in _MEDIA_TYPES]
        self._assets = _folder(own) | _folder([_find_plotly()])

    def url(self, name: str) -> str:
        """Give a file's address, relative to the page.

        Raises:
            KeyError: there is no such file.

        """
        return f"static/{self._assets[name].version}/{name}"

    def find(self, name: str) -> Asset | None:
        """Give a file, None where there is none of that name."""
        return self._assets.get(name)


def _folder(paths: Iterable[Path]) -> dict[str, Asset]:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    version = digest.hexdigest()[:16]
    return {path.name: Asset(path, version) for path in paths}


def _find_plotly() -> Path:
    """Find the library's bundle in plotly's wheel, whose Python code nobody needs here."""
    spec = find_spec("plotly")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("plotly is not installed: the page's plotting library is in its wheel")
    return Path(next(iter(spec.submodule_search_locations))) / "package_data" / "plotly.min.js"
