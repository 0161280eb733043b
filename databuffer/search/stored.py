"""The stored bundles: their rows, looked up in threads and changed on the commit thread, and their public form."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import msgspec
import sqlalchemy as sa

from databuffer.errors import NotFound
from databuffer.ingest.pipeline import Ingest
from databuffer.ledger_changes import LedgerChanges
from databuffer.queries import Queries
from databuffer.search import table
from databuffer.search.builder import Progress
from databuffer.search.result import canonical
from databuffer.search.table import BundleRow
from databuffer.state import State
from databuffer.storage.clock import steady_ns, wall_ns
from databuffer.storage.store import Store
from gwwire.bundles import Bundle, BundleInfo, BundleOrder, BundleState

T = TypeVar("T")

_SECOND, _DAY = 10**9, 86_400 * 10**9
#: The time for which an archive is kept after its last use.
KEPT = 7 * _DAY
#: A use is not counted again so soon: downloads come in many ranges.
_USE = 60 * _SECOND


class StoredBundles:
    """The table of bundles; its methods raise VolumeError."""

    def __init__(self, store: Store, state: State, ingest: Ingest, queries: Queries) -> None:
        self._changes = LedgerChanges(store, state, ingest)
        self._queries = queries

    async def all(self) -> list[BundleRow]:
        """Return all bundles, those whose archives are deleted first in front."""
        return await self._queries.read(table.all_bundles)

    async def find(self, bundle: str) -> BundleRow | None:
        """Return a bundle, or None."""
        return await self._queries.read(lambda connection: table.get(connection, bundle))

    async def get(self, bundle: str) -> BundleRow:
        """Return a bundle, or raise NotFound."""
        row = await self.find(bundle)
        if row is None:
            raise NotFound(f"there is no bundle {bundle!r}")
        return row

    async def correct_uses(self) -> None:
        """Move to now the uses that an earlier process stored as later, because its clock was ahead."""
        now = steady_ns()
        if await self._queries.read(table.last_use) > now:
            await self.write(partial(table.correct_uses, now=now), with_reserve=True)

    async def count_use(self, row: BundleRow) -> None:
        """Count a use of a bundle now, unless one was counted a short time ago."""
        now = steady_ns()
        if abs(now - row.used) >= _USE:  # the clock may have been set back since
            await self.write(partial(table.use, bundle=row.id, now=now))

    async def write(self, change: Callable[[sa.Connection], T], *, with_reserve: bool = False) -> T:
        """Change the table; `with_reserve`: it has to succeed on a full volume too."""
        return await self._changes.make(change, with_reserve=with_reserve)


def new_row(order: BundleOrder, info: BundleInfo, now: int) -> BundleRow:
    """Return the row of a bundle without an archive."""
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


def info_of(row: BundleRow) -> BundleInfo:
    """Return the description of the archive of a bundle."""
    return msgspec.json.decode(row.info, type=BundleInfo)


def as_bundle(row: BundleRow, progress: Progress) -> Bundle:
    """Return the description of a bundle that clients get."""
    info = info_of(row)
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
        expires=wall_ns(row.used + KEPT) / _SECOND,
        covered=info.covered,
        gaps=info.gaps,
        query=info.query,
        reason=row.reason if is_built else progress.reason,
        note=None if info.n else f"no segment stored up to seq {row.as_of} matches: the archive has no data",
        left_out=info.left_out if row.state is BundleState.READY else [],
    )
