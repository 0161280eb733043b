"""The space of the files of bundles: which are deleted, and which are being read."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import sqlalchemy as sa

from databuffer.errors import VolumeError
from databuffer.search import table
from databuffer.search.builder import Builder, check_space
from databuffer.search.cache import to_delete
from databuffer.search.opened import OpenedArchives
from databuffer.search.quota import BundleQuota
from databuffer.search.stored import KEPT, StoredBundles
from databuffer.search.table import BundleRow
from databuffer.storage.clock import steady_ns
from databuffer.storage.files import Space
from databuffer.storage.store import Store
from gwwire.bundles import BundleState
from gwwire.decoding import InvalidRequest

log = logging.getLogger(__name__)

#: The time for which a bundle without an archive is remembered after its last use.
_REMEMBERED = 90 * 86_400 * 10**9


class BundleSpace:
    """Deletes the files of bundles that are used least when all have more than `limit` bytes, or a group its quota.

    They are also deleted while the volume has less space than is kept for segments. Who calls holds the lock of
    `Bundles`, but for `reading`.
    """

    def __init__(  # noqa: PLR0913, PLR0917 (the parts of the buffer)
        self,
        store: Store,
        stored: StoredBundles,
        builder: Builder,
        opened: OpenedArchives,
        limit: int,
        quota: BundleQuota,
    ) -> None:
        self._store = store
        self._stored = stored
        self._builder = builder
        self._cache = builder.cache
        self._opened = opened
        self._limit = limit
        self.quota = quota
        self._readers: Counter[str] = Counter()

    @contextmanager
    def reading(self, bundle: str) -> Iterator[None]:
        """Keep the files of a bundle until the block ends."""
        self._readers[bundle] += 1
        try:
            yield
        finally:
            self._readers[bundle] -= 1

    def is_read(self, bundle: str) -> bool:
        """Return whether the files of a bundle are being read."""
        return self._readers[bundle] > 0

    async def held(self) -> dict[str, int]:
        """Return the bytes of the files that were built for each group; the name of no group is empty."""
        held: Counter[str] = Counter()
        for row in await self._that_take_space():
            if row.held:
                held[row.group or ""] += row.held
        return held

    def check_size(self, needed: int) -> None:
        """Raise InvalidRequest if the files need more bytes than all bundles may have."""
        if needed > self._limit:
            limit = f"BUNDLE_CACHE allows {self._limit:,}; select a shorter span, or the format tar"
            raise InvalidRequest(f"format: the files need {needed:,} bytes; {limit}", field="format")

    async def make_for_group(self, group: str | None, needed: int, bundle: str) -> None:
        """Delete bundles of a group until its quota allows the files of another; raise QuotaExceeded if it never does.

        A bundle whose building has failed takes no space.
        """
        if group is not None and self.quota.limit:
            rows = [row for row in await self._that_take_space() if row.id != bundle]
            await self._delete(self.quota.to_delete(group, needed, rows, self._in_use()))

    async def make(self, needed: int = 0, bundle: str = "", *, margin: bool = False) -> None:
        """Delete archives that have expired, and those used least, until there is space for the files of a bundle.

        With `margin`, the space that is kept for segments is left too.
        """
        await self._delete(await asyncio.to_thread(self._to_delete, needed, bundle, margin=margin))

    async def make_to_build(self, needed: int, bundle: str) -> None:
        """Do `make` for files that are built now; raise VolumeFull if there is too little space."""
        await self.make(needed, bundle, margin=True)
        await asyncio.to_thread(check_space, self._store.volume.root, needed)

    async def relieve(self, *, margin: bool) -> None:
        """Do `make`; an archive that is deleted, but cannot be marked so, is made again when it is read."""
        try:
            await self.make(margin=margin)
        except VolumeError as error:
            log.warning("bundles cannot be deleted: %s", error.detail, extra={"event": "bundles-deleted"})

    async def _that_take_space(self) -> list[BundleRow]:
        return [row for row in await self._stored.all() if not await self._has_failed(row)]

    async def _has_failed(self, row: BundleRow) -> bool:
        is_building = row.state is BundleState.BUILDING
        return is_building and (await self._builder.progress(row.id)).state is BundleState.FAILED

    async def _delete(self, deleted: Sequence[str]) -> None:
        """Delete the files of some bundles, and forget those that were not used for long."""
        now = steady_ns()

        def expire(connection: sa.Connection) -> None:
            for each in deleted:
                table.change(connection, each, only_if=BundleState.READY, state=BundleState.EXPIRED, held=0)
            table.forget(connection, now - _REMEMBERED)

        if deleted:
            log.info("the files of %d bundles are deleted", len(deleted), extra={"event": "bundles-deleted"})
            self._opened.forget(*deleted)
            await asyncio.to_thread(self._cache.remove, *deleted)  # first, as the change may need the space
            await self._stored.write(expire, with_reserve=True)

    def _to_delete(self, needed: int, bundle: str, *, margin: bool) -> list[str]:
        sizes, oldest = self._cache.sizes(), steady_ns() - KEPT
        if not sizes:
            return []
        with self._store.catalog.database.reading() as connection:
            rows = table.all_bundles(connection)
        building = {row.id for row in rows if row.state is BundleState.BUILDING}
        ready = {row.id for row in rows if row.state is BundleState.READY and row.used >= oldest}
        in_use = {bundle} | building | self._in_use()
        expired = sorted(sizes.keys() - ready - in_use)
        left = {each: size for each, size in sizes.items() if each not in expired}
        allowed = self._limit - needed
        if margin:
            space = Space.of(self._store.volume.root)
            allowed = min(allowed, sum(sizes.values()) + space.free - space.margin - needed)
        return expired + list(to_delete(left, [row.id for row in rows], in_use, allowed))

    def _in_use(self) -> set[str]:
        """Return the bundles whose files are being read."""
        return {bundle for bundle, readers in self._readers.items() if readers}
