"""The replicas in the ledger, for the threads in which packs are moved: reads there, writes on the commit thread."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa

from databuffer import metrics
from databuffer.errors import MoveFailed
from databuffer.ingest.pipeline import Ingest
from databuffer.ledger_changes import LedgerChanges
from databuffer.state import State
from databuffer.storage.dropped import Dropped, write_dropped
from databuffer.storage.store import Store
from databuffer.tiers.ledger import replicas
from databuffer.tiers.ledger.replicas import ReplicaRow
from databuffer.tiers.packs.pack import PackDamaged
from databuffer.tiers.packs.source import PackSource
from gwwire.tiering import DISK, Replica, ReplicaState

T = TypeVar("T")

_SECOND = 10**9
_THERE = frozenset({ReplicaState.VERIFIED, ReplicaState.WRITTEN})
#: The states of replicas that TIERS.json names, as it has them: what a tier evicts is not copied back.
_IN_FILE = {
    ReplicaState.VERIFIED: ReplicaState.VERIFIED,
    ReplicaState.DELETING: ReplicaState.EVICTED,
    ReplicaState.EVICTED: ReplicaState.EVICTED,
}


class ReplicaLedger:
    """The tables of replicas; its methods are called in threads, and raise VolumeError."""

    def __init__(self, store: Store, state: State, ingest: Ingest) -> None:
        self._store = store
        self._state = state
        self._changes = LedgerChanges(store, state, ingest)
        self._ingest = ingest
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Use the running event loop."""
        self._loop = asyncio.get_running_loop()

    async def change(self, change: Callable[[sa.Connection], T], *, with_reserve: bool = False) -> T:
        """Change the tables in one transaction, on the commit thread; it is durable on return.

        `with_reserve`: it has to succeed on a full volume too.
        """
        return await self._changes.make(change, with_reserve=with_reserve)

    def write(self, change: Callable[[sa.Connection], T], *, with_reserve: bool = False) -> T:
        """Do `change` from a thread."""
        return self._wait(self.change(change, with_reserve=with_reserve))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None  # noqa: S101 (steps are performed after `open`)
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def of(self, source: PackSource) -> dict[str, ReplicaRow]:
        """Return the replicas of a pack by tier."""
        with self._store.catalog.database.reading() as connection:
            return {row.tier: row for row in replicas.of_pack(connection, source.id)}

    def there(self, tier: str) -> list[ReplicaRow]:
        """Return the replicas that a tier has: those that are VERIFIED, or WRITTEN."""
        with self._store.catalog.database.reading() as connection:
            return [row for row in replicas.in_tier(connection, tier) if row.state in _THERE]

    def is_empty(self) -> bool:
        """Return whether no replica is known: there is none, or the ledger was lost."""
        with self._store.catalog.database.reading() as connection:
            return replicas.is_empty(connection)

    def note_verified(self, row: ReplicaRow) -> None:
        """Store a replica as VERIFIED; raise MoveFailed if it is being deleted."""
        if not self.write(partial(replicas.note_verified, found=row)):
            raise MoveFailed(f"the replica of {row.pack} in {row.tier} is being deleted")

    def note_lost(self, seen: ReplicaRow, problem: str) -> None:
        """Mark a replica as LOST, and log an error, unless it has changed since it was read."""
        if self.write(partial(replicas.note_lost, seen=seen, error=problem)):
            metrics.LOST_REPLICAS.labels(seen.tier).inc()
            text = f"the replica of {seen.pack} in {seen.tier} is lost: {problem}"
            self._state.log_event("replica-lost", text, logging.ERROR, pack=seen.pack, tier=seen.tier)

    def put_unless_known(self, row: ReplicaRow, *, is_listed: bool = False) -> None:
        """Store a replica if its tier has none of the pack; `is_listed` by the tier, it was not evicted."""
        with self._store.catalog.database.reading() as connection:
            is_known = _is_known(connection, row, is_listed=is_listed)
        if not is_known:
            self.write(partial(_put_unless_known, row=row, is_listed=is_listed))

    def put_on_disk(self, source: PackSource) -> None:
        """Store that the disk has a pack, unless that is known, or the disk has dropped it."""
        if DISK not in self.of(source):
            self.write(partial(_put_on_disk, source=source))

    @contextmanager
    def losing(self, source: PackSource, seen: ReplicaRow) -> Iterator[None]:
        """Mark a replica of a pack as LOST if the block, which reads it, raises PackDamaged."""
        try:
            yield
        except PackDamaged as error:
            self._store.volume.check_identity()  # a volume that was unmounted is not damaged
            if seen.tier != DISK or not source.is_dropped:  # by now
                self.put_unless_known(seen)
                self.note_lost(seen, str(error))
            raise

    def write_dropped(self, source: PackSource) -> None:
        """Store in the folder of a pack which replicas it has in the tiers, or had, on a full volume too."""

        def write() -> None:
            with self._store.catalog.database.reading() as connection:
                rows, tiering = replicas.of_pack(connection, source.id), replicas.tiering_of(connection, source.id)
            there = [row for row in rows if row.state in _IN_FILE and row.tier != DISK]
            named = [as_replica(replace(row, state=_IN_FILE[row.state])) for row in there]
            with self._store.reserve.released():  # which belongs to the commit thread
                write_dropped(source.folder, Dropped(source.name, named, tiering))

        self._wait(self._ingest.perform(write))

    def take_dropped(self, source: PackSource, dropped: Dropped) -> None:
        """Add what TIERS.json says and the ledger does not; the disk has no whole replica then."""
        self.write(partial(_take_dropped, source=source, dropped=dropped, files_left=bool(source.present())))


