"""The standard streams of a process, which a supervisor may have closed."""

import os
import sys
from contextlib import suppress


def open_closed_streams() -> None:
    """Open `/dev/null` in place of each closed standard stream: a file of data could get its descriptor.

    Call it before the process opens files; what is written to such a stream is lost.
    """
    for descriptor, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        with suppress(OSError):
            os.fstat(descriptor)
            continue
        os.open(os.devnull, os.O_RDWR)  # takes the lowest descriptor that is free, which is this one
        os.set_inheritable(descriptor, True)  # noqa: FBT003 (as the other streams are)
        setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115 (until the process ends)
