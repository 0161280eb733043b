"""Downloads into a cache: files are complete or missing, with retries that continue a partial download.

Each URL has a folder of its own, with `FILE`, the partial file `FILE.part`, and for each a file `.version` with the
server's name of that version (ETag or date). The rest is requested only of the same version, and a complete file is
used as long as the server does not name another one. Files not used for 30 days are removed.
"""

import hashlib
import os
import re
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit
from uuid import uuid4

from gwclient.amounts import bytes_text
from gwclient.client import Retry
from gwclient.connection import tls_reason
from gwclient.errors import InvalidSource, SourceUnreachable
from gwclient.partial_file import PartialFileBusy, alone
from gwservice.regular_file import append_regular, read_regular
from gwwire.agent import USER_AGENT
from gwwire.http_dates import parse_retry_after

_CHUNK = 2**16
_PART, _VERSION = ".part", ".version"
_HEADERS = {"User-Agent": USER_AGENT}
#: The header Content-Range of an answer with the rest of a file (RFC 9110).
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_KEPT_UNUSED_S = 30 * 86400.0
#: s between two lines about a slow download.
_PAUSE_S = 5.0
#: Reasons by the names of the errors of `requests`.
_FAULTS = {"TooManyRedirects": "it redirects without end", "ContentDecodingError": "its compression is damaged"}
#: Bytes of an ETag or a date.
_MOST_VERSION = 64 * 1024


@dataclass(frozen=True)
class Downloads:
    """Fetches files by HTTP into a cache folder; an attempt fails after `timeout` s without a byte."""

    folder: Path
    retry: Retry
    timeout: float
    say: Callable[[str], None]  # is called with each message

    def fetch(self, url: str, *, anew: bool = False) -> Path:
        """Return the file; fetch it if it is not in the cache, or `anew`. After an error the next call continues it."""
        parts = urlsplit(url)
        folder = f"{parts.netloc.replace(':', '_')}-{hashlib.sha256(url.encode()).hexdigest()[:16]}"
        path = self.folder / folder / parts.path.rpartition("/")[2]
        partial = path.with_name(path.name + _PART)
        try:
            if anew:
                path.unlink(missing_ok=True)
            if path.exists() and self._is_current(url, _version_file(path)):
                os.utime(path)
                return path
            path.parent.mkdir(parents=True, exist_ok=True)
            self._remove_unused()
            try:
                with alone(partial):
                    self._complete(url, partial, path)
            except PartialFileBusy:  # another push fetches it too, maybe for a long time
                self._complete(url, path.with_name(f"{path.name}.{uuid4().hex}{_PART}"), path)
        except OSError as error:
            raise InvalidSource(f"{path} cannot be written: {error.strerror or error}") from error
        return path

    def _complete(self, url: str, partial: Path, path: Path) -> None:
        """Fetch the rest of a partial file, and make it the file unless another push has fetched the same version."""
        self._insist(url, partial)
        fetched, there = _version_file(partial), _version_file(path)
        if _known(fetched) and path.exists() and there.exists() and _known(there) == _known(fetched):
            partial.unlink()
            fetched.unlink()
            return
        # Without a version, as between these steps, a file is fetched again.
        there.unlink(missing_ok=True)
        partial.replace(path)
        fetched.replace(there)

    def _remove_unused(self) -> None:
        """Remove the files that were not used for long, with their versions."""
        for each in self.folder.glob("*/*"):
            if each.suffix != _VERSION and time.time() - each.stat().st_mtime > _KEPT_UNUSED_S:
                each.unlink(missing_ok=True)
                _version_file(each).unlink(missing_ok=True)
                with suppress(OSError):  # it is not empty
                    each.parent.rmdir()

    def _is_current(self, url: str, version: Path) -> bool:
        """Return whether to use the file in the cache: it is current, or the server does not say whether it is."""
        import requests  # noqa: PLC0415 (comes with gwosc, and is not needed by other sources)

        if not version.exists():
            return False
        if not (known := _known(version)):
            return True
        condition = "If-None-Match" if known.startswith('"') else "If-Modified-Since"
        try:
            headers = _HEADERS | {condition: known}
            with requests.get(url, headers=headers, stream=True, timeout=self.timeout) as response:
                if response.status_code == HTTPStatus.OK:
                    return _version(response.headers) == known
                if response.status_code == HTTPStatus.NOT_MODIFIED:
                    return True
                failure = f"answered {response.status_code}: {response.reason}"
        except requests.RequestException as error:
            failure = f"does not answer: {why_no_answer(error)}"
        self.say(f"{url} {failure}; using the file in the cache")
        return True

    def _insist(self, url: str, partial: Path) -> None:
        failures = 0
        while True:
            try:
                return self._fetch_rest(url, partial)
            except _TryAgain as failure:
                failures += 1
                if failures >= self.retry.tries:
                    raise SourceUnreachable(f"{failure} (after {failures} tries)") from failure
                delay = self.retry.delay(failures, failure.retry_after)
                self.say(f"{failure}; trying again in {delay:.1f} s")
                time.sleep(delay)

    def _fetch_rest(self, url: str, partial: Path) -> None:
        import requests  # noqa: PLC0415 (comes with gwosc, and is not needed by other sources)

        version = _version_file(partial)
        there = partial.stat().st_size if partial.exists() else 0
        known = _known(version) if version.exists() else ""
        rest = {"Range": f"bytes={there}-", "If-Range": known} if there and known else {}
        try:
            with requests.get(url, headers=_HEADERS | rest, stream=True, timeout=self.timeout) as response:
                status = response.status_code
                whole = status != HTTPStatus.PARTIAL_CONTENT
                other = not whole and not (rest and _is_rest(response.headers, there, known))
                if other or status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    with append_regular(partial) as file:
                        file.truncate(0)
                    raise _TryAgain(f"{url} is not as it was")
                if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    asked = parse_retry_after(response.headers.get("Retry-After", ""))
                    raise _TryAgain(f"{url} answered {status}", asked)
                if status not in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
                    raise InvalidSource(f"{url} answered {status}: {response.reason}")
                with append_regular(partial) as file:
                    if whole:
                        file.truncate(0)
                        version.write_text(_version(response.headers))
                    self._copy(response, file)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise _TryAgain(f"{url} was cut off, or does not answer: {why_no_answer(error)}") from error
        except (requests.RequestException, ValueError) as error:  # urllib3 raises ValueError for some addresses
            raise InvalidSource(f"{url} cannot be fetched: {why_no_answer(error)}") from error

    def _copy(self, response: Any, file: IO[bytes]) -> None:
        shown = time.monotonic()
        size = file.tell() + int(response.headers.get("Content-Length", 0))
        for chunk in response.iter_content(_CHUNK):
            file.write(chunk)
            if time.monotonic() - shown > _PAUSE_S:
                shown = time.monotonic()
                self.say(f"fetching {response.url}: {bytes_text(file.tell())} of {bytes_text(size)}")


