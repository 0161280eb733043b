"""The buffer: append, freeze, flush, stats. The only room that knows the order of things."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from databuffer.committer import Committer
from databuffer.errors import BatchChanged, BufferFrozen, Refused, VolumeError
from databuffer.metadata import LogStream, Metadata, stored_entry
from databuffer.recovery import OPERATIONAL, Recovered, begin_batch, recover
from databuffer.volume import Volume
from gwwire.datastore import BufferStats, DatastoreState, Description, FreezeOrder
from gwwire.problems import ProblemError
from gwwire.segment import compact, decode_segment

T = TypeVar("T")
log = logging.getLogger(__name__)

#: Writes in flight at once: the file system batches its journal, so that many durable writes cost little more than one.
_WRITERS = 16


@dataclass(frozen=True)
class Stored:
    """A segment's file: durable, named and counted."""

    name: str
    size: int


@dataclass(frozen=True)
class Frozen:
    """A frozen batch: its counts, taken in the same step as the freeze, and who holds it."""

    stats: BufferStats
    holder: str


@dataclass(frozen=True)
class Archived:
    """An archived batch: its counts, and its folder; None where there was nothing to archive."""

    stats: BufferStats
    folder: Path | None


class Buffer:
    """The batch in hand.

    Whatever changes it is done by one committer, one step after the other, in a worker thread; what it tells about
    itself are snapshots replaced at the end of a step, so that no reader waits and none sees half a step.
    """

    def __init__(self, volume: Volume, metadata: Metadata, stream: LogStream, *, queue_size: int) -> None:
        self._volume = volume
        self._metadata = metadata
        self._stream = stream
        self._committer: Committer[Stored] = Committer(self._store, queue_size)
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="writer")
        self._names: list[str] = []
        self._stats = BufferStats(0, 0)
        self._description = OPERATIONAL
        self._last_number = 0
        self._trusted = False

    @property
    def stats(self) -> BufferStats:
        """The counts of the batch in hand."""
        return self._stats

    @property
    def description(self) -> Description:
        """The state, and who froze the batch."""
        return self._description

    @property
    def names(self) -> list[str]:
        """The file names of the batch in hand, in the order they were stored."""
        return self._names[: self._stats.n_itm]

    def recover(self) -> None:
        """Make the volume's papers agree with it, saying in the log what had to be put right.

        Raises:
            VolumeError: the volume cannot be used.

        """
        recovered = recover(self._volume, self._metadata, self._stream)
        for repair in recovered.repairs:
            log.warning("repaired: %s", repair)
        self._adopt(recovered)
        self._trusted = True

    async def open(self) -> None:
        """Begin to take segments.

        Raises:
            VolumeError: the volume cannot be used.

        """
        if not self._trusted:
            await asyncio.to_thread(self.recover)
        self._committer.start()
        stats, state = self._stats, self._description.dstatus
        log.info("%s, %d segments, %d bytes in %s", state, stats.n_itm, stats.buff_size, self._volume.data)

    async def close(self) -> None:
        """Finish what was accepted, then stop."""
        await self._committer.close()
        self._writers.shutdown()

    async def check(self) -> None:
        """Raise VolumeError while the volume cannot be used."""
        await asyncio.to_thread(self._volume.check)
        if not self._trusted:
            await self._in_order(lambda: None)

    async def append(self, body: bytes) -> Stored:
        """Store one segment; on return its file is durable and counted.

        Raises:
            MalformedJson, InvalidSegment: the body is no segment.
            BufferFrozen: the batch is frozen.
            QueueFull: too many segments are waiting.
            VolumeError: the volume did not take it.

        """
        return await self._committer.append(compact(body, decode_segment(body)))

    async def freeze(self, order: FreezeOrder) -> Frozen:
        """Freeze the batch in hand; a batch that is frozen already stays its holder's.

        Raises:
            BatchChanged: there are fewer bytes in hand than the order was meant for.
            VolumeError: the state could not be written.

        """
        return await self._in_order(lambda: self._freeze(order))

    async def flush(self) -> Archived:
        """Archive the batch in hand and begin an empty one.

        Raises:
            VolumeError: the volume did not let it; the batch is still in hand.

        """
        return await self._in_order(self._flush)

    async def log_lines(self) -> list[bytes]:
        """Give the lines of LogStream.json."""
        return (await asyncio.to_thread(self._stream.content)).splitlines()

    async def _in_order(self, step: Callable[[], T]) -> T:
        return await self._committer.perform(lambda: asyncio.to_thread(self._trustworthy, step))

    async def _store(self, group: Sequence[bytes]) -> Sequence[Stored | ProblemError]:
        return await asyncio.to_thread(self._trustworthy, lambda: self._store_group(group))

    def _trustworthy(self, step: Callable[[], T]) -> T:
        """Take a step from a known state; after a step that failed half-way the volume is read anew."""
        if not self._trusted:
            self.recover()
        try:
            return step()
        except Refused:
            raise
        except Exception:
            self._trusted = False
            with suppress(ProblemError):
                self.recover()
            raise

    def _adopt(self, recovered: Recovered) -> None:
        self._names = recovered.names
        self._stats = recovered.stats
        self._description = recovered.description
        if recovered.names:
            self._last_number = max(self._last_number, self._volume.number(recovered.names[-1]) or 0)

    def _store_group(self, group: Sequence[bytes]) -> list[Stored | ProblemError]:
        if self._description.dstatus is DatastoreState.FROZEN:
            return [BufferFrozen(f"the batch is frozen by {self._description.user}") for _ in group]
        staged = list(self._writers.map(self._stage, group))
        whole = [(path, len(content)) for path, content in zip(staged, group, strict=True) if isinstance(path, Path)]
        published = iter(self._publish(whole))
        return [next(published) if isinstance(path, Path) else path for path in staged]

    def _stage(self, content: bytes) -> Path | ProblemError:
        try:
            return self._volume.stage(content)
        except VolumeError as error:
            return error

    def _publish(self, staged: Sequence[tuple[Path, int]]) -> list[Stored]:
        """Name and count staged files in one step: all of them or, where anything fails, none."""
        stored = [Stored(self._next_name(), size) for _, size in staged]
        try:
            for (path, _), segment in zip(staged, stored, strict=True):
                self._volume.publish(path, segment.name)
            self._volume.sync()
            self._count(stored)
        except VolumeError:
            for path in [*(path for path, _ in staged), *(self._volume.data / segment.name for segment in stored)]:
                with suppress(ProblemError):
                    self._volume.discard(path)
            raise
        return stored

    def _count(self, stored: Sequence[Stored]) -> None:
        stats = BufferStats(
            self._stats.n_itm + len(stored),
            self._stats.buff_size + sum(segment.size for segment in stored),
        )
        self._stream.append(stored_entry(segment.name, segment.size, time.time_ns()) for segment in stored)
        self._metadata.write_stats(stats)
        self._names.extend(segment.name for segment in stored)
        self._stats = stats

    def _next_name(self) -> str:
        self._last_number = max(self._last_number + 1, time.time_ns())
        return self._volume.name(self._last_number)

    def _freeze(self, order: FreezeOrder) -> Frozen:
        if self._description.dstatus is DatastoreState.OPERATIONAL:
            if self._stats.buff_size < order.at_least:
                raise BatchChanged(f"the batch has {self._stats.buff_size} bytes, not {order.at_least} any more")
            description = Description(DatastoreState.FROZEN, order.user, order.token)
            self._metadata.write_description(description)
            self._description = description
            log.info("frozen by %s: %d segments, %d bytes", order.user, self._stats.n_itm, self._stats.buff_size)
        return Frozen(self._stats, self._description.user)

    def _flush(self) -> Archived:
        stats, folder = self._stats, None
        if stats.n_itm:
            folder = self._volume.archive(datetime.now(UTC), {self._stream.name: self._stream.content()})
        begin_batch(self._volume, self._metadata, self._stream)
        self._names, self._stats, self._description = [], BufferStats(0, 0), OPERATIONAL
        log.info("archived %d segments, %d bytes%s", stats.n_itm, stats.buff_size, f" in {folder}" if folder else "")
        return Archived(stats, folder)
