"""The datastore's own steps, performed in threads of the buffer.

They have the claims, leases, retries and redo of every step, so that they are visible, and outlive the process. Other
workers cannot claim them.
"""

import asyncio
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec

from databuffer.errors import NotFound, StepSuperseded, VolumeError
from databuffer.records.declaration import Declaration
from databuffer.records.records import Records
from gwwire.decoding import InvalidRequest
from gwwire.problems import ProblemError
from gwwire.query import Query
from gwwire.records import LONGEST_REASON, LONGEST_WAIT, Record, StepEnd, StepState

log = logging.getLogger(__name__)

_LEASE = 30.0
_RENEWAL_SECONDS = _LEASE / 3
#: Between two log lines about failed attempts at the same step.
_QUIET_SECONDS = 60.0
#: After an error of the volume.
_PAUSE_SECONDS = 5.0
_EVERYTHING = Query()


class Stopped(Exception):
    """The attempt must end: the service stops, or the step was redone or dropped."""


class Attempt:
    """A running attempt at a step, with its progress; it can be stopped."""

    def __init__(self) -> None:
        self.began = time.time()
        #: Whatever the step reported last, or None.
        self.progress: Any = None
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Make the next `check` or `report` raise Stopped."""
        self._stopping.set()

    def check(self) -> None:
        """Raise Stopped if the attempt must end."""
        if self._stopping.is_set():
            raise Stopped

    def wait(self, seconds: float) -> None:
        """Wait; raise Stopped as soon as the attempt must end."""
        if self._stopping.wait(seconds):
            raise Stopped

    def report(self, progress: Any) -> None:
        """Set the progress; raise Stopped if the attempt must end."""
        self.progress = progress
        self.check()


@dataclass(frozen=True)
class OwnStep:
    """A step that the datastore performs.

    `perform` runs in a thread and often calls the attempt's `check` or `report`. What it returns is the result of the
    step; what it raises is the reason of a failure, except Stopped, and after NotFound there is no other attempt.
    `ended` is called in the event loop when the end of an attempt is stored. With `on_request`, a record waits only
    after `Records.request`.
    """

    name: str
    perform: Callable[[Record, Attempt], Any]
    after: tuple[str, ...] = ()
    kind: str | None = None
    query: Query = _EVERYTHING
    on_request: bool = False
    attempts: int = 5
    at_once: int = 1
    ended: Callable[[Record], object] = lambda _: None

    def declaration(self, worker: str) -> Declaration:
        """Return the claim of a worker."""
        return Declaration(
            worker,
            after=list(self.after),
            kind=self.kind,
            query=self.query,
            attempts=self.attempts,
            lease=_LEASE,
            wait=LONGEST_WAIT,
            on_request=self.on_request,
        )


class Performer:
    """Performs the steps that were added, each on `at_once` records at a time."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._steps: list[OwnStep] = []
        self._worker = f"databuffer@{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
        #: A thread for each attempt at the same time, so that long attempts do not keep short ones waiting.
        self._threads: ThreadPoolExecutor | None = None
        self._attempts: dict[tuple[str, str], Attempt] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = asyncio.Event()
        #: The time of the last line about a failure of each step.
        self._logged: dict[str, float] = {}

    def add(self, step: OwnStep) -> None:
        """Perform a step from `open` on."""
        self._steps.append(step)

    @property
    def attempts(self) -> dict[tuple[str, str], Attempt]:
        """The running attempts by step and record, in the order in which they began."""
        return dict(self._attempts)

    def attempt(self, step: str, record: str) -> Attempt | None:
        """Return the running attempt at a step of a record, or None."""
        return self._attempts.get((step, record))

    async def open(self) -> None:
        """Begin to perform the steps; attempts of an earlier process, which is dead, fail at once."""
        for step in self._steps:
            try:
                await self._records.take_over(step.name, step.declaration(self._worker))
            except VolumeError as error:  # the leases end, and the first claim declares the step
                log.warning("step %s is not declared: %s", step.name, error.detail, extra={"event": "step-error"})
        each = [step for step in self._steps for _ in range(step.at_once)]
        self._threads = ThreadPoolExecutor(max(1, len(each)), thread_name_prefix="step")
        self._tasks = [asyncio.create_task(self._work(step)) for step in each]

    async def close(self) -> None:
        """Stop the running attempts at their next check; their records wait again."""
        self._closing.set()
        self._records.stop_waiting()
        for attempt in self._attempts.values():
            attempt.stop()
        await asyncio.gather(*self._tasks)
        if self._threads:
            await asyncio.to_thread(self._threads.shutdown)

    async def _work(self, step: OwnStep) -> None:
        order = step.declaration(self._worker)
        while not self._records.stopping:
            for record in await self._retrying(step, lambda: self._records.claim(step.name, order)) or []:
                await self._perform(step, record)

    async def _perform(self, step: OwnStep, record: Record) -> None:
        number = next(each.attempt for each in record.steps if each.name == step.name)
        attempt = self._attempts[step.name, record.id] = Attempt()
        if self._closing.is_set():
            attempt.stop()
        try:
            work = asyncio.get_running_loop().run_in_executor(self._threads, step.perform, record, attempt)
            while not (await asyncio.wait([work], timeout=_RENEWAL_SECONDS))[0]:
                await self._renew(step, record, attempt, number)
            outcome = await _outcome(step, record, work, number)
            if outcome.state is StepState.FAILED:
                self._log_failure(step, record, outcome)
            await self._end(step, record, outcome)
        finally:
            del self._attempts[step.name, record.id]
        step.ended(record)

    def _log_failure(self, step: OwnStep, record: Record, outcome: StepEnd) -> None:
        """Log why an attempt failed; at most one line a minute for each step."""
        now = time.monotonic()
        if now - self._logged.get(step.name, -_QUIET_SECONDS) >= _QUIET_SECONDS:
            self._logged[step.name] = now
            what = "attempt %d at step %s of record %s failed: %s"
            log.warning(what, outcome.attempt, step.name, record.id, outcome.reason, extra={"event": "step-failed"})

    async def _renew(self, step: OwnStep, record: Record, attempt: Attempt, number: int) -> None:
        try:
            await self._records.end(record.id, step.name, StepEnd(number, StepState.RUNNING, lease=_LEASE))
        except (NotFound, StepSuperseded):
            attempt.stop()
        except ProblemError as error:
            log.warning("the lease of step %s of record %s was not renewed: %s", step.name, record.id, error.detail)

    async def _end(self, step: OwnStep, record: Record, order: StepEnd) -> None:
        with suppress(NotFound, StepSuperseded):  # it was redone or dropped meanwhile
            try:
                await self._retrying(step, lambda: self._records.end(record.id, step.name, order))
            except InvalidRequest as error:  # the result is too large
                order = StepEnd(order.attempt, StepState.FAILED, reason=error.detail)
                await self._retrying(step, lambda: self._records.end(record.id, step.name, order))

    async def _retrying(self, step: OwnStep, call: Callable[[], Awaitable[Any]]) -> Any:
        """Return what a call returns as soon as the volume works, or None if the service stops before."""
        while True:
            try:
                return await call()
            except VolumeError as error:
                log.warning("step %s has to wait: %s", step.name, error.detail, extra={"event": "step-error"})
                if self._closing.is_set():
                    return None
            with suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE_SECONDS):
                    await self._closing.wait()


async def _outcome(step: OwnStep, record: Record, work: Awaitable[Any], number: int) -> StepEnd:
    try:
        return StepEnd(number, StepState.DONE, result=msgspec.to_builtins(await work))
    except Stopped:
        return StepEnd(number, StepState.WAITING)
    except NotFound as error:  # another attempt would not find it either
        return StepEnd(number, StepState.FAILED, reason=error.detail[:LONGEST_REASON], retry=False)
    except ProblemError as error:
        reason = error.detail
    except Exception as error:
        log.exception("step %s of record %s failed", step.name, record.id, extra={"event": "step-error"})
        reason = f"{type(error).__name__}: {error}"
    return StepEnd(number, StepState.FAILED, reason=reason[:LONGEST_REASON])
