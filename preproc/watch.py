"""Run as a service: claim each frozen batch, process it, publish the dataset.

The claim is a lease, so that no two workers process a batch at the same time; it is renewed during the work. If a
worker is killed, its lease expires, and the next worker that claims the batch continues in the output folder, or
starts again in a folder of its own.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gwclient.client import GlitchflowClient, Retry
from gwclient.errors import GatewayError, GatewayRefused
from gwwire.problems import ProblemCode
from gwwire.public import BatchState
from preproc.errors import GatewayFailed, PreprocError
from preproc.executors import Executor
from preproc.gateway import GatewaySource
from preproc.parameters import Parameters
from preproc.progress import Item, Progress
from preproc.run import Request, fulfil

#: The codes of a claim that is refused because another worker has the batch, or it is no longer frozen.
_NOT_OURS = {"batch-claimed", "batch-not-frozen", "not-found"}
#: How many times a lease is renewed within its length.
_RENEWALS = 3


@dataclass
class Lease:
    """A claim on a batch, which this worker holds until `deadline` on the monotonic clock."""

    batch: str
    deadline: float
    lost: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raise GatewayFailed if the lease was refused, or not renewed in time."""
        if self.lost.is_set() or time.monotonic() >= self.deadline:
            raise GatewayFailed(f"the claim on batch {self.batch} expired; another worker may have claimed it")

    def guard(self, progress: Progress) -> Progress:
        """Return a progress that raises GatewayFailed at the next item after the lease is lost."""

        def guarded(items: Sequence[Item], step: str, /) -> Iterable[Item]:
            for item in progress(items, step):
                self.check()
                yield item

        return guarded


@dataclass
class Worker:
    """Processes frozen batches one after the other; see also `Request` and `GlitchflowClient`."""

    url: str
    out: Path
    name: str  # the name in claims, different for each worker
    parameters: Parameters
    exports: frozenset[str]
    target: str | None
    lease: float  # s after which a claim expires unless renewed
    poll: float  # s between two requests for frozen batches
    clean: bool  # whether to archive each batch after its dataset is published
    once: bool  # whether to stop after one batch
    api_key: str | None = field(repr=False)
    progress: Progress
    executor: Executor
    log: Callable[[str], None]  # is called with each line of the log
    _last_line: str = field(default="", init=False)
    #: Batches that this worker does not process again.
    _settled: set[str] = field(default_factory=set, init=False)

    async def work(self) -> None:
        """Process frozen batches until cancelled, or only the first one with `once`, or raise PreprocError."""
        async with GlitchflowClient(self.url, api_key=self.api_key) as client:
            while True:
                done = await self._look(client)
                if done and self.once:
                    return
                await asyncio.sleep(self.poll)

    async def _look(self, client: GlitchflowClient) -> bool:
        try:
            for batch in await client.batches():
                if batch.state is BatchState.FROZEN and batch.id not in self._settled:
                    return await self._take(client, batch.id)
        except GatewayError as error:
            self._say(str(error))
        else:
            self._say("waiting for the datastore to be frozen")
        return False

    async def _take(self, client: GlitchflowClient, batch: str) -> bool:
        lease = Lease(batch, time.monotonic() + self.lease)
        try:
            await client.claim(batch, self.name, self.lease)
        except GatewayRefused as error:
            if error.code not in _NOT_OURS:
                raise
            self._say(f"batch {batch} is not available: {error}")
            return False
        self._say(f"batch {batch} claimed by {self.name}")
        try:
            changed = await self._process(lease)
        except asyncio.CancelledError:
            await self._release(client, batch)
            raise
        except GatewayFailed as error:
            self._say(str(error))
            return False
        except PreprocError as error:
            await self._release(client, batch)
            if self.once:
                raise
            # It would fail again; it stays frozen for an operator.
            self._settled.add(batch)
            self._say(f"batch {batch} cannot be processed: {error}")
            return False
        self._say(f"batch {batch} {'published' if changed else 'was published already'}: {self.out / batch}")
        await self._leave(client, batch)
        return True

    async def _process(self, lease: Lease) -> bool:
        source = GatewaySource(self.url, lease.batch, self.api_key)
        request = Request(source, self.out / lease.batch, self.parameters, self.exports, self.target)
        progress = lease.guard(self.progress)

        def notify(text: str) -> None:
            self._say(f"batch {lease.batch}: {text}")

        work = asyncio.create_task(asyncio.to_thread(fulfil, request, progress, self.executor, lease.check, notify))
        renewing = asyncio.create_task(self._renew(lease))
        try:
            changed = await asyncio.shield(work)
            lease.check()
        finally:
            # If this was cancelled, the thread ends at its next step.
            lease.lost.set()
            renewing.cancel()
            with suppress(PreprocError):
                await work
        return changed

    async def _leave(self, client: GlitchflowClient, batch: str) -> None:
        if not self.clean:
            self._settled.add(batch)
            await self._release(client, batch)
        elif (await client.batch(batch)).state is BatchState.FROZEN:
            try:
                cleaned = await client.clean(f"preproc: the dataset of batch {batch} is published", batch)
            except GatewayRefused as error:
                if error.code != ProblemCode.BATCH_CHANGED:
                    raise
                self._say(f"batch {batch} was archived by another client in the meantime")
            else:
                self._say(f"batch {batch} archived: {cleaned.body or cleaned.resp}")

    async def _release(self, client: GlitchflowClient, batch: str) -> None:
        try:
            await client.release(batch, self.name)
        except GatewayError as error:
            self._say(f"batch {batch} stays claimed until its lease expires: {error}")

    def _say(self, line: str) -> None:
        if line != self._last_line:
            self.log(line)
            self._last_line = line

    async def _renew(self, lease: Lease) -> None:
        pause = self.lease / _RENEWALS
        async with GlitchflowClient(self.url, retry=Retry(tries=1), timeout=pause, api_key=self.api_key) as client:
            while not lease.lost.is_set():
                await asyncio.sleep(pause)
                asked = time.monotonic()
                try:
                    await client.claim(lease.batch, self.name, self.lease)
                except GatewayRefused:
                    lease.lost.set()
                except GatewayError:
                    # The gateway does not answer: the lease lasts until its deadline.
                    continue
                else:
                    lease.deadline = asked + self.lease
