"""Interrupts of a program that still imports its modules. Imports nothing that takes long."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_INTERRUPTED = 130


@contextmanager
def interruptible(program: str) -> Iterator[None]:
    """End the process with one line at SIGINT in the block; KeyboardInterrupt would become any error of an import."""

    def end(_: int, __: FrameType | None) -> NoReturn:
        os.write(2, f"{program}: interrupted\n".encode())
        os._exit(_INTERRUPTED)

    usual = signal.getsignal(signal.SIGINT)
    if usual is signal.default_int_handler:  # it is ignored in the background of a script
        signal.signal(signal.SIGINT, end)
    yield
    signal.signal(signal.SIGINT, usual)
