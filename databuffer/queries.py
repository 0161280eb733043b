"""Queries: counts, state, batches, segments, coverage, health."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, TypeVar

import sqlalchemy as sa

from databuffer.errors import NotFound, VolumeError
from databuffer.ingest.pipeline import Ingest
from databuffer.ingest.quota import DailyQuota
from databuffer.state import Agreement, State
from databuffer.storage.catalog import BatchRow, CataloguedSegment, SegmentFilter
from databuffer.storage.files import Space, open_stored, volume_errors
from databuffer.storage.segment_recovery import check_reachable
from databuffer.storage.store import Store
from databuffer.storage.tally import joined
from gwwire.datastore import Description
from gwwire.manifest import MANIFEST
from gwwire.overview import NextOverview, Overview
from gwwire.public import BatchState, Quota, Stats

T = TypeVar("T")

#: Maximum number of channels in the overview: those that received a segment last.
_MOST_CHANNELS = 500
_READY_SECONDS = 1.0


async def _nowhere(_segment: CataloguedSegment, _recalls: bool) -> BinaryIO | None:  # noqa: FBT001 (see `elsewhere`)
    return None


class Queries:
    """Answers queries from memory or, in a worker thread, from the catalog and the volume.

    `elsewhere` opens a segment whose file is not on the volume, or returns None.
    """

    def __init__(self, store: Store, state: State, ingest: Ingest, quota: DailyQuota) -> None:
        self._store = store
        self._state = state
        self._ingest = ingest
        self._quota = quota
        self.elsewhere: Callable[[CataloguedSegment, bool], Awaitable[BinaryIO | None]] = _nowhere

    @property
    def stats(self) -> Stats:
        """The counts of the current batch, and of the next one if there is one."""
        current, following = self._state.current.stats, self._state.next
        if following is None:
            return current
        return Stats(current.n_itm, current.buff_size, following.stats.n_itm, following.stats.buff_size)

    @property
    def description(self) -> Description:
        """The state of the datastore, and the holder."""
        return self._state.description

    def quota(self, group: str | None) -> Quota | None:
        """Return a group's quota of today, or None if it has none."""
        return self._quota.of(group, time.time_ns())

    async def overview(self) -> Overview:
        """Return the overview; the cost does not grow with the number of stored segments."""
        cannot_store = await self._why_not_ready()
        space = await self.space()
        state, now = self._state, time.time()
        current, following, frozen = state.current, state.next, state.frozen
        tally = joined(current.tally, following.tally) if following else current.tally
        latest = sorted(tally.values(), key=lambda channel: channel.latest, reverse=True)[:_MOST_CHANNELS]
        return Overview(
            time=now,
            state=state.description.dstatus,
            since=(current.seal.at if current.seal else current.mark.opened) / 10**9,
            holder=state.description.user if frozen else None,
            batch=current.id,
            digest=current.seal.digest if current.seal else None,
            n_itm=current.stats.n_itm,
            buff_size=current.stats.buff_size,
            seq=state.last_seq,
            queue=self._ingest.waiting,
            queue_size=self._ingest.capacity,
            next=NextOverview(following.id, following.stats.n_itm, following.stats.buff_size) if following else None,
            channels=sorted(latest, key=lambda channel: channel.channel or ""),
            more_channels=len(tally) - len(latest),
            archived=state.archived,
            quarantined=state.quarantined,
            left_out=len(state.left_out) + len(state.unknown_holdings),
            unread_meta=state.unread_meta,
            free=space.free if space else None,
            size=space.size if space else None,
            used=space.used if space else None,
            free_inodes=space.free_inodes if space else None,
            total_inodes=space.total_inodes if space else None,
            cannot_store=cannot_store,
            last_error=state.last_error,
            refused=state.refused,
            events=list(state.events),
            ready=cannot_store is None,
        )

    async def check_ready(self) -> None:
        """Raise VolumeError while segments cannot be stored."""
        try:
            if self._state.must_recover:
                await self._in_order(lambda: None)
            try:
                await asyncio.to_thread(self._store.volume.check)
            except VolumeError:  # a flush may be moving the data folder
                await self._ingest.perform(self._store.volume.check)
            if self._state.needs_probe or await asyncio.to_thread(self._store.is_scarce):
                await asyncio.to_thread(self._state.watch_space)
                await self._ingest.perform(self._state.probe)
        except VolumeError as error:
            self._state.log_rejection(error)
            raise

    async def names(self) -> list[str]:
        """Return the file names of the current batch, in the order they were stored."""
        current = self._state.current
        names = await self.look_up(self._store.catalog.segments.sizes, current.id)
        return list(names)[: current.stats.n_itm]

    async def log_lines(self, last: int | None = None) -> list[bytes]:
        """Return the lines of LogStream.json, or the newest `last` of them; the oldest come first."""
        return await asyncio.to_thread(self._store.current.log.lines, last)

    async def batches(self) -> list[BatchRow]:
        """Return all batches, the oldest first."""
        return [self._counted(row) for row in await self.look_up(self._store.catalog.batches.all)]

    async def batch(self, batch: str) -> BatchRow:
        """Return one batch, or raise NotFound."""
        row = await self.look_up(self._store.catalog.batches.get, batch)
        if row is None:
            raise NotFound(f"there is no batch {batch!r}")
        return self._counted(row)

    async def manifest(self, batch: str) -> BinaryIO:
        """Open the manifest of a sealed batch, or raise NotFound: open batches and very old archives have none."""
        row = await self.batch(batch)
        sealed = row.state is not BatchState.OPEN
        file = await self._open_file(lambda: self._place(batch, MANIFEST)) if sealed else None
        if file is None:
            raise NotFound(f"batch {batch!r} has no manifest; it is {row.state}")
        return file

    async def segments(self, wanted: SegmentFilter) -> list[CataloguedSegment]:
        """Return the segments that match, by increasing seq, or with `before` by decreasing seq."""
        return await self.look_up(self._store.catalog.segments.find, wanted)

    async def segment(self, name: str) -> CataloguedSegment:
        """Return a segment's catalog entry, or raise NotFound."""
        found = await self.look_up(self._store.catalog.segments.get, name)
        if found is None:
            raise NotFound(f"there is no segment {name!r}")
        return found

    def open_segment(self, name: str) -> BinaryIO | None:
        """Open a segment's file, or return None if it is missing or being moved; for threads that open many."""
        return _opened(self._segment_place(name))

    def segment_places(self, names: Sequence[str]) -> dict[str, Path]:
        """Return the files of those segments that exist, as the catalog knows them; for threads that open many."""
        root = self._store.volume.root
        return {name: root / folder / name for name, folder in self._store.catalog.segments.folders(names).items()}

    async def segment_file(self, name: str, *, recalls: bool = True) -> BinaryIO:
        """Open a segment's file, wherever its batch is or is being moved.

        Raise NotFound; for a batch that only tiers have, TierFailed, or OnTape, when its recall has begun if it
        `recalls`.
        """
        segment = await self.segment(name)

        def look() -> BinaryIO | None:
            return _opened_whole(self._segment_place(name), segment.bytes)

        file = await self._try_twice(look) or await self.elsewhere(segment, recalls) or await self._in_order(look)
        if file is None:
            raise NotFound(f"the file of segment {name!r} is missing, or is not what was stored")
        return file

    async def check_folders(self, names: Callable[[], Collection[str]]) -> None:
        """Raise NotFound if the folder of a batch that has some of these segments is missing."""

        def look() -> str | None:
            missing = [row for row in self._store.catalog.batches.all() if not self._folder(row).is_dir()]
            wanted = set(names()) if missing else set()
            for row in missing:
                if held := self._store.catalog.segments.sizes(row.id).keys() & wanted:
                    return f"the folder {row.path!r} of batch {row.id!r} is missing, with {len(held)} of the segments"
            return None

        # A folder that a flush is moving is only missing at first.
        if await self._try_twice(look) and (found := await self._ingest.perform(lambda: self._state.run(look))):
            raise NotFound(found)

    async def _why_not_ready(self) -> str | None:
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await self.check_ready()
        except VolumeError as error:
            return error.detail
        except TimeoutError:
            return f"the volume has not answered for {_READY_SECONDS:g} s"
        return None

    async def space(self) -> Space | None:
        """Return the space of the volume, or None if it does not answer."""
        return await asyncio.to_thread(self._space)

    async def read(self, look: Callable[[sa.Connection], T]) -> T:
        """Look at one state of the catalog, as `look_up` does."""

        def read() -> T:
            with self._store.catalog.database.snapshot() as connection:
                return look(connection)

        return await self.look_up(read)

    async def look_up(self, find: Callable[..., T], *arguments: object) -> T:
        """Call a function of the catalog in a thread, as `_try_twice` does, but not while the catalog is rebuilt.

        If the catalog is replaced during the call, it may have been empty: call the function again.
        """
        database = self._store.catalog.database
        generation = database.generation  # before the look at the agreement: a recovery may begin in between
        if self._state.agreement is Agreement.UNREAD:
            await self._ingest.perform(lambda: None)  # after a recovery, which is carried out in the queue
        found = await self._try_twice(find, *arguments)
        if generation == database.generation:
            return found
        await self._ingest.perform(lambda: None)
        return await self._try_twice(find, *arguments)

    async def _try_twice(self, find: Callable[..., T], *arguments: object) -> T:
        """Call a function in a thread; if it fails, repair the catalog and call it once more."""
        try:
            return await asyncio.to_thread(find, *arguments)
        except VolumeError:
            await self._ingest.perform(self._state.repair_catalog)
            return await asyncio.to_thread(find, *arguments)

    async def _in_order(self, step: Callable[[], BinaryIO | None]) -> BinaryIO | None:
        return await self._ingest.perform(lambda: self._state.run(step))

    def _space(self) -> Space | None:
        try:
            return Space.of(self._store.volume.root)
        except VolumeError:
            return None

    async def _open_file(self, place: Callable[[], Path | None]) -> BinaryIO | None:
        """Open a file that a flush may be moving; if that fails, try again in the commit queue."""

        def look() -> BinaryIO | None:
            return _opened(place())

        return await self._try_twice(look) or await self._in_order(look)

    def _segment_place(self, name: str) -> Path | None:
        segment = self._store.catalog.segments.get(name)
        return self._place(segment.batch, name) if segment else None

    def _place(self, batch: str, name: str) -> Path | None:
        row = self._store.catalog.batches.get(batch)
        return self._folder(row) / name if row else None

    def _folder(self, row: BatchRow) -> Path:
        return self._store.volume.root / row.path

    def _counted(self, row: BatchRow) -> BatchRow:
        """Return a batch's row, with the current counts if it is open."""
        for batch in self._state.open_batches:
            if batch.id == row.id:
                return replace(row, n_itm=batch.stats.n_itm, buff_size=batch.stats.buff_size)
        return row


def _opened(path: Path | None) -> BinaryIO | None:
    with volume_errors():
        try:
            return open_stored(path) if path else None
        except FileNotFoundError:
            return None


def _opened_whole(path: Path | None, size: int) -> BinaryIO | None:
    """Open a segment's file, or return None if it is missing or is not the file that was stored."""
    try:
        file = _opened(path)
    except VolumeError as error:
        check_reachable(error)
        return None
    if file and os.fstat(file.fileno()).st_size != size:
        file.close()
        return None
    return file
