"""Perform a step on every record that waits for it.

A claim is a lease, which is renewed during the work. The datastore refuses the outcome of an attempt whose lease is
lost, so that each step is DONE once. While the gateway does not answer, requests are repeated.
"""

import asyncio
import os
import re
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

from msgspec import structs

from gwclient.connection import GatewayConnection
from gwclient.errors import GatewayError, GatewayRefused, GatewayUnavailable, LeaseLost, NotAsExpected, UnexpectedAnswer
from gwclient.records import Records
from gwclient.url_paths import url_path
from gwwire.records import Record, StepClaim, StepEnd, StepState

#: s that one request waits for a record.
_WAIT = 30.0
#: s of the first lease in `run` at most: if the answer to a claim is lost, the record is offered again after that.
_FIRST_LEASE = 30.0
#: The number of renewals of a lease within its length.
_RENEWALS = 3
#: Characters of a reason.
_LONGEST_REASON = 4096
_LOST = frozenset({404, 409})
#: Statuses of a refusal that is due to the result.
_WRONG_RESULT = frozenset({413, 422})


class JobState(StrEnum):
    """The state of a job."""

    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"
    LOST = "LOST"  # the lease ended, or the step was claimed again
    RETURNED = "RETURNED"  # given back


@dataclass(eq=False)
class Job:
    """A record that is leased to this process; set `result`, any JSON of at most 64 KB, before it ends."""

    record: Record
    attempt: int
    began: float  # by the monotonic clock, s
    lease: float  # s that it was claimed for
    deadline: float = field(init=False)  # when the lease ends unless it is renewed, by the same clock
    result: Any = None
    state: JobState = JobState.RUNNING
    error: Exception | None = None  # why it is FAILED or LOST
    seconds: float = 0.0  # how long it took

    def __post_init__(self) -> None:
        self.deadline = self.began + self.lease

    def is_leased(self) -> bool:
        """Return whether the lease lasts; any thread may call it, and should before it publishes a result."""
        return self.state is JobState.RUNNING and time.monotonic() < self.deadline


class JobFailed(Exception):
    """Ends a job FAILED; the message is the reason, and `retry` whether another attempt may succeed."""

    def __init__(self, reason: str, *, retry: bool = True) -> None:
        super().__init__(reason)
        self.retry = retry


