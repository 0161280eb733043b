"""Downloads into a cache: files are complete or missing, with retries that continue a partial download.

`FILE.part` is the partial file, and `FILE.version` the server's name of that version (ETag or date): the rest is
requested only if the version is still the same. Files not used for 30 days are removed.
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
#: s between two lines about a slow download.
_PAUSE_S = 5.0


@dataclass(frozen=True)
class Downloads:
    """Fetches files by HTTP.

    Attributes:
        folder: the cache, created if missing.
        retry: how often to retry.
        timeout: s without a byte after which an attempt fails.
        tell: is called with each line for people.

    """

    folder: Path
    retry: Retry = field(default_factory=Retry)
    timeout: float = 30.0
    tell: Callable[[str], None] = lambda _: None

    def fetch(self, url: str) -> Path:
        """Return the file; fetch it if it is not in the cache.

        Raises:
            InvalidSource: the server says that there is no such file, or the cache cannot be written.
            SourceUnreachable: every attempt failed; the next call continues the partial file.

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
        """Remove files from the cache."""
        for path in paths:
            path.unlink(missing_ok=True)

    def _remove_unused(self) -> None:
        """Remove files that were not used for long; using a file updates its time."""
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
        """Fetch the missing part of a file."""
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
    """A partial file, and the version it belongs to."""

    part: Path
    version: Path

    def condition(self) -> dict[str, str]:
        """Return the headers that request the rest of this version or all of another; none without a partial file."""
        try:
            there, version = self.part.stat().st_size, self.version.read_text()
        except FileNotFoundError:
            return {}
        return {"Range": f"bytes={there}-", "If-Range": version} if there and version else {}

    def open(self, response: Any) -> IO[bytes]:
        """Open the partial file to append to it, or to begin again."""
        if response.status_code == _PARTIAL:
            return self.part.open("ab")
        file = self.part.open("wb")
        self.version.write_text(_version(response.headers))
        return file

    def become(self, path: Path) -> None:
        """Rename the partial file to the complete one."""
        self.part.replace(path)
        self.version.unlink(missing_ok=True)


def _version(headers: Any) -> str:
    """Return the name of a version, which stands for its bytes; a weak ETag does not."""
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
    """Return the innermost cause: requests wraps urllib3's errors, which wrap the system's."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return one_line(error) or type(error).__name__
