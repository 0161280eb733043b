"""A file that may change while the service runs, such as a mounted Secret."""

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
    """The file cannot be read or has invalid content; the message is one line and names it."""


class WatchedFile(Generic[T]):
    """The parsed content of a file, at most a second old.

    An invalid change is logged, and the previous content stays in force: a mistake while editing must not stop the
    service. A mounted Secret is a link that is replaced, so the file behind it is compared.

    Args:
        path: the file.
        parse: parses its bytes; raises ValueError if they are invalid.
        look_seconds: between two checks of the file.

    Raises:
        FileBroken: it cannot be read at the start.

    """

    def __init__(self, path: Path, parse: Callable[[bytes], T], *, look_seconds: float = _LOOK_SECONDS) -> None:
        self._path = path
        self._parse = parse
        self._look_seconds = look_seconds
        self._stamp = self._look()
        self._value = self._read()
        self._looked = time.monotonic()

    def current(self) -> T:
        """Return the content; it is the same object until the file changes."""
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