class Listening:
    """The work of one step; use it as a context manager.

    `async for job in work` yields one record after the other. The next round ends a job DONE; an exception in the loop
    ends it FAILED, and is raised; a cancellation gives it back. If the lease is lost, the loop is cancelled, and the
    context manager raises LeaseLost. `run` performs several at a time, and goes on after failures.

    `on_change` may be set; it is called with every job when it begins and when it ends.
    """

    def __init__(self, connection: GatewayConnection, step: str, wanted: StepClaim) -> None:
        url_path(step)  # raises InvalidArgument before anything is sent
        self._step, self._lease = step, wanted.lease
        self.on_change: Callable[[Job], None] = lambda _job: None
        self._connection, self._records, self._wanted = connection, Records(connection), wanted
        self._current: AbstractAsyncContextManager[None] | None = None
        self._claiming: asyncio.Future[Sequence[Record]] | None = None
        self._stopped = False

    def stop(self) -> None:
        """Claim nothing more: `run` and the loop end when the present jobs have ended."""
        self._stopped = True
        if self._claiming:
            self._claiming.cancel()

    async def run(self, handle: Callable[[Job], Awaitable[Any]], *, concurrency: int = 1) -> None:
        """Call `handle` with each job, several at a time, until `stop` is called; what it returns is the result.

        It must not block the event loop, or leases are not renewed. An exception of it ends the job FAILED; it is
        cancelled if the lease is lost. Raises GatewayRefused if claims are refused.
        """

        async def perform(job: Job) -> None:
            try:
                async with self._attempt(job):
                    job.result = await handle(job)
            except Exception as error:
                if error is not job.error:
                    raise

        running: set[asyncio.Task[None]] = set()
        try:
            async with asyncio.TaskGroup() as tasks:
                while jobs := await self._claim(concurrency - len(running), min(self._lease, _FIRST_LEASE)):
                    running |= {tasks.create_task(perform(job)) for job in jobs}
                    if len(running) == concurrency:
                        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    running = {task for task in running if not task.done()}
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        await self._leave_current(kind, error, traceback)

    async def __aiter__(self) -> AsyncGenerator[Job, None]:
        while True:
            await self._leave_current(None, None, None)
            jobs = await self._claim(1, self._lease)  # its body may block the renewal
            if not jobs:
                return
            self._current = self._attempt(jobs[0])
            await self._current.__aenter__()
            yield jobs[0]

    async def _leave_current(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        current, self._current = self._current, None
        if current is not None:
            await current.__aexit__(kind, error, traceback)

    async def _claim(self, limit: int, lease: float) -> Sequence[Job]:
        """Return up to `limit` jobs as soon as there are some, or none after a stop."""
        wanted = structs.replace(self._wanted, limit=min(limit, 100), wait=_WAIT, lease=lease)
        while not self._stopped:
            claim = self._connection.until_answered(lambda: self._records.claim(self._step, wanted))
            self._claiming = asyncio.ensure_future(claim)
            try:
                records = await self._claiming
            except asyncio.CancelledError:
                if self._stopped and self._claiming.cancelled() and not _is_cancelled():
                    break
                raise
            now = time.monotonic()
            jobs = [Job(record, self._attempt_of(record), now, lease) for record in records]
            if self._stopped:
                await asyncio.gather(*map(self._give_back, jobs))
            elif jobs:
                return jobs
        return []

    def _attempt_of(self, record: Record) -> int:
        return next(step.attempt for step in record.steps if step.name == self._step)

    @asynccontextmanager
    async def _attempt(self, job: Job) -> AsyncIterator[None]:
        """End the job as the block ends; raise LeaseLost if the lease is lost, and what the block raises."""
        try:
            self.on_change(job)
        except Exception:  # as where the output is full: nothing was done yet
            with suppress(Exception):  # it is called once more
                await self._give_back(job)
            raise
        try:
            async with asyncio.timeout_at(job.deadline) as lease:
                renewing = asyncio.create_task(self._renew(job, lease))
                try:
                    yield
                finally:
                    renewing.cancel()
        except asyncio.CancelledError:
            await self._give_back(job)
            raise
        except Exception as error:
            if lease.expired() or not job.is_leased():
                raise self._lose(job) from error
            await self._fail(job, error)
            raise
        try:
            await self._end(job, StepEnd(job.attempt, StepState.DONE, result=job.result))
        except (GatewayRefused, TypeError, ValueError, RecursionError) as error:
            if isinstance(error, GatewayRefused) and error.status not in _WRONG_RESULT:
                raise
            problem = NotAsExpected(f"the result cannot be stored: {error}")
            await self._fail(job, problem)
            raise problem from error
        self._close(job, JobState.DONE)

    async def _renew(self, job: Job, lease: asyncio.Timeout) -> None:
        loop = asyncio.get_running_loop()
        asked, lasts = job.began, job.lease
        order = StepEnd(job.attempt, StepState.RUNNING, lease=self._lease)
        while True:
            await asyncio.sleep(asked + lasts / _RENEWALS - loop.time())
            asked = loop.time()
            try:
                await self._records.end(job.record.id, self._step, order)
            except (GatewayUnavailable, UnexpectedAnswer):  # the lease lasts until its deadline
                continue
            except GatewayRefused:
                job.deadline = asked
                lease.reschedule(asked)
                return
            lasts = self._lease
            job.deadline = asked + lasts
            lease.reschedule(job.deadline)

    async def _end(self, job: Job, order: StepEnd) -> None:
        try:
            await self._connection.until_answered(lambda: self._records.end(job.record.id, self._step, order))
        except GatewayRefused as refusal:
            if refusal.status in _LOST:
                raise self._lose(job) from refusal
            raise

    async def _fail(self, job: Job, error: Exception) -> None:
        retry = not isinstance(error, JobFailed) or error.retry
        await self._end(job, StepEnd(job.attempt, StepState.FAILED, reason=reason_of(error), retry=retry))
        self._close(job, JobState.FAILED, error)

    async def _give_back(self, job: Job) -> None:
        with suppress(GatewayError):  # then the lease ends by itself
            await self._records.end(job.record.id, self._step, StepEnd(job.attempt, StepState.WAITING))
        self._close(job, JobState.RETURNED)

    def _lose(self, job: Job) -> LeaseLost:
        error = LeaseLost(f"attempt {job.attempt} of {self._step} on {job.record.id} was replaced, or its lease ended")
        self._close(job, JobState.LOST, error)
        return error

    def _close(self, job: Job, state: JobState, error: Exception | None = None) -> None:
        job.seconds = time.monotonic() - job.began
        job.state, job.error = state, error
        self.on_change(job)


def own_name() -> str:
    """Return a name for this process as a worker."""
    return f"{socket.gethostname()}-{os.getpid()}"[-200:]


def reason_of(error: Exception) -> str:
    """Return the end of an exception's text as the reason of a failure."""
    text = f"{error}" if isinstance(error, JobFailed | NotAsExpected) else f"{type(error).__name__}: {error}"
    text = re.sub(r"[^\t\n\x20-\x7e\x80-\ud7ff\ue000-\U0010ffff]", "", text)
    return text.strip()[-_LONGEST_REASON:]


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
