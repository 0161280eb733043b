"""Threads that stage segments while those before them are stored."""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from databuffer.staging import Outcome, stage
from gwwire.segment import SegmentLimits

#: Many durable writes in flight cost little more than one, because file systems batch their journal.
_WRITERS = 8
#: Segments that one thread writes and then syncs, where so many wait.
_SHARE = 8


@dataclass(frozen=True)
class _Job:
    body: bytes
    path: Path | None
    outcome: asyncio.Future[Outcome]


class Writers:
    """Stages segments, several at a time; what waits while all threads are busy is shared out among them.

    Args:
        limits: what a segment may be at most.

    """

    def __init__(self, limits: SegmentLimits | None = None) -> None:
        self._limits = limits
        self._threads = ThreadPoolExecutor(_WRITERS, thread_name_prefix="writer")
        self._idle = _WRITERS
        self._waiting: deque[_Job] = deque()

    def stage(self, body: bytes, path: Path | None) -> asyncio.Future[Outcome]:
        """Begin to stage a segment in `path`; None: it is looked at, but written nowhere."""
        loop = asyncio.get_running_loop()
        job = _Job(body, path, loop.create_future())
        self._waiting.append(job)
        self._share_out(loop)
        return job.outcome

    def close(self) -> None:
        """Finish what was begun, and stop."""
        self._threads.shutdown()

    def _share_out(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._idle and self._waiting:
            self._idle -= 1
            share = [self._waiting.popleft() for _ in range(min(_SHARE, len(self._waiting)))]
            self._threads.submit(self._stage, share, loop)

    def _stage(self, share: Sequence[_Job], loop: asyncio.AbstractEventLoop) -> None:
        outcomes: Sequence[Outcome] | BaseException
        try:
            outcomes = stage([(job.body, job.path) for job in share], self._limits)
        except BaseException as error:  # noqa: BLE001 (whatever it is, those who wait must hear of it)
            outcomes = error
        with suppress(RuntimeError):  # nobody waits any more: the loop is closed
            loop.call_soon_threadsafe(self._take_back, share, outcomes, loop)

    def _take_back(
        self, share: Sequence[_Job], outcomes: Sequence[Outcome] | BaseException, loop: asyncio.AbstractEventLoop
    ) -> None:
        self._idle += 1
        self._share_out(loop)
        if isinstance(outcomes, BaseException):
            for job in share:
                job.outcome.set_exception(outcomes)
        else:
            for job, outcome in zip(share, outcomes, strict=True):
                job.outcome.set_result(outcome)
