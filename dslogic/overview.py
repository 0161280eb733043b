"""The overview, kept for a moment: however many pages ask, the buffer is asked about once."""

import asyncio
import time

import msgspec

from dslogic.buffer_client import BufferClient
from gwwire.problems import ProblemError
from gwwire.public import Overview

#: With the second that the gateway takes between two looks, a page shows a change within two.
_FRESH_SECONDS = 0.5


class OverviewCache:
    """Asks the buffer, and answers the same for a moment; an error is kept as long.

    Args:
        buffer: the buffer.
        max_size: bytes from which on a batch may be frozen: dslogic's part of the answer.

    """

    def __init__(self, buffer: BufferClient, max_size: int) -> None:
        self._buffer = buffer
        self._max_size = max_size
        self._lock = asyncio.Lock()
        self._answer: Overview | ProblemError | None = None
        self._until = 0.0

    async def overview(self) -> Overview:
        """Return the overview, at most a moment old.

        Raises:
            ProblemError: the buffer gave no proper answer.

        """
        async with self._lock:
            if self._answer is None or time.monotonic() >= self._until:
                self._answer = await self._ask()
                self._until = time.monotonic() + _FRESH_SECONDS
            answer = self._answer
        if isinstance(answer, ProblemError):
            raise answer.with_traceback(None)
        return answer

    async def _ask(self) -> Overview | ProblemError:
        try:
            return msgspec.structs.replace(await self._buffer.overview(), max_size=self._max_size)
        except ProblemError as error:
            return error
