"""New HDF5 files, also on a full disk, where h5py alone crashes when it closes one."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py


class _Target(io.FileIO):
    """A file that keeps the first error of a write, and ignores later writes.

    HDF5 never sees the error: it would write again when it frees an object, and then end the process.
    """

    error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of the data, unless a write failed before."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest and self.error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return size

    def check(self) -> None:
        """Raise the error of the write that failed, if one did."""
        if self.error is not None:
            raise self.error


@contextmanager
def created(path: Path) -> Iterator[tuple[Any, Callable[[], None]]]:
    """Yield a new HDF5 file, and a function that raises OSError if a write failed; it is called at the end, too."""
    with _Target(path, "w+") as target:
        try:
            with h5py.File(target, "w") as file:
                yield file, target.check
        except Exception:
            target.check()  # it is the cause of what HDF5 then cannot read
            raise
        target.check()
