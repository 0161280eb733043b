"""The moment a service is told to stop, for answers that would otherwise never end."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def calling_when_stopped(end: Callable[[], object]) -> Iterator[None]:
    """Have `end` called in the running loop as soon as the process is told to stop.

    A server of ASGI tells an application that it stops when the last answer has ended, which is too late for one that
    goes on for ever. Its own handlers of signals do their work all the same.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals come to the main thread, and so they do to whoever serves there
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def stop(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(end)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    # A signal that nobody handles has to go on doing what it does.
    handled = [number for number in _SIGNALS if callable(before[number])]
    for number in handled:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])
