"""Partial files of downloads, which the next call continues: no two processes may append to the same one."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from gwservice.atomic import locked


class PartialFileBusy(Exception):
    """Another download appends to the same file."""


@contextmanager
def alone(partial: Path) -> Iterator[None]:
    """Raise PartialFileBusy if another download has the file; on a file system without locks it is unknown."""
    with ExitStack() as stack:
        try:
            descriptor = stack.enter_context(locked(partial))
        except BlockingIOError:
            raise PartialFileBusy from None
        except OSError:
            yield
            return
        if not (partial.exists() and os.path.samestat(os.fstat(descriptor), partial.stat())):
            raise PartialFileBusy  # it has ended right now
        yield
