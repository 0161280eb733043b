"""A cache of the overview: one request to the buffer serves any number of pages."""

import asyncio
import time

import msgspec

from dslogic.buffer_client import BufferClient
from gwwire.overview import Overview
from gwwire.problems import ProblemError

#: The gateway asks once a second, so that a page shows a change within two.
_FRESH_SECONDS = 0.5
#: Less than the timeout of a readiness probe.
_READY_SECONDS = 2.0


class OverviewCache:
    """Caches the buffer's overview, or error, and adds the minimum size of a batch that may be frozen."""

    def __init__(self, buffer: BufferClient, max_size: int) -> None:
        self._buffer = buffer
        self._max_size = max_size
        self._lock = asyncio.Lock()
        self._answer: Overview | ProblemError | None = None
        self._until = 0.0

    async def overview(self) -> Overview:
        """Return the overview, at most half a second old; raise the ProblemError of a failed request."""
        async with self._lock:
            if self._answer is None or time.monotonic() >= self._until:
                self._answer = await self._ask()
                self._until = time.monotonic() + _FRESH_SECONDS
            answer = self._answer
        if isinstance(answer, ProblemError):
            raise answer.with_traceback(None)
        return answer

    async def cannot_store(self) -> str | None:
        """Return why the buffer cannot store segments now, or None if it can."""
        try:
            async with asyncio.timeout(_READY_SECONDS):
                return (await self.overview()).cannot_store
        except TimeoutError:
            return f"the buffer did not answer GET /overview within {_READY_SECONDS:g} s"

    async def _ask(self) -> Overview | ProblemError:
        try:
            return msgspec.structs.replace(await self._buffer.overview(), max_size=self._max_size)
        except ProblemError as error:
            return error
