"""The folders of the batches that are not archived, recognised as those that segments were written to."""

import errno
import os
from pathlib import Path


class OpenFolders:
    """Folders that are known by device and inode, so that another one in the place of one is noticed.

    Each is kept open: the file system cannot give its inode to another folder meanwhile, and those without lasting
    inode numbers do not change it.
    """

    def __init__(self) -> None:
        self._known: dict[Path, tuple[int, os.stat_result]] = {}

    def recognise(self, folder: Path) -> None:
        """From now on, expect the folder that is there."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.forget(folder)
        self._known[folder] = descriptor, os.fstat(descriptor)

    def forget(self, folder: Path) -> None:
        """Expect no folder any more; call it before the buffer itself moves or removes the folder."""
        if known := self._known.pop(folder, None):
            os.close(known[0])

    def close(self) -> None:
        """Forget all folders."""
        for folder in list(self._known):
            self.forget(folder)

    def is_deleted(self, folder: Path) -> bool:
        """Return whether the folder was deleted and another one is in its place: recovery takes care of what is there.

        Raise FileNotFoundError if the folder still exists elsewhere, or may. One that is only missing is no concern of
        this check either: recovery looks for it.
        """
        if folder not in self._known:
            return False
        descriptor, known = self._known[folder]
        try:
            found = os.stat(folder)  # noqa: PTH116 (asked with each group)
        except FileNotFoundError:
            return False
        if os.path.samestat(known, found):
            return False
        if os.fstat(descriptor).st_nlink:
            raise FileNotFoundError(errno.ENOENT, "the folder of the batch was replaced", str(folder))
        return True
