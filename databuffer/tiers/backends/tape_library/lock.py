"""The lock of a tape that is a folder: each of two buffers would evict what the other one has staged."""

import weakref
from contextlib import ExitStack
from pathlib import Path
from threading import Lock

from gwservice.atomic import owned


class TapeLock:
    """Held until no tier of this process has it, or the process ends."""

    def __init__(self, folder: Path) -> None:
        stack = ExitStack()
        try:
            stack.enter_context(owned(folder / ".lock"))
        except BlockingIOError as held:
            raise BlockingIOError(held.errno, f"another buffer ({held.strerror}) uses the folder") from None
        weakref.finalize(self, stack.close)


_LOCKS: weakref.WeakValueDictionary[Path, TapeLock] = weakref.WeakValueDictionary()
_LOCKING = Lock()


def tape_lock(folder: Path) -> TapeLock:
    """Return the lock of a folder; raise OSError if another process has it, or the folder cannot be locked."""
    with _LOCKING:
        lock = _LOCKS.get(folder) or TapeLock(folder)
        _LOCKS[folder] = lock
        return lock
