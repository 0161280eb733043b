"""Puts and gets in the background: begun, interrupted by a stop, and carried out again after the next start."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from glitchflow_api.logic_client import LogicClient
from glitchflow_api.nlds.calls import CALL_FAILED, HoldingCalls, detail_of
from glitchflow_api.nlds.getting import Get
from glitchflow_api.nlds.jobs import Job, Jobs, NldsState
from glitchflow_api.nlds.putting import Put
from glitchflow_api.nlds.shared_files import Failure, Roots
from glitchflow_api.nlds.slots import Slots

log = logging.getLogger(__name__)

#: Files that are transferred at the same time, by all transactions, and by one.
_AT_ONCE, _AT_ONCE_OF_ONE = 8, 4
#: More than transfers: directories are listed meanwhile.
_THREADS = _AT_ONCE + 4
_FAILED = "the server failed; its log has the details"


class Worker:
    """Carries out transactions."""

    def __init__(self, logic: LogicClient, roots: Roots, jobs: Jobs) -> None:
        self._logic, self._roots, self._jobs = logic, roots, jobs
        self._free = asyncio.Semaphore(_AT_ONCE)
        self._threads = ThreadPoolExecutor(_THREADS, "nlds")
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, job: Job) -> None:
        """Carry out a transaction; what was done of it before a restart is found done."""
        job.parts, job.warnings = [], []
        task = asyncio.create_task(self._run(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Interrupt all transactions."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, job: Job) -> None:
        calls, files = HoldingCalls(self._logic, job.user, job.group), self._roots.of(job.user, job.group)
        slots = Slots(self._free, _AT_ONCE_OF_ONE, self._threads)
        transfer = Put if job.action.startswith("put") else Get
        try:
            await transfer(job, calls, files, slots).run()
        except CALL_FAILED as error:
            fail_rest(job, detail_of(error))
        except Exception:
            log.exception("NLDS transaction %s failed", job.id, extra={"event": "nlds-error"})
            fail_rest(job, _FAILED)
        try:
            await self._jobs.end(job)
        except OSError:
            log.exception("NLDS transaction %s cannot be stored", job.id, extra={"event": "nlds-error"})
        complete, failed = sum(part.complete for part in job.parts), sum(len(part.failed) for part in job.parts)
        fields = {"event": "nlds-transaction", "transaction": job.id, "action": job.action, "caller": job.user}
        log.info("%s of %s: %d files complete, %d failed", job.action, job.user, complete, failed, extra=fields)


def fail_rest(job: Job, reason: str) -> None:
    """End a transaction that could not be carried out, with a reason for each path that was ordered."""
    job.parts = [part for part in job.parts if part.complete or part.failed]
    for part in job.parts:
        part.end()
    part = job.begin_part(NldsState.FAILED)
    part.failed = [Failure(path, reason) for path in job.order.paths]
