"""Files that may change while the service runs, such as a mounted Secret."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from gwservice.regular_file import read_regular

T = TypeVar("T")

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0
#: The file is parsed between requests; keys of 50,000 users have 15 MB.
MOST_BYTES = 32_000_000


class FileBroken(Exception):
    """The file cannot be read or has invalid content; the message is one line and names it."""


@contextmanager
def exiting_if_broken(settings: str) -> Iterator[None]:
    """Exit with status 2, and one line that names the settings, if a file in the block is unusable."""
    try:
        yield
    except FileBroken as error:
        sys.stderr.write(f"{settings}: {error}\n")
        sys.exit(2)


class Watched(Generic[T]):
    """The value loaded from files, at most a second old.

    An invalid change is logged, and the previous value stays in force: a mistake while editing must not stop the
    service. A mounted Secret is a link that is replaced, so the file behind it is compared. `load` raises FileBroken if
    the files are unusable, which the constructor passes on.
    """

    def __init__(self, paths: tuple[Path, ...], load: Callable[[], T], look_seconds: float = _LOOK_SECONDS) -> None:
        self._paths = paths
        self._load = load
        self._look_seconds = look_seconds
        self._stamps = self._look()
        self._value = load()
        self._looked = time.monotonic()

    def current(self) -> T:
        """Return the value; it is the same object until a file changes."""
        now = time.monotonic()
        if now - self._looked >= self._look_seconds:
            self._looked = now
            stamps = self._look()
            if stamps != self._stamps:
                self._stamps = stamps
                self._load_again()
        return self._value

    def _load_again(self) -> None:
        try:
            self._value = self._load()
        except FileBroken as error:
            log.error("%s; the previous content is still used", error)  # noqa: TRY400 (the message says it all)
        else:
            log.warning("%s changed and was read again", self._paths[0])

    def _look(self) -> list[tuple[int, ...] | None]:
        return [_stamp(path) for path in self._paths]


def read_watched(path: Path) -> bytes:
    """Return the content of a file, which may be a link as in a mounted Secret; raise FileBroken if it is unusable."""
    try:
        return read_regular(path, MOST_BYTES, follow=True)
    except OSError as error:
        raise FileBroken(f"{path} cannot be read: {error.strerror}") from error


class WatchedFile(Watched[T]):
    """The parsed content of one file; `parse` raises ValueError if the content is invalid."""

    def __init__(self, path: Path, parse: Callable[[bytes], T], *, look_seconds: float = _LOOK_SECONDS) -> None:
        def load() -> T:
            try:
                return parse(read_watched(path))
            except ValueError as error:
                raise FileBroken(f"{path} is broken: {error}") from error

        super().__init__((path,), load, look_seconds)


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        seen = path.stat()
    except OSError:
        return None
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns
