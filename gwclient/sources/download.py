"""Downloads into a cache: files are complete or missing, with retries that continue a partial download.

Each URL has a folder of its own. `FILE.part` is the partial file, and `FILE.version` the server's name of that version
(ETag or date): the rest is requested only if the version is still the same, and a complete file is used only as long as
the server does not name another one. Files not used for 30 days are removed.
"""

import hashlib
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from gwclient.answers import parse_retry_after
from gwclient.client import Retry
from gwclient.errors import InvalidSource, SourceUnreachable, one_line
from gwwire.agent import USER_AGENT

_CHUNK = 2**16
_PART, _VERSION = ".part", ".version"
_KEPT_UNUSED_S = 30 * 86400.0
#: s between two lines about a slow download.
_PAUSE_S = 5.0


@dataclass(frozen=True)
class Downloads:
    """Fetches files by HTTP into a cache folder; an attempt fails after `timeout` s without a byte."""

    folder: Path
    retry: Retry
    timeout: float
    say: Callable[[str], None]  # is called with each message

    def fetch(self, url: str) -> Path:
        """Return the file; fetch it if it is not in the cache. After an error the next call continues it."""
        parts = urlsplit(url)
        folder = f"{parts.netloc.replace(':', '_')}-{hashlib.sha256(url.encode()).hexdigest()[:16]}"
        path = self.folder / folder / parts.path.rpartition("/")[2]
        partial, version = path.with_name(path.name + _PART), path.with_name(path.name + _VERSION)
        try:
            if path.exists() and self._is_current(url, version):
                os.utime(path)
                return path
            path.parent.mkdir(parents=True, exist_ok=True)
            self._remove_unused()
            self._insist(url, partial, version)
            partial.replace(path)
        except OSError as error:
            raise InvalidSource(f"{path} cannot be written: {error.strerror or error}") from error
        return path

    def _remove_unused(self) -> None:
        """Remove the files that were not used for long, with their versions."""
        for each in self.folder.glob("*/*"):
            if each.suffix != _VERSION and time.time() - each.stat().st_mtime > _KEPT_UNUSED_S:
                each.unlink(missing_ok=True)
                each.with_name(each.name.removesuffix(_PART) + _VERSION).unlink(missing_ok=True)
                with suppress(OSError):  # it is not empty
                    each.parent.rmdir()

    def _is_current(self, url: str, version: Path) -> bool:
        """Return whether the server does not name another version of a file than the one in the cache."""
        import requests  # noqa: PLC0415 (comes with gwosc, and is not needed by other sources)

        known = version.read_text() if version.exists() else ""
        if not known:
            return True
        condition = "If-None-Match" if known.startswith('"') else "If-Modified-Since"
        try:
            with requests.get(url, headers={condition: known}, stream=True, timeout=self.timeout) as response:
                return response.status_code != HTTPStatus.OK or _version(response.headers) in {"", known}
        except requests.RequestException:
            return True

    def _insist(self, url: str, partial: Path, version: Path) -> None:
        failures = 0
        while True:
            try:
                return self._fetch_rest(url, partial, version)
            except _TryAgain as failure:
                failures += 1
                if failures >= self.retry.tries:
                    raise SourceUnreachable(f"{failure} (after {failures} tries)") from failure
                delay = self.retry.delay(failures, failure.retry_after)
                self.say(f"{failure}; trying again in {delay:.1f} s")
                time.sleep(delay)

    def _fetch_rest(self, url: str, partial: Path, version: Path) -> None:
        import requests  # noqa: PLC0415 (comes with gwosc, and is not needed by other sources)

        headers = {"User-Agent": USER_AGENT}
        if partial.exists() and version.exists():
            there, known = partial.stat().st_size, version.read_text()
            headers |= {"Range": f"bytes={there}-", "If-Range": known} if there and known else {}
        try:
            with requests.get(url, headers=headers, stream=True, timeout=self.timeout) as response:
                status = response.status_code
                if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    partial.unlink()
                    raise _TryAgain(f"{url} is not as it was")
                if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    asked = parse_retry_after(response.headers.get("Retry-After", ""))
                    raise _TryAgain(f"{url} answered {status}", asked)
                if not response.ok:
                    raise InvalidSource(f"{url} answered {status}: {response.reason}")
                whole = status != HTTPStatus.PARTIAL_CONTENT
                with partial.open("wb" if whole else "ab") as file:
                    if whole:
                        version.write_text(_version(response.headers))
                    self._copy(response, file)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise _TryAgain(f"{url} was cut off, or does not answer: {_reason(error)}") from error
        except requests.RequestException as error:
            raise InvalidSource(f"{url} cannot be fetched: {one_line(error)}") from error

    def _copy(self, response: Any, file: IO[bytes]) -> None:
        shown = time.monotonic()
        size = file.tell() + int(response.headers.get("Content-Length", 0))
        for chunk in response.iter_content(_CHUNK):
            file.write(chunk)
            if time.monotonic() - shown > _PAUSE_S:
                shown = time.monotonic()
                self.say(f"fetching {response.url}: {file.tell() / 1e6:.0f} of {size / 1e6:.0f} MB")


class _TryAgain(Exception):
    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def _version(headers: Any) -> str:
    """Return the name of a version, which stands for its bytes; a weak ETag does not."""
    tag: str = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def _reason(error: BaseException) -> str:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return one_line(error) or type(error).__name__
