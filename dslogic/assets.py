"""The page's static files: called after their content, compressed once, and kept by browsers for good."""

import gzip
import hashlib
import re
from collections.abc import Mapping
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from types import MappingProxyType

_FOLDER = Path(__file__).parent / "static"
_MEDIA_TYPES = MappingProxyType(
    {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
)
#: A tenth of the library is the program of a map's worker, as one text: nobody draws a map here.
_MAP_WORKER = re.compile(rb"""\.exports='(?:[^'\\]|\\.)*maplibre-gl-worker(?:[^'\\]|\\.)*'""", re.DOTALL)


class Asset:
    """A file, compressed when it is first asked for.

    Attributes:
        content: the file, as it is.
        media_type: what it is.
        version: what its folder is called in URLs.

    """

    def __init__(self, content: bytes, media_type: str, version: str) -> None:
        self.content = content
        self.media_type = media_type
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
        own = {path.name: path.read_bytes() for path in sorted(_FOLDER.iterdir()) if path.suffix in _MEDIA_TYPES}
        self._assets = _folder(own) | _folder({"plotly.min.js": _read_plotly()})

    def url(self, name: str) -> str:
        """Give a file's address, relative to the page.

        Raises:
            KeyError: there is no such file.

        """
        return f"static/{self._assets[name].version}/{name}"

    def find(self, name: str) -> Asset | None:
        """Give a file, None where there is none of that name."""
        return self._assets.get(name)


def _folder(files: Mapping[str, bytes]) -> dict[str, Asset]:
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(name.encode() + hashlib.sha256(content).digest())
    version = digest.hexdigest()[:16]
    return {name: Asset(content, _MEDIA_TYPES[Path(name).suffix], version) for name, content in files.items()}


def _read_plotly() -> bytes:
    """Read the library's bundle in plotly's wheel, whose Python code nobody needs here."""
    spec = find_spec("plotly")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("plotly is not installed: the page's plotting library is in its wheel")
    bundle = Path(next(iter(spec.submodule_search_locations))) / "package_data" / "plotly.min.js"
    return _MAP_WORKER.sub(b".exports=''", bundle.read_bytes())
