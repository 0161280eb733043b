"""The page's static files: their URLs change with their content, so that browsers can cache them forever."""

import gzip
import hashlib
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from threading import Lock

_FOLDER = Path(__file__).parent / "static"
_MEDIA_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
#: The worker for maps is one string, a tenth of the library, and the page has no maps. The quantifiers are
#: possessive: backtracking would need 60 MB.
_EXPORTED_STRING = re.compile(rb"""\.exports='(?:[^'\\]++|\\.)*+'""", re.DOTALL)
_MAP_WORKER = b"maplibre-gl-worker"


class Asset:
    """A file; `version` is the name of its folder in URLs."""

    def __init__(self, content: bytes, media_type: str, version: str) -> None:
        self.content = content
        self.media_type = media_type
        self.version = version
        self._lock = Lock()
        self._compressed: bytes | None = None

    @property
    def compressed(self) -> bytes:
        """The content as gzip, compressed at the first request."""
        with self._lock:  # simultaneous requests compress it once
            if self._compressed is None:
                self._compressed = gzip.compress(self.content, 9, mtime=0)
            return self._compressed


class Assets:
    """All files of the page, by name.

    The modules import each other by relative names, so all of them share one folder in their URLs, named after the
    digest of all; the plotting library, which is large and rarely changes, has a separate folder.
    """

    def __init__(self) -> None:
        own = {path.name: path.read_bytes() for path in sorted(_FOLDER.iterdir()) if path.suffix in _MEDIA_TYPES}
        self._assets = _folder(own) | _folder({"plotly.min.js": _read_plotly()})

    def url(self, name: str) -> str:
        """Return the URL of a file, relative to the page; raise KeyError if it does not exist."""
        return f"static/{self._assets[name].version}/{name}"

    def find(self, name: str) -> Asset | None:
        """Return the file with this name, or None if it does not exist."""
        return self._assets.get(name)


def _folder(files: Mapping[str, bytes]) -> dict[str, Asset]:
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(name.encode() + hashlib.sha256(content).digest())
    version = digest.hexdigest()[:16]
    return {name: Asset(content, _MEDIA_TYPES[Path(name).suffix], version) for name, content in files.items()}


def _read_plotly() -> bytes:
    """Return the JavaScript bundle in plotly's wheel, without importing its Python code."""
    spec = find_spec("plotly")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("plotly is not installed: the page's plotting library is in its wheel")
    bundle = Path(next(iter(spec.submodule_search_locations))) / "package_data" / "plotly.min.js"
    return _EXPORTED_STRING.sub(_without_map_worker, bundle.read_bytes())


def _without_map_worker(exported: re.Match[bytes]) -> bytes:
    return b".exports=''" if _MAP_WORKER in exported[0] else exported[0]
