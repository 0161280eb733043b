"""How long a sender is waited for.

A timer for each wait would cost more than all else that is done for a request on the event loop; what is waited for is
looked through now and then instead.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from types import TracebackType
from typing import Self

from gwwire.problems import ProblemCode, ProblemError

_LOOKS = 4
_LONGEST_LOOK = 1.0


class BodyLate(ProblemError):
    """The body did not come in time."""

    code = ProblemCode.TIMEOUT


class Patience:
    """Ends waits that take longer than `seconds`, within a quarter of that or a second.

    Use it as `with patience.wait(): ...` around what awaits the sender.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._waits: set[_Wait] = set()
        self._look: asyncio.TimerHandle | None = None

    def wait(self) -> "_Wait":
        """Begin to wait; raises BodyLate from the `with` where it takes too long."""
        return _Wait(self)

    async def each(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """Give what comes, as long as none of it takes too long.

        Raises:
            BodyLate: the next piece does.

        """
        coming = aiter(chunks)
        while True:
            with self.wait():
                try:
                    chunk = await anext(coming)
                except StopAsyncIteration:
                    return
            yield chunk

    def begin(self, wait: "_Wait", loop: asyncio.AbstractEventLoop) -> None:
        """Watch a wait."""
        self._waits.add(wait)
        if self._look is None:
            self._look = loop.call_later(min(_LONGEST_LOOK, self.seconds / _LOOKS), self._look_through, loop)

    def end(self, wait: "_Wait") -> None:
        """Watch it no longer."""
        self._waits.discard(wait)

    def _look_through(self, loop: asyncio.AbstractEventLoop) -> None:
        self._look = None
        now = loop.time()
        for wait in [wait for wait in self._waits if wait.due <= now]:
            self._waits.discard(wait)
            wait.expire()
        if self._waits:
            self.begin(next(iter(self._waits)), loop)


class _Wait:
    __slots__ = ("_cancelling", "_expired", "_patience", "_task", "due")

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._expired = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (only a task awaits)
        loop = task.get_loop()
        self._task, self._cancelling = task, task.cancelling()
        self.due = loop.time() + self._patience.seconds
        self._patience.begin(self, loop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._patience.end(self)
        # As asyncio.timeout does it: who cancels the task for another reason is not kept from it.
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            message = f"the body did not come within {self._patience.seconds:g} s (BODY_TIMEOUT)"
            raise BodyLate(message) from error

    def expire(self) -> None:
        """Wake the task that waits."""
        self._expired = True
        self._task.cancel()
