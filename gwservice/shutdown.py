"""A callback when a service stops, for answers that would otherwise never end."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def calling_when_stopped(end: Callable[[], object]) -> Iterator[None]:
    """Call `end` in the running loop as soon as the process receives SIGTERM or SIGINT, and then the previous handler.

    An ASGI server notifies the application only after the last answer, which is too late for an endless one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def stop(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(end)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    # A signal without a handler keeps its default action.
    handled = [number for number in _SIGNALS if callable(before[number])]
    for number in handled:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])
