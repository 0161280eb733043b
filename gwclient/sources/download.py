"""Fetches files into a cache: whole or not there, tried again where that may help, going on where it was cut off.

What came of a file lies in `FILE.part`, and in `FILE.version` what its server called that version of it: the rest is
asked for on the condition that it still is that one. What nobody used for 30 days is taken out of the cache.
"""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from gwclient.answers import parse_retry_after
from gwclient.client import Retry
from gwclient.errors import InvalidSource, SourceError, SourceUnreachable
from gwclient.sources.recording import one_line

_CHUNK = 2**16
_PARTIAL, _RANGE_WRONG, _TOO_MANY, _SERVER = 206, 416, 429, 500
_KEPT_UNUSED_S = 30 * 86400.0
#: s between two lines about a file that takes its time.
_PAUSE_S = 5.0


@dataclass(frozen=True)
class Downloads:
    """Fetches files by HTTP.

    Attributes:
        folder: where the files are kept; made where it is missing.
        retry: how long to insist.
        timeout: s without a byte after which a try has failed.
        tell: hears what happens, a line each.

    """

    folder: Path
    retry: Retry = field(default_factory=Retry)
    timeout: float = 30.0
    tell: Callable[[str], None] = lambda _: None

    def fetch(self, url: str) -> Path:
        """Give the file, fetching it where it is not in the cache.

        Raises:
            InvalidSource: the server says that there is no such file, or the cache cannot be written.
            SourceUnreachable: every try failed; what came is kept, and the next time goes on from there.

        """
        parts = urlsplit(url)
        path = self.folder / parts.netloc.replace(":", "_") / parts.path.rpartition("/")[2]
        unfinished = _Unfinished(path.with_name(path.name + ".part"), path.with_name(path.name + ".version"))
        try:
            if path.exists():
                os.utime(path)
                return path
            path.parent.mkdir(parents=True, exist_ok=True)
            self._remove_unused()
            self._insist(url, unfinished)
            unfinished.become(path)
        except OSError as error:
            raise InvalidSource(f"{path} cannot be written: {error.strerror or error}") from error
        return path

    def forget(self, paths: Iterable[Path]) -> None:
        """Take files out of the cache."""
        for path in paths:
            path.unlink(missing_ok=True)

    def _remove_unused(self) -> None:
        """Take out what nobody used for long; what is in use was touched when it was."""
        for path in self.folder.glob("*/*"):
            if time.time() - path.stat().st_mtime > _KEPT_UNUSED_S:
                path.unlink(missing_ok=True)

    def _insist(self, url: str, unfinished: "_Unfinished") -> None:
        failures = 0
        while True:
            try:
                self._fetch_rest(url, unfinished)
            except _TryAgain as failure:
                failures += 1
                if failures >= self.retry.tries:
                    raise SourceUnreachable(f"{failure} (after {failures} tries)") from failure
                delay = self.retry.delay(failures, failure.retry_after)
                self.tell(f"{failure}; trying again in {delay:.1f} s")
                time.sleep(delay)
            else:
                return

    def _fetch_rest(self, url: str, unfinished: "_Unfinished") -> None:
        """Fetch what is missing of a file."""
        import requests  # noqa: PLC0415 (comes with gwosc, and is not needed by other sources)

        try:
            with requests.get(url, headers=unfinished.condition(), stream=True, timeout=self.timeout) as response:
                if response.status_code == _RANGE_WRONG:
                    unfinished.part.unlink()
                    raise _TryAgain(f"{url} is not as it was")
                _check(url, response)
                with unfinished.open(response) as file:
                    self._copy(response, file)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            raise _TryAgain(f"{url} was cut off, or does not answer: {_reason(error)}") from error
        except requests.RequestException as error:
            raise InvalidSource(f"{url} cannot be fetched: {one_line(error)}") from error

    def _copy(self, response: Any, file: IO[bytes]) -> None:
        told = time.monotonic()
        missing = int(response.headers.get("Content-Length", 0))
        size = file.tell() + missing
        for chunk in response.iter_content(_CHUNK):
            file.write(chunk)
            if time.monotonic() - told > _PAUSE_S:
                told = time.monotonic()
                self.tell(f"fetching {response.url}: {file.tell() / 1e6:.0f} of {size / 1e6:.0f} MB")


@dataclass(frozen=True)
class _Unfinished:
    """What came of a file, and which version of it that is."""

    part: Path
    version: Path

    def condition(self) -> dict[str, str]:
        """Give the headers that ask for the rest of this version, or for all of another; none where all is missing."""
        try:
            there, version = self.part.stat().st_size, self.version.read_text()
        except FileNotFoundError:
            return {}
        return {"Range": f"bytes={there}-", "If-Range": version} if there and version else {}

    def open(self, response: Any) -> IO[bytes]:
        """Open the part for what is coming: to go on, or to begin anew."""
        if response.status_code == _PARTIAL:
            return self.part.open("ab")
        file = self.part.open("wb")
        self.version.write_text(_version(response.headers))
        return file

    def become(self, path: Path) -> None:
        """Be the whole file."""
        self.part.replace(path)
        self.version.unlink(missing_ok=True)


def _version(headers: Any) -> str:
    """Give what names a version byte for byte; a weak ETag does not."""
    tag: str = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


class _TryAgain(SourceError):
    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


def _check(url: str, response: Any) -> None:
    status = response.status_code
    if status == _TOO_MANY or status >= _SERVER:
        asked = parse_retry_after(response.headers.get("Retry-After", ""))
        raise _TryAgain(f"{url} answered {status}", asked)
    if not response.ok:
        raise InvalidSource(f"{url} answered {status}: {response.reason}")


def _reason(error: BaseException) -> str:
    """Name the innermost cause: requests wraps urllib3's words, which wrap the system's."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return one_line(error) or type(error).__name__
