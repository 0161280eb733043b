"""Recall batches from tape while their segments are read, and wait for recalls."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TypeVar
from uuid import uuid4

from gwclient.client import GlitchflowClient
from gwclient.errors import GatewayError, GatewayRefused, OnTape
from gwwire.problems import ProblemCode
from gwwire.public import SegmentRecord
from gwwire.tiering import BatchLocality, Recall, RecallState, on_tape_text

T = TypeVar("T")

#: The interval at which the state of a recall is read.
_LOOK_SECONDS = 2.0
#: Batches that are kept before they are read.
_AHEAD = 4
_OF_TAPE = frozenset({BatchLocality.TAPE, BatchLocality.DISK_AND_TAPE})
_UNDER_WAY = frozenset({RecallState.NEARLINE, RecallState.QUEUED, RecallState.RUNNING})


class BatchRecalls:
    """Recalls batches from tape, and keeps each from the first read of its segments to the last.

    It never waits for what it keeps itself: while a recall waits for space in the cache of the tape, the batches that
    are not being read are released, and recalled again when they are needed. So the cache needs space for one batch.
    Use `recalling` to release all in the end.
    """

    def __init__(self, client: GlitchflowClient, on_wait: Callable[[str], object]) -> None:
        self._client = client
        self._on_wait = on_wait
        self._asker = f"get-{uuid4().hex}"
        #: The segments that have not been read, by batch, in the order in which they are read.
        self._unread: defaultdict[str, set[str]] = defaultdict(set)
        self._of_tape: set[str] = set()
        self._kept: set[str] = set()
        #: The batches that may be kept, also if a request to release them was interrupted.
        self._pinned: set[str] = set()
        self._readable: set[str] = set()
        self._reading: Counter[str] = Counter()
        self._looking: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._ordering = asyncio.Lock()

    async def begin(self, records: Iterable[SegmentRecord]) -> None:
        """Begin the recalls of the first batches of segments, which are given in the order in which they are read."""
        for record in records:
            self._unread[record.batch].add(record.name)
            if record.locality in _OF_TAPE:
                self._of_tape.add(record.batch)
        await self._ask_ahead()

    async def read(self, name: str, batch: str, read: Callable[[], Awaitable[T]]) -> T:
        """Return what `read` returns for a segment, as soon as its batch can be read; `batch` is empty if unknown.

        One that cannot be recalled is not reported: reading fails.
        """
        with self._being_read(name, batch):
            found = await self._read(batch, read)
        await self._release_read()
        return found

    async def release_all(self) -> None:
        """Release what is kept, so that the datastore may evict it."""
        await self._release(self._pinned)

    async def _read(self, batch: str, read: Callable[[], Awaitable[T]]) -> T:
        while True:
            async with self._looking[batch]:
                await self._until_readable(batch)
            try:
                return await read()
            except OnTape as error:
                if batch:
                    self._of_tape.add(batch)
                self._readable.discard(batch)
                self._on_wait(error.state)
                await asyncio.sleep(min(error.retry_after or _LOOK_SECONDS, _LOOK_SECONDS))

    @contextmanager
    def _being_read(self, name: str, batch: str) -> Iterator[None]:
        self._reading[batch] += 1
        try:
            yield
        finally:
            self._reading[batch] -= 1
            self._unread[batch].discard(name)

    async def _until_readable(self, batch: str) -> None:
        while batch in self._of_tape - self._readable:
            try:
                found = await self._look(batch)
            except GatewayError:
                return  # reading says why
            if found and found.state not in _UNDER_WAY:
                self._readable.add(batch)
                return
            if found:
                self._on_wait(on_tape_text(found))
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look(self, batch: str) -> Recall | None:
        """Return how far a recall is, which is begun if need be, or None if others have to be read first."""
        found = await (self._ask(batch) if batch not in self._kept else self._state(batch))
        if not found or found.reason:
            await self._release_idle()
        return found

    async def _state(self, batch: str) -> Recall:
        found = await self._client.recall_state(batch, self._asker)
        if found.pinned is None or found.state is RecallState.NEARLINE:  # that time has ended
            self._kept.discard(batch)
        return found

    async def _ask(self, batch: str) -> Recall | None:
        """Return how far a recall is, which is begun if need be, or None if it does not fit beside what is kept."""
        async with self._ordering:
            others = self._pinned - {batch}
            self._kept.add(batch)
            self._pinned.add(batch)
            try:
                return await self._client.recall(batch, self._asker)
            except GatewayRefused as error:
                self._kept.discard(batch)
                self._pinned.discard(batch)
                if others and error.code == ProblemCode.RECALL_TOO_LARGE:
                    return None
                raise

    async def _ask_ahead(self) -> None:
        with suppress(GatewayError):
            for batch in [each for each, names in self._unread.items() if names and each in self._of_tape - self._kept]:
                if len(self._kept) >= _AHEAD or not await self._ask(batch):
                    break

    async def _release_read(self) -> None:
        """Release the batches that have been read, and ask for the next ones."""
        ended = {each for each in self._kept if not self._unread[each] and not self._reading[each]}
        if ended:
            await self._release(ended)
            await self._ask_ahead()

    async def _release_idle(self) -> None:
        await self._release({each for each in self._pinned if not self._reading[each]})

    async def _release(self, batches: Iterable[str]) -> None:
        released = list(batches)
        self._kept.difference_update(released)
        self._readable.difference_update(released)
        async with self._ordering:
            for batch in released:
                with suppress(GatewayError):
                    await self._client.release(batch, self._asker)
                    self._pinned.discard(batch)


@asynccontextmanager
async def recalling(client: GlitchflowClient, on_wait: Callable[[str], object]) -> AsyncIterator[BatchRecalls]:
    """Return recalls; `on_wait` is called with how far one is. After the block, the batches may be evicted again."""
    recalls = BatchRecalls(client, on_wait)
    try:
        yield recalls
    finally:
        await recalls.release_all()


async def wait_for_recalls(
    client: GlitchflowClient, batches: Sequence[str], poll: float, on_change: Callable[[Recall], object]
) -> list[Recall]:
    """Wait until recalls have ended, and return them; `on_change` is called with each that changed meanwhile."""
    last: dict[str, Recall] = {}
    while True:
        for batch in batches:
            found = await client.recall_state(batch)
            before = last.get(batch)
            last[batch] = found
            if before is None or _shown(before) != _shown(found):
                on_change(found)
        if all(each.state not in {RecallState.QUEUED, RecallState.RUNNING} for each in last.values()):
            return list(last.values())
        await asyncio.sleep(poll)


def _shown(recall: Recall) -> tuple[RecallState, int, int | None]:
    return recall.state, recall.percent, recall.position