def as_replica(row: ReplicaRow, *, is_pinned: bool = False, in_tiers: bool = True) -> Replica:
    """Return the public form of a replica; `in_tiers`: its tier exists."""
    # To the microsecond: a float of Unix seconds has no more digits, and is the same after it was read from TIERS.json.
    times = (row.written, row.verified, row.used)
    written, verified, used = (None if at is None else round(at / _SECOND, 6) for at in times)
    return Replica(
        *(row.tier, row.key, row.size, row.sha256, row.state, written, verified, used),
        pinned=is_pinned,
        error=row.error,
        in_tiers=in_tiers,
    )


def _put_unless_known(connection: sa.Connection, row: ReplicaRow, *, is_listed: bool) -> None:
    if not _is_known(connection, row, is_listed=is_listed):
        replicas.put(connection, row)


def _is_known(connection: sa.Connection, row: ReplicaRow, *, is_listed: bool) -> bool:
    known = replicas.get(connection, row.pack, row.tier)
    return known is not None and not (is_listed and known.state is ReplicaState.EVICTED)


def _put_on_disk(connection: sa.Connection, source: PackSource) -> None:
    if not source.is_dropped:  # since it was looked up
        _put_unless_known(connection, source.on_disk(ReplicaState.WRITTEN), is_listed=False)


def _take_dropped(connection: sa.Connection, source: PackSource, dropped: Dropped, *, files_left: bool) -> None:
    known = {row.tier: row for row in replicas.of_pack(connection, source.id)}
    for each in dropped.replicas:
        if each.tier not in known:
            written, verified = (None if at is None else round(at * _SECOND) for at in (each.written, each.verified))
            row = ReplicaRow(source.id, each.tier, each.key, each.size, each.state, each.sha256, written, verified)
            replicas.put(connection, row)
    if dropped.tiering and replicas.tiering_of(connection, source.id) is None:
        replicas.put_tiering(connection, source.id, dropped.tiering)
    disk = known.get(DISK)
    if disk and disk.state in {ReplicaState.DELETING, ReplicaState.WRITING}:
        return  # it goes on
    if files_left:
        replicas.put(connection, source.on_disk(ReplicaState.DELETING))
    elif disk:
        replicas.remove(connection, source.id, DISK)
