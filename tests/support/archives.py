"""Archived batches in a buffer with tiers."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from databuffer.buffer import Buffer
from databuffer.records.scan import Scan
from databuffer.tiers.backends.folder import FolderTier
from databuffer.tiers.packs.pack import key_of
from databuffer.tiers.tier import TierError
from gwwire.datastore import FlushOrder
from gwwire.records import Step, StepState
from gwwire.tiering import BatchReplicas, ReplicaState, Tiering
from tests.support.segments import segment_body

FOREVER = Tiering(("object",))
AT_ONCE = Tiering(("object",), 0)
OpenBuffer = Callable[..., Awaitable[Buffer]]


class CountingTier(FolderTier):
    """A tier that counts what is written to it, and refuses calls while it is `down`."""

    kind = "object"

    def __init__(self, root: Path, capacity: int | None = None) -> None:
        root.mkdir(exist_ok=True)
        super().__init__("object", root, capacity)
        self.root = root
        self.written: list[str] = []
        self.down = False
        self.refuses_writes = False

    def write(self, key: str, size: int, chunks: Iterable[bytes]) -> None:
        self._check()
        if self.refuses_writes:
            raise TierError("tier object: it is read-only")
        super().write(key, size, chunks)
        self.written.append(key)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        self._check()
        return super().read(key, start, stop)

    def stat(self, key: str) -> Any:
        self._check()
        return super().stat(key)

    def file(self, batch: str) -> Path:
        return self.root / key_of(batch)

    def _check(self) -> None:
        if self.down:
            raise TierError("tier object: it is down")


async def archive(buffer: Buffer, tiering: Tiering | None = FOREVER, count: int = 3) -> tuple[str, Path]:
    """Archive a batch; return its id and folder."""
    for number in range(count):
        stored = buffer.ingest.submit(segment_body(number))
    await stored.answered
    batch = (await buffer.queries.overview()).batch
    folder = (await buffer.batches.flush(FlushOrder(tiering=tiering))).folder
    assert folder
    return batch, folder


def states(found: BatchReplicas) -> dict[str, ReplicaState]:
    return {each.tier: each.state for each in found.replicas}


async def until(buffer: Buffer, batch: str, wanted: dict[str, ReplicaState]) -> BatchReplicas:
    """Return the replicas of a batch as soon as they have these states."""
    found = None
    try:
        async with asyncio.timeout(60):
            while True:
                change = buffer.records.next_change(Scan(()))
                found = await buffer.tiers.replicas(batch)
                if states(found) == wanted:
                    return found
                await asyncio.wait([change], timeout=0.5)
    except TimeoutError:
        raise AssertionError(f"not {wanted}, but {found}") from None


async def step_in(buffer: Buffer, batch: str, name: str, *wanted: StepState) -> Step:
    async with asyncio.timeout(60):
        while True:
            change = buffer.records.next_change(Scan(()))
            step = (await buffer.records.steps_named(name)).get(f"batch/{batch}")
            if step and step.state in wanted and (step.reason or step.state is not StepState.WAITING):
                return step
            await asyncio.wait([change], timeout=0.5)


async def performed(buffer: Buffer, batch: str, name: str) -> Any:
    """Request a step; return its result."""
    await buffer.records.request(f"batch/{batch}", name)
    step = await step_in(buffer, batch, name, StepState.DONE, StepState.FAILED)
    assert step.state is StepState.DONE, step.reason
    return step.result
