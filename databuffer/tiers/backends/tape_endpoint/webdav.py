"""Files and folders of a storage system over WebDAV (RFC 4918).

Paths begin with a slash, do not end with one, and have no characters that have to be quoted in a URL.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from posixpath import dirname
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree as ET

from databuffer.tiers.backends.tape_endpoint.http_client import HttpClient, wait
from databuffer.tiers.backends.tape_endpoint.http_exchange import Answer, Interrupted
from databuffer.tiers.tier import Capacity, TierError
from gwwire.http_dates import parse_date

_DONE = (200, 201, 202, 204)
_MULTI_STATUS, _PARTIAL, _NOT_FOUND, _CONFLICT = 207, 206, 404, 409
#: The answer to MKCOL of a folder that exists. If its parent is missing, it is 409, or 404 of some servers.
_EXISTS = 405
#: Some servers do not replace files.
_REFUSED = (403, 405, 409, 412)
_ABOUT = b"<getcontentlength/><getlastmodified/><resourcetype/>"
_SPACE = b"<quota-available-bytes/><quota-used-bytes/>"
_DAV = "{DAV:}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder; `modified` is in seconds of Unix time."""

    path: str
    is_folder: bool
    size: int
    modified: float


class WebDav:
    """The files of the server of an HTTP client."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    def entry(self, path: str) -> Entry | None:
        """Return what lies under a path, or None."""
        answer = self._propfind(path, 0, _ABOUT)
        return None if answer is None else _entry(self._responses(answer, path)[0])

    def entries(self, folder: str) -> list[Entry] | None:
        """Return what lies in a folder, or None if it does not exist."""
        answer = self._propfind(folder, 1, _ABOUT)
        if answer is None:
            return None
        found = [_entry(each) for each in self._responses(answer, folder)]
        for entry in found:
            if folder not in {entry.path, dirname(entry.path)}:  # it could be deleted, or listed without end
                raise TierError(f"tier {self._http.name}: the listing of {folder} names {entry.path[:200]!r}")
        return [entry for entry in found if entry.path != folder]

    def space(self, folder: str) -> Capacity:
        """Return what the server says of the space of a folder (RFC 4331)."""
        answer = self._propfind(folder, 0, _SPACE)
        if answer is None:
            raise TierError(f"tier {self._http.name}: there is no folder {self._url(folder)}")
        found = self._responses(answer, folder)[0]
        free, used = (_number(found, name) for name in ("quota-available-bytes", "quota-used-bytes"))
        return Capacity(None if free is None or used is None else free + used, used)

    def read(self, path: str, start: int, stop: int, size: int) -> Iterator[bytes]:
        """Yield the bytes [start, stop) of a file of `size` bytes; a connection that breaks is replaced.

        Raise TierError if the file has another size, or the server fails again and again without a byte between.
        """
        pauses = self._http.pauses()
        while start < stop:
            try:
                for chunk in self._range(path, start, stop, size):
                    start += len(chunk)
                    pauses = self._http.pauses()
                    yield chunk
            except Interrupted as error:
                wait(next(pauses), error)

    def _range(self, path: str, start: int, stop: int, size: int) -> Iterator[bytes]:
        whole = (start, stop) == (0, size)
        headers = [] if whole else [("Range", f"bytes={start}-{stop - 1}")]
        with self._http.get(self._url(path), headers, ok=(200,) if whole else (_PARTIAL,)) as (answer, chunks):
            given = answer.headers.get("content-range", "") if not whole else answer.headers.get("content-length", size)
            if str(given) != (str(size) if whole else f"bytes {start}-{stop - 1}/{size}"):
                raise TierError(f"tier {self._http.name}: {path} was replaced while it was read, or the range is wrong")
            left = stop - start
            for chunk in chunks:
                left -= len(chunk)
                if left < 0:
                    raise TierError(f"tier {self._http.name}: {path}: the server sends more than was asked for")
                yield chunk
            if left:
                raise Interrupted(f"tier {self._http.name}: {path} ended {left} bytes early")

    def write(self, path: str, size: int, chunks: Iterable[bytes]) -> None:
        """Store a file; one that is cut off can be left incomplete."""
        self._http.put(self._url(path), size, chunks)

    def move(self, source: str, target: str) -> None:
        """Rename a file, and replace what has the new name; servers that refuse that are asked to delete it first."""
        if not self._is_moved(source, target, refused=_REFUSED):
            self.delete(target)
            self._is_moved(source, target, refused=())

    def _is_moved(self, source: str, target: str, refused: Collection[int]) -> bool:
        attempts = count()

        def once() -> bool:
            done = (*_DONE, *((_NOT_FOUND,) if next(attempts) else ()))  # a repetition may find that it was done
            headers = [("Destination", self._url(target)), ("Overwrite", "T")]
            return self._http.call_once("MOVE", self._url(source), headers, ok=(*done, *refused)).status in done

        return self._http.repeated(once)

    def make_folder(self, path: str) -> None:
        """Create a folder and those above it, unless it exists."""
        made = (*_DONE, _EXISTS)
        answer = self._http.call("MKCOL", self._url(path), ok=(*made, _CONFLICT, _NOT_FOUND))
        if answer.status not in made:
            self.make_folder(dirname(path))
            self._http.call("MKCOL", self._url(path), ok=made)

    def delete(self, path: str) -> None:
        """Delete a file, if it exists; a folder would be deleted with all that lies in it."""
        self._http.call("DELETE", self._url(path), ok=(*_DONE, _NOT_FOUND))

    def _url(self, path: str) -> str:
        return self._http.base + path

    def _propfind(self, path: str, depth: int, properties: bytes) -> Answer | None:
        body = b'<?xml version="1.0"?><propfind xmlns="DAV:"><prop>%b</prop></propfind>' % properties
        headers = [("Depth", str(depth)), ("Content-Type", "application/xml")]
        answer = self._http.call("PROPFIND", self._url(path), headers, body, ok=(_MULTI_STATUS, _NOT_FOUND))
        return None if answer.status == _NOT_FOUND else answer

    def _responses(self, answer: Answer, path: str) -> list[ET.Element]:
        """Return what an answer says of each file and folder; it names at least the path that was asked for."""
        try:
            # The server is trusted as far as its bytes are; expat limits the expansion of entities itself.
            root = ET.fromstring(answer.body)  # noqa: S314 (see above)
        except ET.ParseError as error:
            raise TierError(f"tier {self._http.name}: the listing of {path} cannot be read: {error}") from error
        found = root.findall(f"{_DAV}response")
        if root.tag != f"{_DAV}multistatus" or not found:
            raise TierError(f"tier {self._http.name}: the listing of {path} cannot be read: it is not one of WebDAV")
        return found


def collapsed(path: str) -> str:
    """Return a path without repeated slashes, and without one at its end."""
    return re.sub("/+", "/", path).rstrip("/") or "/"


def _entry(response: ET.Element) -> Entry:
    path = collapsed(unquote(urlsplit(response.findtext(f"{_DAV}href", "").strip()).path))
    is_folder = response.find(f".//{_DAV}resourcetype/{_DAV}collection") is not None
    modified = parse_date(response.findtext(f".//{_DAV}getlastmodified", ""))
    return Entry(path, is_folder, _number(response, "getcontentlength") or 0, modified or 0.0)


def _number(response: ET.Element, name: str) -> int | None:
    text = response.findtext(f".//{_DAV}{name}", "").strip()
    return int(text) if text.isdecimal() else None