class _TryAgain(Exception):
    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def _version(headers: Any) -> str:
    """Return the name of a version, which stands for its bytes; a weak ETag does not."""
    tag: str = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def _is_rest(headers: Any, there: int, known: str) -> bool:
    """Return whether an answer of status 206 has all bytes of the known version after the first `there`."""
    span = _RANGE.fullmatch(headers.get("Content-Range", ""))
    if span is None or _version(headers) not in {"", known}:
        return False
    first, last, size = map(int, span.groups())
    return first == there and last == size - 1


def _known(version: Path) -> str:
    """Return the version in a file; raise OSError."""
    return read_regular(version, _MOST_VERSION).decode(errors="replace")


def _version_file(path: Path) -> Path:
    """Return the file with the version of a complete or partial file."""
    return path.with_name(path.name + _VERSION)


def why_no_answer(error: BaseException) -> str:
    """Return in plain words why a request of `requests` had no complete answer."""
    kind = type(error).__name__
    if kind in _FAULTS:
        return _FAULTS[kind]
    if isinstance(error, ValueError):
        return "it is not an address"
    where = "the proxy: " if kind == "ProxyError" else ""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    match error:
        case TimeoutError():
            return f"{where}nothing arrived in time"
        case ssl.SSLError():
            return f"{where}TLS failed: {tls_reason(error)}"
        case OSError(strerror=str(reason)):
            return f"{where}{reason}"
        case _:
            return f"{where}the connection was closed, or the answer is not HTTP"
