"""Orders and questions about replicas of batches, and the policy of one batch."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import sqlalchemy as sa
from msgspec import structs

from databuffer.errors import BatchNotArchived, NotFound, VolumeError
from databuffer.queries import Queries
from databuffer.storage.catalog import BatchRow
from databuffer.storage.catalog.batches import BATCH_RECORD
from databuffer.storage.clock import steady_ns
from databuffer.storage.dropped import read_dropped
from databuffer.storage.store import Store
from databuffer.tiers.ledger import pins, replicas
from databuffer.tiers.ledger.locality import is_whole, locality_of
from databuffer.tiers.ledger.replicas import ReplicaRow
from databuffer.tiers.moves.mover import Mover
from databuffer.tiers.moves.replica_ledger import ReplicaLedger, as_replica
from databuffer.tiers.orders.attempts import NextAttempt, next_attempts
from databuffer.tiers.packs.batch_pack import has_pack
from databuffer.tiers.packs.packs import Packs, record_of
from databuffer.tiers.upkeep.sweep import Sweep
from gwwire.decoding import InvalidRequest
from gwwire.public import BatchState
from gwwire.tiering import DISK, BatchLocality, BatchReplicas, Replica, ReplicaState, Tiering

_SECOND = 10**9


class TierOrders:
    """Answers questions about replicas, and changes the policy of batches."""

    def __init__(  # noqa: PLR0913, PLR0917 (the parts of the buffer)
        self, store: Store, packs: Packs, queries: Queries, ledger: ReplicaLedger, mover: Mover, sweep: Sweep
    ) -> None:
        self._store = store
        self._packs = packs
        self._queries = queries
        self._ledger = ledger
        self._mover = mover
        self._sweep = sweep

    async def all_replicas(self) -> list[BatchReplicas]:
        """Return the replicas of all archived batches with a manifest, the oldest first."""
        rows = [row for row in await self._queries.batches() if has_pack(row)]
        return await self._described(rows)

    async def replicas(self, batch: str) -> BatchReplicas:
        """Return the replicas of one batch; raise NotFound or BatchNotArchived."""
        row = await self._queries.batch(batch)
        if row.state is not BatchState.ARCHIVED:
            raise BatchNotArchived(f"batch {batch!r} is {row.state}; only an archived batch has a policy")
        if not has_pack(row):
            raise NotFound(f"batch {batch!r} never had a manifest")
        return (await self._described([row]))[0]

    async def set_tiering(self, batch: str, tiering: Tiering) -> BatchReplicas:
        """Set the policy of one archived batch; raise InvalidRequest if it names a tier that does not exist."""
        if unknown := set(tiering.archive_to) - self._mover.tiers.keys():
            names = ", ".join(self._mover.tiers) or "none"
            raise InvalidRequest(f"archive_to: no tier {min(unknown)!r}; TIERS names {names}", field="archive_to")
        await self.replicas(batch)
        await self._ledger.change(partial(replicas.put_tiering, pack=BATCH_RECORD + batch, tiering=tiering))
        await asyncio.to_thread(self._renew_dropped, batch)
        self._sweep.ask()
        return await self.replicas(batch)

    def _renew_dropped(self, batch: str) -> None:
        found = self._packs.get(BATCH_RECORD + batch)
        if found.is_dropped:
            self._ledger.write_dropped(found)

    async def localities(self, rows: Sequence[BatchRow]) -> dict[str, tuple[BatchLocality, BatchReplicas]]:
        """Return where each of some batches is, and its replicas; nothing is asked of the tiers.

        Without tiers, a batch that none was ever given is left out.
        """
        packed = [row for row in rows if has_pack(row)]
        if not self._mover.tiers:
            known = await self.localities_of(row.id for row in packed)
            packed = [row for row in packed if row.id in known]
        found = await self._described(packed) if packed else []
        return {each.batch: (locality_of(each.replicas, self._mover.tiers), each) for each in found}

    async def localities_of(self, batches: Iterable[str]) -> dict[str, BatchLocality]:
        """Return where batches, or packs of files by their ids, are; one that no tier was ever given is left out."""
        packs = {record_of(batch): batch for batch in batches}
        found = await self._queries.read(lambda connection: self.localities_of_packs(connection, packs))
        return {packs[pack]: where for pack, where in found.items()}

    def localities_of_packs(self, connection: sa.Connection, packs: Iterable[str]) -> dict[str, BatchLocality]:
        """Return where some packs are; one that no tier was ever given is left out."""
        found = replicas.of_packs(connection, packs)
        return {pack: locality_of(rows, self._mover.tiers) for pack, rows in found.items()}

    async def is_in_tiers_only(self, batch: str) -> bool:
        """Return whether tiers have a batch, or a pack of files by its id, and the disk has not; no tier is asked."""
        pack = record_of(batch)
        rows = (await self._queries.read(lambda connection: replicas.of_packs(connection, [pack]))).get(pack, [])
        whole = {row.tier for row in rows if is_whole(row)}
        return bool(whole) and DISK not in whole

    async def _described(self, rows: Sequence[BatchRow]) -> list[BatchReplicas]:
        def look(connection: sa.Connection) -> list[BatchReplicas]:
            known = replicas.of_packs(connection, [BATCH_RECORD + row.id for row in rows])
            pinned = pins.pinned(connection, steady_ns())
            tierings = replicas.all_tierings(connection)
            every = (each for rows_of_pack in known.values() for each in rows_of_pack)
            following = next_attempts(connection, every, self._mover.cache, steady_ns() / _SECOND)
            return [
                self._describe(
                    row,
                    known.get(BATCH_RECORD + row.id, []),
                    tierings.get(BATCH_RECORD + row.id),
                    following,
                    is_pinned=BATCH_RECORD + row.id in pinned,
                )
                for row in rows
            ]

        return await self._queries.read(look)

    def _describe(
        self,
        row: BatchRow,
        known: Sequence[ReplicaRow],
        tiering: Tiering | None,
        following: Mapping[tuple[str, str], NextAttempt],
        *,
        is_pinned: bool,
    ) -> BatchReplicas:
        size = max((each.size for each in known), default=row.buff_size)
        cache, tiers = self._mover.cache, {DISK, *self._mover.tiers}
        found = [
            _with_next_attempt(
                as_replica(each, is_pinned=is_pinned and each.tier == cache, in_tiers=each.tier in tiers),
                following.get((each.pack, each.tier)),
            )
            for each in known
        ]
        archived = (row.archived or 0) / _SECOND
        if all(each.tier != DISK for each in known) and not self._is_dropped(row):
            # Nothing has read it since it was archived.
            found.insert(0, Replica(DISK, row.path, size, None, ReplicaState.WRITTEN, written=archived))
        return BatchReplicas(row.id, size, archived, tiering, found)

    def _is_dropped(self, row: BatchRow) -> bool:
        try:
            return read_dropped(self._store.volume.root / row.path) is not None
        except VolumeError:
            return True


def _with_next_attempt(replica: Replica, following: NextAttempt | None) -> Replica:
    if following is None:
        return replica
    return structs.replace(replica, again=following.at, error=following.reason or replica.error)
