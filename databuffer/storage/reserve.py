"""Space on the volume that is reserved for orders about batches, so that a full volume can be frozen and archived."""

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from databuffer.errors import VolumeError
from databuffer.storage.files import FILE_MODE, Space

log = logging.getLogger(__name__)

#: Freezing and archiving create a few files at the same time, and each needs an inode.
_FILES = 8
#: Bytes for the state files, and for catalog and log if they are on the volume too.
_OTHER_FILES = 256 * 1024
#: A segment's share of a manifest and of the copied log, at most.
_PER_SEGMENT = 1024
_FEWEST_SEGMENTS = 256
#: As for the files of the counts.
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Reserve:
    """Files in a folder that occupy space and inodes until an order needs them.

    A file system that cannot allocate space in advance has no reserve; a failure is logged, and nothing else.
    """

    def __init__(self, folder: Path) -> None:
        self._files = [folder / str(number) for number in range(_FILES)]
        self.folder = folder
        self._size = 0
        self._lacks_space = False

    def cover(self, segments: int) -> None:
        """Grow the reserve to what batches of so many segments need; a quarter in advance, so that it rarely grows.

        Space that was used, or did not fit, is reserved again when there is some.
        """
        if _OTHER_FILES + segments * _PER_SEGMENT > self._size:
            self._size = _OTHER_FILES + max(_FEWEST_SEGMENTS, segments * 5 // 4) * _PER_SEGMENT
            self._allocate()
        elif self._lacks_space:
            with suppress(VolumeError):
                if not self._is_needed():
                    self._allocate()

    @contextmanager
    def released(self) -> Iterator[None]:
        """Free the reserve for the steps in the block if they may need it; reserve what is left afterwards."""
        if not self._is_needed():
            yield
            return
        log.warning("the volume is nearly full; its reserve is used", extra={"event": "reserve-used"})
        self._remove()
        try:
            yield
        finally:
            self._allocate()

    def release(self) -> None:
        """Free the reserve until `cover` is called."""
        if any(map(os.path.exists, self._files)):  # none in a folder that cannot be read
            log.warning("the volume is full; its reserve is used", extra={"event": "reserve-used"})
        self._remove()
        self._lacks_space = True

    def _is_needed(self) -> bool:
        space = Space.of(self.folder.parent)
        return space.scarce or space.free < self._size

    def _allocate(self) -> None:
        self._lacks_space = False
        try:
            self.folder.mkdir(exist_ok=True)
            for path in self._files:
                descriptor = os.open(path, _WRITE, FILE_MODE)
                try:
                    os.posix_fallocate(descriptor, 0, self._size // _FILES)
                finally:
                    os.close(descriptor)
        except OSError as error:
            self._lacks_space = error.errno == errno.ENOSPC
            log.warning("%s cannot be filled to %d bytes: %s", self.folder, self._size, error.strerror)

    def _remove(self) -> None:
        try:
            for path in self._files:
                path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("%s cannot be removed: %s", self.folder, error.strerror)
