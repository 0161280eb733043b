"""Bundles: the files of a query's result as one archive.

A bundle is identified by what was asked for and by what the answer was. An order is compared with the store each time,
so that the answer is never older: if a matching segment has arrived, it is another bundle.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TypeVar

import msgspec
import sqlalchemy as sa

from databuffer.errors import BundleNotReady, NotFound, VolumeError
from databuffer.ingest.pipeline import Ingest
from databuffer.queries import Queries
from databuffer.search import table
from databuffer.search.archive import Archive, open_archive, open_file
from databuffer.search.builder import Builder, bytes_needed, check_space
from databuffer.search.cache import to_delete
from databuffer.search.result import Result, canonical, check_order, describe, find
from databuffer.search.table import BundleRow
from databuffer.state import State
from databuffer.storage.files import Space
from databuffer.storage.store import Store
from gwwire.bundles import Bundle, BundleFormat, BundleInfo, BundleManifest, BundleOrder, BundleState
from gwwire.decoding import InvalidRequest

T = TypeVar("T")
log = logging.getLogger(__name__)

_SECOND, _DAY = 10**9, 86_400 * 10**9
#: After the last use of an archive, or of a bundle without one.
_KEPT, _REMEMBERED = 7 * _DAY, 90 * _DAY
#: A use is not counted again so soon: downloads come in many ranges.
_USE = 60 * _SECOND
_RETRY_SECONDS = 2


class Bundles:
    """Makes bundles, and deletes the archives that are used least when they have more than `cache_size` bytes.

    They are also deleted while the volume has less space than is kept for segments.
    """

    def __init__(  # noqa: PLR0913, PLR0917 (the parts of the buffer)
        self, store: Store, state: State, ingest: Ingest, queries: Queries, builder: Builder, cache_size: int
    ) -> None:
        self._store = store
        self._state = state
        self._ingest = ingest
        self._queries = queries
        self._builder = builder
        self._cache = builder.cache
        self._cache_size = cache_size
        self._making = asyncio.Lock()
        self._reading: Counter[str] = Counter()
        self._relief: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Delete the files of archives that have expired, or that were not finished."""
        self._builder.open(self._write, self._make_space_to_build)
        loop = asyncio.get_running_loop()
        self._state.make_space = partial(loop.call_soon_threadsafe, self._begin_relief)
        await self._relieve(margin=False)

    async def close(self) -> None:
        """Stop deleting files for want of space."""
        self._state.make_space = lambda: None
        if self._relief:
            await self._relief

    async def make(self, order: BundleOrder) -> tuple[Bundle, float]:
        """Return the bundle of what an order selects now, and its age in s.

        Raise InvalidRequest if it is too large, NotFound for a name that does not exist.
        """
        check_order(order)
        result = await self._queries.read(lambda connection: find(connection, order))
        now = time.time_ns()
        info = await asyncio.to_thread(describe, order, result, now)
        async with self._making:
            row = await self._find(info.bundle) or _row(order, info, now)
            row = replace(row, as_of=max(row.as_of, result.as_of))
            if await self._is_available(row):
                await self._write(partial(table.change, bundle=row.id, as_of=row.as_of))
                await self._count_use(row, now)
            else:
                row = await self._restore(row, result)
        return await self._describe(row), (now - row.made) / _SECOND

    async def get(self, bundle: str) -> Bundle:
        """Return a bundle, or raise NotFound."""
        return await self._describe(await self._get(bundle))

    async def archive(self, bundle: str) -> Archive:
        """Return the archive of a bundle, made again if it was deleted; raise NotFound or BundleNotReady."""
        row = await self._ready(bundle)
        if row.format is BundleFormat.TAR:
            await self._queries.check_folders(partial(self._segments, row.id))
        return await asyncio.to_thread(open_archive, row.format, row.id, self._cache, self._builder.open_segment)

    async def file(self, bundle: str, name: str) -> Archive:
        """Return one of the HDF5 files of a bundle, as `archive` does."""
        row = await self._ready(bundle)
        return await asyncio.to_thread(open_file, row.format, row.id, name, self._cache)

    def _segments(self, bundle: str) -> list[str]:
        return [entry.name for entry in self._cache.manifest(bundle).segments]

    async def _ready(self, bundle: str) -> BundleRow:
        async with self._making:
            row = await self._get(bundle)
            is_ready = row.state is BundleState.READY
            if row.state is BundleState.EXPIRED or (is_ready and not await self._is_available(row)):
                row = await self._restore(row, await self._select_again(row))
        await self._count_use(row, time.time_ns())
        if row.state is not BundleState.READY:
            found = await self._describe(row)
            is_building = found.state is BundleState.BUILDING
            state = f"is {found.percent} % built" if is_building else f"is {found.state}; make it again"
            reason = f": {found.reason}" if found.reason else ""
            raise BundleNotReady(
                f"the archive of bundle {bundle} {state}{reason}", retry_after=_RETRY_SECONDS if is_building else None
            )
        return row

    @contextmanager
    def reading(self, bundle: str) -> Iterator[None]:
        """Keep the files of a bundle until the block ends."""
        self._reading[bundle] += 1
        try:
            yield
        finally:
            self._reading[bundle] -= 1

    async def cancel(self, bundle: str) -> Bundle:
        """Stop the building of an archive, or delete it; return the bundle."""
        async with self._making:
            row = replace(await self._get(bundle), state=BundleState.CANCELLED)
            await self._write(partial(table.change, bundle=bundle, state=row.state), with_reserve=True)
            self._builder.stop(bundle)
            if not self._reading[bundle]:
                await asyncio.to_thread(self._cache.remove, bundle)
        return await self._describe(row)

    # ---- making

    async def _is_available(self, row: BundleRow) -> bool:
        match row.state:
            case BundleState.READY:
                return await asyncio.to_thread(self._cache.has, row.id)
            case BundleState.BUILDING:
                return (await self._builder.progress(row.id)).state is BundleState.BUILDING
            case _:
                return False

    async def _select_again(self, row: BundleRow) -> Result:
        """Return the segments of a bundle whose files were deleted; raise NotFound if they changed meanwhile."""
        order = msgspec.json.decode(row.selection, type=BundleOrder)
        result = await self._queries.read(lambda connection: find(connection, order, before=row.as_of))
        if result.digest != _info(row).digest:
            raise NotFound(f"the archive of bundle {row.id} was deleted, and what it selects has changed; make another")
        return result

    async def _restore(self, row: BundleRow, result: Result) -> BundleRow:
        """Make the files of a bundle, or let them be built; return its row."""
        manifest = BundleManifest(_info(row), result.entries())
        if row.format is BundleFormat.HDF5:
            self._check_size(bytes_needed(manifest))
        await self._make_space(bundle=row.id)
        await asyncio.to_thread(self._cache.put_manifest, row.id, manifest)
        row = replace(row, state=BundleState.BUILDING, used=time.time_ns())
        if row.format is not BundleFormat.HDF5:
            archive = await asyncio.to_thread(open_archive, row.format, row.id, self._cache, self._builder.open_segment)
            row = replace(row, state=BundleState.READY, size=archive.size)
        await self._write(partial(_store, row=row))
        if row.state is BundleState.BUILDING:
            info = manifest.info
            await self._builder.request(row.id, {"format": row.format, "segments": info.n, "bytes": info.bytes})
        return row

    def _check_size(self, needed: int) -> None:
        """Raise InvalidRequest if HDF5 files need more bytes than all bundles may have."""
        if needed > self._cache_size:
            limit = f"BUNDLE_CACHE allows {self._cache_size:,}; select a shorter span, or the format tar"
            raise InvalidRequest(f"format: the HDF5 files need {needed:,} bytes; {limit}", field="format")

    async def _make_space_to_build(self, needed: int, bundle: str) -> None:
        async with self._making:
            await self._make_space(needed, bundle, margin=True)
            await asyncio.to_thread(check_space, self._store.volume.root, needed)

    def _begin_relief(self) -> None:
        if self._relief is None or self._relief.done():
            self._relief = asyncio.create_task(self._relieve(margin=True))

    async def _relieve(self, *, margin: bool) -> None:
        """Do `_make_space`; an archive that is deleted, but cannot be marked so, is made again when it is read."""
        try:
            async with self._making:
                await self._make_space(margin=margin)
        except VolumeError as error:
            log.warning("bundles cannot be deleted: %s", error.detail, extra={"event": "bundles-deleted"})

    async def _make_space(self, needed: int = 0, bundle: str = "", *, margin: bool = False) -> None:
        """Delete archives that have expired, and those used least, until there is space for the files of a bundle.

        With `margin`, the space that is kept for segments is left too.
        """
        deleted = await asyncio.to_thread(self._to_delete, needed, bundle, margin=margin)
        now = time.time_ns()

        def expire(connection: sa.Connection) -> None:
            for each in deleted:
                table.change(connection, each, only_if=BundleState.READY, state=BundleState.EXPIRED)
            table.forget(connection, now - _REMEMBERED)

        if deleted:
            log.info("the files of %d bundles are deleted", len(deleted), extra={"event": "bundles-deleted"})
            await asyncio.to_thread(self._cache.remove, *deleted)  # first, as the change may need the space
            await self._write(expire, with_reserve=True)

    def _to_delete(self, needed: int, bundle: str, *, margin: bool) -> list[str]:
        sizes, oldest = self._cache.sizes(), time.time_ns() - _KEPT
        if not sizes:
            return []
        with self._store.catalog.database.reading() as connection:
            rows = table.all_bundles(connection)
        building = {row.id for row in rows if row.state is BundleState.BUILDING}
        ready = {row.id for row in rows if row.state is BundleState.READY and row.used >= oldest}
        in_use = {bundle} | building | {each for each, readers in self._reading.items() if readers}
        expired = sorted(sizes.keys() - ready - in_use)
        left = {each: size for each, size in sizes.items() if each not in expired}
        allowed = self._cache_size - needed
        if margin:
            space = Space.of(self._store.volume.root)
            allowed = min(allowed, sum(sizes.values()) + space.free - space.margin - needed)
        return expired + list(to_delete(left, [row.id for row in rows], in_use, allowed))

    # ---- rows

    async def _describe(self, row: BundleRow) -> Bundle:
        info, progress = _info(row), await self._builder.progress(row.id)
        is_built = row.state is not BundleState.BUILDING
        return Bundle(
            id=row.id,
            format=row.format,
            state=row.state if is_built else progress.state,
            percent=100 * (row.state is BundleState.READY) if is_built else progress.percent,
            as_of=row.as_of,
            n=info.n,
            bytes=info.bytes,
            digest=info.digest,
            size=row.size,
            made=row.made / _SECOND,
            expires=(row.used + _KEPT) / _SECOND,
            covered=info.covered,
            gaps=info.gaps,
            query=info.query,
            reason=None if is_built else progress.reason,
        )

    async def _get(self, bundle: str) -> BundleRow:
        row = await self._find(bundle)
        if row is None:
            raise NotFound(f"there is no bundle {bundle!r}")
        return row

    async def _find(self, bundle: str) -> BundleRow | None:
        return await self._queries.read(lambda connection: table.get(connection, bundle))

    async def _count_use(self, row: BundleRow, now: int) -> None:
        if now - row.used >= _USE:
            await self._write(partial(table.use, bundle=row.id, now=now))

    async def _write(self, change: Callable[[sa.Connection], T], *, with_reserve: bool = False) -> T:
        """Change the table of bundles; `with_reserve`: it has to succeed on a full volume too."""

        def write() -> T:
            reserve = self._store.reserve.released() if with_reserve else nullcontext()
            with reserve, self._store.catalog.database.writing_synced() as connection:
                return change(connection)

        def run() -> T:
            done = self._state.run(write)
            self._store.ledger_backup_due()
            return done

        return await self._ingest.perform(run)


def _row(order: BundleOrder, info: BundleInfo, now: int) -> BundleRow:
    return BundleRow(
        id=info.bundle,
        format=order.format,
        state=BundleState.EXPIRED,
        selection=canonical(order),
        info=msgspec.json.encode(info).decode(),
        as_of=info.as_of,
        made=now,
        used=0,
        uses=0,
    )


def _store(connection: sa.Connection, row: BundleRow) -> None:
    table.put(connection, row)
    table.use(connection, row.id, row.used)


def _info(row: BundleRow) -> BundleInfo:
    return msgspec.json.decode(row.info, type=BundleInfo)
