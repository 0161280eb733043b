"""Bundles: the files of a query's result as one archive.

A bundle is identified by what was asked for and by what the answer was. An order is compared with the store each time,
so that the answer is never older: if a matching segment has arrived, it is another bundle.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import msgspec
import sqlalchemy as sa

from databuffer.errors import BundleNotReady, NotFound
from databuffer.ingest.pipeline import Ingest
from databuffer.queries import Queries
from databuffer.search import table
from databuffer.search.archive import Archive, open_archive, open_file
from databuffer.search.builder import Builder, Progress, bytes_needed
from databuffer.search.opened import OpenedArchives
from databuffer.search.quota import BundleQuota
from databuffer.search.recalls import BundleRecalls
from databuffer.search.result import Result, batches_of, check_order, describe, find
from databuffer.search.space import BundleSpace
from databuffer.search.stored import StoredBundles, as_bundle, info_of, new_row
from databuffer.search.table import BundleRow
from databuffer.state import State
from databuffer.storage.clock import steady_ns
from databuffer.storage.store import Store
from databuffer.tiers.recalls.recall import Recalls
from gwwire.bundles import Bundle, BundleFormat, BundleManifest, BundleOrder, BundleState

_SECOND = 10**9
_RETRY_SECONDS = 2
#: Archives that are read at the same time.
_THREADS = 8
#: A request that waits looks so often whether its caller has left.
_GONE_SECONDS = 1.0


class Bundles:
    """Makes bundles, in the `space` of `cache_size` bytes; files that are built for a group count for its `quota`."""

    def __init__(  # noqa: PLR0913, PLR0917 (the parts of the buffer)
        self,
        store: Store,
        state: State,
        ingest: Ingest,
        queries: Queries,
        builder: Builder,
        recalls: Recalls,
        cache_size: int,
        quota: BundleQuota,
    ) -> None:
        self._state = state
        self._stored = StoredBundles(store, state, ingest, queries)
        self._queries = queries
        self._builder = builder
        self._cache = builder.cache
        self._changes = builder.changes
        self._recalls = BundleRecalls(recalls, builder.changes)
        #: For the bytes of archives, which come from a tier that may be slow.
        self.threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="bundle")
        self._opened = OpenedArchives(self._open)
        self.space = BundleSpace(store, self._stored, builder, self._opened, cache_size, quota)
        self._making = asyncio.Lock()
        self._relief: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Delete the files of archives that have expired, or that were not finished."""
        self._builder.open(self._stored.write, self._make_space_to_build, self._recalls.release)
        loop = asyncio.get_running_loop()
        self._state.make_space = partial(loop.call_soon_threadsafe, self._begin_relief)
        await self._stored.correct_uses()
        await self._relieve(margin=False)
        if self._recalls.are_possible:
            await self._wait_again()

    async def close(self) -> None:
        """Stop waiting for recalls, and deleting files for want of space."""
        self._state.make_space = lambda: None
        await self._recalls.close()
        self.threads.shutdown(wait=False, cancel_futures=True)
        if self._relief:
            await self._relief

    async def make(self, order: BundleOrder, group: str | None = None) -> tuple[Bundle, float]:
        """Return the bundle of what an order of a group selects now, and its age in s.

        Raise InvalidRequest if it is too large, NotFound for a name that does not exist, QuotaExceeded.
        """
        check_order(order)
        result = await self._queries.read(lambda connection: find(connection, order))
        now = time.time_ns()
        info = await asyncio.to_thread(describe, order, result, now)
        async with self._making:
            row = await self._stored.find(info.bundle) or new_row(order, info, now)
            row = replace(row, as_of=max(row.as_of, result.as_of))
            if await self._is_available(row):
                await self._stored.write(partial(table.change, bundle=row.id, as_of=row.as_of))
                await self._stored.count_use(row)
            else:
                row = await self._restore(row, result, group)
        return await self._describe(row), max(now - row.made, 0) / _SECOND  # the clock may have been set back

    async def get(self, bundle: str) -> Bundle:
        """Return a bundle, or raise NotFound."""
        return await self._describe(await self._stored.get(bundle))

    async def next_state(
        self, bundle: str, after: int | None, seconds: float, gone: Callable[[], Awaitable[bool]]
    ) -> Bundle:
        """Return a bundle when it is no longer built, or its percent is another than `after`, or after `seconds`.

        Return it early if the caller is `gone` or the service stops; raise NotFound if it does not exist.
        """
        loop = asyncio.get_running_loop()
        stop = loop.time() + seconds
        while True:
            change = self._changes.next_change(bundle)
            found = await self.get(bundle)
            is_news = found.state is not BundleState.BUILDING or after not in {None, found.percent}
            while not (is_news or change.done()):
                if self._changes.stopping or loop.time() >= stop or await gone():
                    return found
                await asyncio.wait([change], timeout=min(stop - loop.time(), _GONE_SECONDS))
            if is_news:
                return found

    def stop_waiting(self) -> None:
        """Answer every request that waits for a change of a bundle: the service is stopping."""
        self._changes.stop_waiting()

    async def archive(self, bundle: str, group: str | None = None) -> Archive:
        """Return the archive of a bundle, made again for a group if it was deleted.

        Raise NotFound, BundleNotReady or QuotaExceeded.
        """
        row = await self._ready(bundle, group)
        if row.format is BundleFormat.TAR:
            await self._queries.check_folders(partial(self._segments, row.id))
            if self._recalls.are_possible:
                await self._recalls.check(row.id, await self._batches(row.id))
        return await self._opened.get(row)

    async def file(self, bundle: str, name: str, group: str | None = None) -> Archive:
        """Return the strain file of a bundle of one channel under a name, as `archive` does."""
        row = await self._ready(bundle, group)
        return await asyncio.to_thread(open_file, row.format, row.id, name, self._cache)

    def _open(self, row: BundleRow) -> Archive:
        return open_archive(row.format, row.id, self._cache, self._builder.files.opener)

    def _segments(self, bundle: str) -> list[str]:
        return [entry.name for entry in self._cache.manifest(bundle).segments]

    async def _batches(self, bundle: str) -> set[str]:
        """Return the batches of the segments of a bundle."""
        names = await asyncio.to_thread(self._segments, bundle)
        return await self._queries.read(lambda connection: batches_of(connection, names))

    async def _ready(self, bundle: str, group: str | None) -> BundleRow:
        async with self._making:
            row = await self._stored.get(bundle)
            is_ready = row.state is BundleState.READY
            if row.state is BundleState.EXPIRED or (is_ready and not await self._is_available(row)):
                row = await self._restore(row, await self._select_again(row), group)
        await self._stored.count_use(row)
        if row.state is not BundleState.READY:
            found = await self._describe(row)
            is_building = found.state is BundleState.BUILDING
            state = f"is {found.percent} % built" if is_building else f"is {found.state}; make it again"
            reason = f": {found.reason}" if found.reason else ""
            raise BundleNotReady(
                f"the archive of bundle {bundle} {state}{reason}", retry_after=_RETRY_SECONDS if is_building else None
            )
        return row

    async def cancel(self, bundle: str) -> Bundle:
        """Stop the building of an archive, or delete it; return the bundle."""
        async with self._making:
            row = replace(await self._stored.get(bundle), state=BundleState.CANCELLED)
            await self._stored.write(partial(table.change, bundle=bundle, state=row.state, held=0), with_reserve=True)
            self._builder.stop(bundle)
            self._recalls.stop(bundle)
            self._opened.forget(bundle)
            self._changes.announce(bundle)
            if not self.space.is_read(bundle):
                await asyncio.to_thread(self._cache.remove, bundle)
        await self._recalls.release(bundle)
        return await self._describe(row)

    # ---- making

    async def _is_available(self, row: BundleRow) -> bool:
        match row.state:
            case BundleState.READY:
                return await asyncio.to_thread(self._cache.has, row.id)
            case BundleState.BUILDING:
                return (await self._progress(row.id)).state is BundleState.BUILDING
            case _:
                return False

    async def _select_again(self, row: BundleRow) -> Result:
        """Return the segments of a bundle whose files were deleted; raise NotFound if they changed meanwhile."""
        order = msgspec.json.decode(row.selection, type=BundleOrder)
        result = await self._queries.read(lambda connection: find(connection, order, before=row.as_of))
        if result.digest != info_of(row).digest:
            raise NotFound(f"the archive of bundle {row.id} was deleted, and what it selects has changed; make another")
        return result

    async def _restore(self, row: BundleRow, result: Result, group: str | None) -> BundleRow:
        """Make the files of a bundle, or let them be built for a group; return its row."""
        manifest, held = BundleManifest(info_of(row), result.entries()), 0
        if row.format.is_built:
            held = bytes_needed(manifest)
            self.space.check_size(held)
            await self.space.make_for_group(group, held, row.id)
        await self.space.make(bundle=row.id)
        batches = {segment.batch for segment in result.segments}
        needs_bytes = row.format is not BundleFormat.MANIFEST
        must_wait = needs_bytes and await self._recalls.begin(row.id, batches)
        self._opened.forget(row.id)
        await asyncio.to_thread(self._cache.put_manifest, row.id, manifest)
        row = replace(row, state=BundleState.BUILDING, used=steady_ns(), reason=None)
        row = replace(row, group=group if held else None, held=held)
        if not row.format.is_built:
            archive = await self._opened.get(row)
            row = replace(row, state=BundleState.BUILDING if must_wait else BundleState.READY, size=archive.size)
        await self._stored.write(partial(_store, row=row))
        if must_wait:
            self._recalls.wait(row.id, batches, partial(self._continue, row))
        elif row.state is BundleState.BUILDING:
            await self._build(row)
        return row

    async def _build(self, row: BundleRow) -> None:
        info = info_of(row)
        await self._builder.request(row.id, {"format": row.format, "segments": info.n, "bytes": info.bytes})

    async def _continue(self, row: BundleRow, failure: str | None) -> None:
        """Finish a bundle whose batches are back from tape; with a `failure`, they cannot be brought back."""
        change = partial(table.change, bundle=row.id, only_if=BundleState.BUILDING)
        if failure:
            await self._stored.write(partial(change, state=BundleState.FAILED, held=0, reason=failure))
        elif row.format.is_built:
            await self._build(row)
        else:
            await self._stored.write(partial(change, state=BundleState.READY))

    async def _wait_again(self) -> None:
        """Continue the bundles that waited for recalls in an earlier process."""
        for row in await self._stored.all():
            if row.state is BundleState.BUILDING and not await self._builder.is_ordered(row.id):
                self._recalls.wait(row.id, await self._batches(row.id), partial(self._continue, row))

    async def _progress(self, bundle: str) -> Progress:
        if waiting := self._recalls.waiting(bundle):
            return Progress(BundleState.BUILDING, waiting.percent, waiting.reason)
        return await self._builder.progress(bundle)

    def _begin_relief(self) -> None:
        if self._relief is None or self._relief.done():
            self._relief = asyncio.create_task(self._relieve(margin=True))

    async def _relieve(self, *, margin: bool) -> None:
        async with self._making:
            await self.space.relieve(margin=margin)

    async def _make_space_to_build(self, needed: int, bundle: str) -> None:
        async with self._making:
            await self.space.make_to_build(needed, bundle)

    async def _describe(self, row: BundleRow) -> Bundle:
        return as_bundle(row, await self._progress(row.id))


def _store(connection: sa.Connection, row: BundleRow) -> None:
    table.put(connection, row)
    table.use(connection, row.id, row.used)
