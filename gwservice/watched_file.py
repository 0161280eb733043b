"""A file that is replaced while the service runs, such as a mounted Secret: read again when it changed."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
Stamp = tuple[int, ...] | None

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0


class FileBroken(Exception):
    """The file cannot be read, or does not hold what it should; the message is one line and names it."""


class WatchedFile(Generic[T]):
    """What a file holds, as of a second ago at most.

    A change that cannot be read is told in the log, and what was read before stays: a slip while it is edited must not
    close the door. A mounted Secret is a link that is pointed elsewhere, so it is the file behind it that is compared.

    Args:
        path: the file.
        parse: reads its bytes; raises ValueError where they are not what they should be.
        look_seconds: how long a look at the file is believed.

    Raises:
        FileBroken: it cannot be read now, at the start.

    """

    def __init__(self, path: Path, parse: Callable[[bytes], T], *, look_seconds: float = _LOOK_SECONDS) -> None:
        self._path = path
        self._parse = parse
        self._look_seconds = look_seconds
        self._stamp = self._look()
        self._value = self._read()
        self._looked = time.monotonic()

    def current(self) -> T:
        """Give what the file holds; what was read is the same object until the file changes."""
        now = time.monotonic()
        if now - self._looked >= self._look_seconds:
            self._looked = now
            stamp = self._look()
            if stamp != self._stamp:
                self._stamp = stamp
                self._read_again()
        return self._value

    def _read_again(self) -> None:
        try:
            self._value = self._read()
        except FileBroken as error:
            log.error("%s; what was read before stays in force", error)  # noqa: TRY400 (the message says it all)
        else:
            log.warning("%s changed and was read again", self._path)

    def _look(self) -> Stamp:
        try:
            seen = self._path.stat()
        except OSError:
            return None
        return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns

    def _read(self) -> T:
        try:
            return self._parse(self._path.read_bytes())
        except OSError as error:
            raise FileBroken(f"{self._path} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise FileBroken(f"{self._path} is broken: {error}") from error
