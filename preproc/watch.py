"""Run as a service: make the dataset of each frozen batch, as a listener of a step (see `gwclient.listen`).

The batch is leased, so that no two workers process it at the same time; the lease is renewed during the work. If a
worker is killed, its lease ends, and the next worker that gets the batch continues in the output folder, or starts
again in a folder of its own.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from gwclient.client import GlitchflowClient
from gwclient.errors import GatewayRefused, LeaseLost
from gwclient.listen import Job, JobFailed
from gwwire.problems import ProblemCode
from gwwire.public import BatchState
from gwwire.records import ARCHIVED, SEALED, Record, StepState
from preproc.errors import GatewayFailed, PreprocError
from preproc.executors import Executor
from preproc.gateway import GatewaySource
from preproc.parameters import Parameters
from preproc.progress import Item, Progress
from preproc.report import result_of
from preproc.run import Request, fulfil

_KIND = "batch"


@dataclass
class Lease:
    """Ends the work on a batch, which is done in another thread, when its lease ends or `stopped` is set."""

    job: Job
    stopped: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raise GatewayFailed if the lease ended, or if the work was stopped."""
        if self.stopped.is_set() or not self.job.is_leased():
            raise GatewayFailed(f"the lease of {self.job.record.id} ended; another worker may have the batch")

    def guard(self, progress: Progress) -> Progress:
        """Return a progress that raises GatewayFailed at the next item after the lease ended."""

        def guarded(items: Sequence[Item], step: str, /) -> Iterable[Item]:
            for item in progress(items, step):
                self.check()
                yield item

        return guarded


@dataclass
class Worker:
    """Processes batches one after the other; see also `Request` and `GlitchflowClient`."""

    url: str
    out: Path
    step: str  # the step to perform on the records of batches
    name: str  # the name in leases, different for each worker
    parameters: Parameters
    exports: frozenset[str]
    target: str | None
    lease: float  # s after which another worker gets the batch unless the lease is renewed
    archived: bool  # whether to process archived batches too
    clean: bool  # whether to archive each batch after its dataset is published
    once: bool  # whether to stop after one batch
    api_key: str | None = field(repr=False)
    progress: Progress
    executor: Executor
    log: Callable[[str], None]  # is called with each line of the log
    _last_line: str = field(default="", init=False)

    async def work(self) -> None:
        """Process batches until cancelled, or only the first one with `once`; raise PreprocError or GatewayError."""
        async with GlitchflowClient(
            self.url, api_key=self.api_key, on_retry=lambda reason, _: self._say(reason)
        ) as client:
            # A worker may have been killed between the end of a step and the archiving.
            done = self.clean and await self._archive(client)
            while not (done and self.once):
                done = await self._take(client)
                if done and self.clean:
                    await self._archive(client)

    async def _take(self, client: GlitchflowClient) -> bool:
        """Process the next batch; return whether its step is done."""
        self._say("waiting for a frozen batch")
        before = [] if self.archived else [ARCHIVED]
        wanted = {"after": [SEALED], "before": before, "kind": _KIND, "lease": self.lease}
        try:
            async with client.listen(self.step, worker=self.name, **wanted) as listening:
                async for job in listening:
                    job.result = await self._process(job)
                    listening.stop()
        except LeaseLost as error:
            self._say(str(error))
        except JobFailed as failure:
            cause = failure.__cause__
            self._say(f"{job.record.id} {'failed' if failure.retry else 'cannot be processed'}: {failure}")
            if self.once and cause and not isinstance(cause, GatewayFailed):
                raise cause from None
        else:
            return True
        return False

    async def _process(self, job: Job) -> dict[str, Any]:
        """Make the dataset of a batch, and return the result of the step; raise JobFailed."""
        batch, lease = job.record.id.partition("/")[2], Lease(job)
        self._say(f"batch {batch} claimed by {self.name}")
        source, out = GatewaySource(self.url, batch, self.api_key), self.out / batch
        request = Request(source, out, self.parameters, self.exports, self.target)

        def notify(text: str) -> None:
            self._say(f"batch {batch}: {text}")

        make = partial(fulfil, request, lease.guard(self.progress), self.executor, lease.check, notify)
        work = asyncio.create_task(asyncio.to_thread(make))
        try:
            changed = await asyncio.shield(work)
        except PreprocError as error:
            raise JobFailed(str(error), retry=error.retry) from error
        finally:
            # If this was cancelled, the thread ends at its next step.
            lease.stopped.set()
            with suppress(PreprocError):
                await work
        self._say(f"batch {batch} {'published' if changed else 'was published already'}: {out}")
        return result_of(out)

    async def _archive(self, client: GlitchflowClient) -> bool:
        """Archive the frozen batch if the step is done on it; return whether it was archived."""

        async def archive() -> bool:
            for batch in await client.batches():
                if batch.state is BatchState.FROZEN and self._is_done(await client.records.get(f"{_KIND}/{batch.id}")):
                    return await self._clean(client, batch.id)
            return False

        return await client.until_answered(archive)

    async def _clean(self, client: GlitchflowClient, batch: str) -> bool:
        try:
            answer = await client.clean(f"preproc: the dataset of batch {batch} is published", batch)
        except GatewayRefused as error:
            if error.code == ProblemCode.BATCH_CHANGED:  # another client archived it
                return False
            raise
        self._say(f"batch {batch} archived: {answer.body or answer.resp}")
        return True

    def _is_done(self, record: Record) -> bool:
        return any(step.name == self.step and step.state is StepState.DONE for step in record.steps)

    def _say(self, line: str) -> None:
        if line != self._last_line:
            self.log(line)
            self._last_line = line
