"""The tables of replicas: where packs are, and where they should be.

Every function works on the connection of a transaction. A pack has the id of the record that it belongs to, such as
`batch/ID`. A replica is counted only while it is VERIFIED: its bytes were read and compared. The last of those is never
deleted: `begin_delete` looks for another one in the transaction in which it marks a replica as DELETING.

WRITING → WRITTEN → VERIFIED → DELETING → (gone); VERIFIED → LOST → WRITING; DELETING → VERIFIED or LOST.
The cache of a tape keeps the row of what it deletes: DELETING → EVICTED → WRITING. The policy is content with that.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from databuffer.errors import Refused
from databuffer.storage.catalog.batches import BATCH_RECORD
from databuffer.storage.catalog.database import portions, upsert
from databuffer.storage.catalog.schema import BATCHES, FILE_PACKS, REPLICAS, TIERINGS
from databuffer.tiers.ledger import pins
from gwwire.public import BatchState
from gwwire.tiering import DISK, ReplicaState, Tiering

_C = REPLICAS.c


class LastReplica(Refused):
    """No other replica of the pack is VERIFIED."""


class Pinned(Refused):
    """The replica is kept for a reader."""


class ReplicaBusy(Refused):
    """The replica is being deleted."""


@dataclass(frozen=True)
class ReplicaRow:
    """A copy of a pack in a tier; times are nanoseconds of Unix time.

    `size` and `sha256` are those of the pack, on the disk too, where `key` is the folder.
    """

    pack: str
    tier: str
    key: str
    size: int
    state: ReplicaState
    sha256: str | None = None
    written: int | None = None
    verified: int | None = None
    used: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class Archive:
    """A pack with a policy, when it was archived, and its replicas by tier: an archived batch, or files.

    While it is `pinned`, it is kept where it can be read.
    """

    pack: str
    archived: int
    tiering: Tiering
    replicas: dict[str, ReplicaRow]
    pinned: bool = False


def get(connection: sa.Connection, pack: str, tier: str) -> ReplicaRow | None:
    """Return a replica, or None if there is none."""
    row = connection.execute(sa.select(REPLICAS).where(_C.pack == pack, _C.tier == tier)).first()
    return None if row is None else _row(row)


def of_pack(connection: sa.Connection, pack: str) -> list[ReplicaRow]:
    """Return the replicas of a pack, by tier."""
    return [_row(row) for row in connection.execute(sa.select(REPLICAS).where(_C.pack == pack).order_by(_C.tier))]


def of_packs(connection: sa.Connection, packs: Iterable[str]) -> dict[str, list[ReplicaRow]]:
    """Return the replicas of some packs, by pack."""
    found: dict[str, list[ReplicaRow]] = {}
    for some in portions(packs):
        query = sa.select(REPLICAS).where(_C.pack.in_(some)).order_by(_C.pack, _C.tier)
        for row in connection.execute(query):
            found.setdefault(row.pack, []).append(_row(row))
    return found


def all_replicas(connection: sa.Connection) -> dict[str, list[ReplicaRow]]:
    """Return all replicas by pack."""
    found: dict[str, list[ReplicaRow]] = {}
    for row in connection.execute(sa.select(REPLICAS).order_by(_C.pack, _C.tier)):
        found.setdefault(row.pack, []).append(_row(row))
    return found


def longest_unverified(connection: sa.Connection, tiers: Iterable[str], before: int, limit: int) -> list[ReplicaRow]:
    """Return replicas in some tiers that were verified last before a time, the oldest first.

    One on the disk that was never compared is older than all others; in a tier, a copy compares it.
    """
    is_due = sa.and_(_C.state == ReplicaState.VERIFIED, _C.verified < before)
    is_unread = sa.and_(_C.state == ReplicaState.WRITTEN, _C.tier == DISK)
    wanted = sa.or_(is_due, is_unread), _C.tier.in_(list(tiers))
    order = sa.func.coalesce(_C.verified, 0), _C.pack, _C.tier
    query = sa.select(REPLICAS).where(*wanted).order_by(*order).limit(limit)
    return [_row(row) for row in connection.execute(query)]


def in_tier(connection: sa.Connection, tier: str) -> list[ReplicaRow]:
    """Return the replicas in a tier."""
    return [_row(row) for row in connection.execute(sa.select(REPLICAS).where(_C.tier == tier).order_by(_C.pack))]


def evictable(connection: sa.Connection, tier: str, others: Iterable[str]) -> list[ReplicaRow]:
    """Return the replicas VERIFIED in a tier whose pack is also VERIFIED in one of some others.

    The one that was used least recently is the first; to be compared is no use.
    """
    elsewhere = sa.select(_C.pack).where(_C.tier.in_(list(others)), _C.state == ReplicaState.VERIFIED)
    query = sa.select(REPLICAS).where(_C.tier == tier, _C.state == ReplicaState.VERIFIED, _C.pack.in_(elsewhere))
    found = [_row(row) for row in connection.execute(query)]
    return sorted(found, key=lambda row: (row.used or row.written or row.verified or 0, row.pack))


def is_empty(connection: sa.Connection) -> bool:
    """Return whether no replica is known."""
    return connection.execute(sa.select(_C.pack).limit(1)).first() is None


def unverified(connection: sa.Connection, tiers: Iterable[str]) -> list[ReplicaRow]:
    """Return the replicas in some tiers that are WRITTEN and not compared yet, by tier and pack."""
    wanted = _C.state == ReplicaState.WRITTEN, _C.tier.in_(list(tiers))
    return [_row(row) for row in connection.execute(sa.select(REPLICAS).where(*wanted).order_by(_C.tier, _C.pack))]


# ---- writing


def correct_times(connection: sa.Connection, latest: int) -> None:
    """Move to `latest` when packs were archived, or replicas verified or used later: the clock was ahead."""
    later = (BATCHES, "archived"), (FILE_PACKS, "archived"), (REPLICAS, "verified"), (REPLICAS, "used")
    for table, column in later:
        connection.execute(sa.update(table).where(table.c[column] > latest).values({column: latest}))


def put(connection: sa.Connection, row: ReplicaRow) -> None:
    """Insert a replica, or replace its row."""
    connection.execute(upsert(connection.dialect, REPLICAS), vars(row))


def begin_write(connection: sa.Connection, pack: str, tier: str, key: str, size: int) -> None:
    """Note that a replica is being written, or written again; raise ReplicaBusy if it is being deleted."""
    known = get(connection, pack, tier)
    if known and known.state is ReplicaState.DELETING:
        raise ReplicaBusy(f"the replica of {pack} in {tier} is being deleted")
    put(connection, ReplicaRow(pack, tier, key, size, ReplicaState.WRITING, error=known.error if known else None))


def note_written(connection: sa.Connection, pack: str, tier: str, sha256: str, now: int) -> None:
    """Note that a replica that was being written is whole, according to its tier; it is not compared yet."""
    _change(connection, pack, tier, ReplicaState.WRITING, state=ReplicaState.WRITTEN, sha256=sha256, written=now)


def note_verified(connection: sa.Connection, found: ReplicaRow, *, only_if: ReplicaState | None = None) -> bool:
    """Store a replica as VERIFIED unless it is being deleted, or has not the state `only_if`; return whether it was."""
    known = get(connection, found.pack, found.tier)
    if known and known.state is ReplicaState.DELETING:
        return False
    if only_if is not None and (known is None or known.state is not only_if):
        return False
    written = found.written or (known.written if known else None) or found.verified
    used = found.used or (known.used if known else None)
    values = {"state": ReplicaState.VERIFIED, "written": written, "used": used, "error": None}
    put(connection, ReplicaRow(**{**vars(found), **values}))
    return True


def note_lost(connection: sa.Connection, seen: ReplicaRow, error: str) -> bool:
    """Mark a replica as LOST if it is as it was `seen`, before its bytes were read; return whether it was."""
    values = {"state": ReplicaState.LOST, "error": error}
    mine = _C.pack == seen.pack, _C.tier == seen.tier, _C.state == seen.state
    at = _C.verified.is_(None) if seen.verified is None else _C.verified == seen.verified
    return bool(connection.execute(sa.update(REPLICAS).where(*mine, at).values(**values)).rowcount)


def note_used(connection: sa.Connection, pack: str, tier: str, now: int) -> None:
    """Note that a replica was read for a caller."""
    _change(connection, pack, tier, ReplicaState.VERIFIED, used=now)


# ---- deleting


def begin_delete(
    connection: sa.Connection,
    pack: str,
    tier: str,
    *,
    among: Collection[str],
    unless_pinned_at: int | None = None,
) -> None:
    """Mark a replica as DELETING; raise LastReplica unless another one is VERIFIED.

    `among` are the tiers that there are besides the disk; one in another tier does not count. For a replica that is
    marked already, the rule is checked again. With a time, raise Pinned if the pack is pinned then.
    """
    if unless_pinned_at is not None and pins.is_pinned(connection, pack, unless_pinned_at):
        raise Pinned(f"{pack} is kept in {tier} for a reader")
    # PostgreSQL locks the rows until the commit: of two deletions, the second sees what the first did.
    query = sa.select(REPLICAS).where(_C.pack == pack).order_by(_C.tier).with_for_update()
    rows = [_row(row) for row in connection.execute(query)]
    others = [row.tier for row in rows if row.state is ReplicaState.VERIFIED and row.tier != tier]
    if not {DISK, *among}.intersection(others):
        where = f" in a tier that TIERS names, only in {', '.join(others)}" if others else ""
        raise LastReplica(f"{pack}: no replica outside {tier} is VERIFIED{where}")
    mine = _C.pack == pack, _C.tier == tier
    connection.execute(sa.update(REPLICAS).where(*mine).values(state=ReplicaState.DELETING))


def note_deleted(connection: sa.Connection, pack: str, tier: str) -> None:
    """Remove a replica that was DELETING."""
    mine = _C.pack == pack, _C.tier == tier, _C.state == ReplicaState.DELETING
    connection.execute(sa.delete(REPLICAS).where(*mine))


def note_evicted(connection: sa.Connection, pack: str, tier: str) -> None:
    """Note that a replica that was DELETING is gone from the cache of a tape."""
    _change(connection, pack, tier, ReplicaState.DELETING, state=ReplicaState.EVICTED)


def remove(connection: sa.Connection, pack: str, tier: str) -> None:
    """Forget a replica that is not there."""
    connection.execute(sa.delete(REPLICAS).where(_C.pack == pack, _C.tier == tier))


def begin_discard(connection: sa.Connection, pack: str) -> None:
    """Mark all replicas of a pack that nobody needs any more as DELETING; it has no policy and no pins afterwards."""
    connection.execute(sa.delete(TIERINGS).where(TIERINGS.c.pack == pack))
    pins.release_pack(connection, pack)
    connection.execute(sa.update(REPLICAS).where(_C.pack == pack).values(state=ReplicaState.DELETING))


def remove_all(connection: sa.Connection, pack: str) -> None:
    """Forget all replicas of a pack."""
    connection.execute(sa.delete(REPLICAS).where(_C.pack == pack))


def keep(connection: sa.Connection, pack: str, tier: str, now: int, problem: str | None) -> None:
    """End a deletion that must not be finished: the replica is VERIFIED again, or LOST because of a `problem`."""
    if problem is None:
        values: dict[str, Any] = {"state": ReplicaState.VERIFIED, "verified": now, "error": None}
    else:
        values = {"state": ReplicaState.LOST, "error": problem}
    _change(connection, pack, tier, ReplicaState.DELETING, **values)


# ---- where packs should be


def put_tiering(connection: sa.Connection, pack: str, tiering: Tiering) -> None:
    """Store the policy of a pack, or replace it."""
    row = {"pack": pack, "tiering": msgspec.json.encode(tiering).decode()}
    connection.execute(upsert(connection.dialect, TIERINGS), row)


def have_files_other_tiering(connection: sa.Connection, tiering: Tiering) -> bool:
    """Return whether a pack of files has another policy than this."""
    return connection.execute(sa.select(TIERINGS.c.pack).where(_differs(tiering)).limit(1)).first() is not None


def set_file_tierings(connection: sa.Connection, tiering: Tiering) -> None:
    """Replace the policies of all packs of files."""
    text = msgspec.json.encode(tiering).decode()
    connection.execute(sa.update(TIERINGS).where(_differs(tiering)).values(tiering=text))


def _differs(tiering: Tiering) -> sa.ColumnElement[bool]:
    of_files = TIERINGS.c.pack.in_(sa.select(FILE_PACKS.c.pack))
    return sa.and_(of_files, TIERINGS.c.tiering != msgspec.json.encode(tiering).decode())


def tiering_of(connection: sa.Connection, pack: str) -> Tiering | None:
    """Return the policy of a pack, or None if it has none."""
    found = connection.execute(sa.select(TIERINGS.c.tiering).where(TIERINGS.c.pack == pack)).scalar()
    return None if found is None else _tiering(found)


def all_tierings(connection: sa.Connection) -> dict[str, Tiering]:
    """Return the policies of all packs that have one."""
    return {row.pack: _tiering(row.tiering) for row in connection.execute(sa.select(TIERINGS))}


def archives(connection: sa.Connection, now: int) -> list[Archive]:
    """Return the packs that have a policy, the oldest first, with the pins of a time."""
    batch = sa.literal(BATCH_RECORD) + BATCHES.c.id
    batches = (
        sa.select(TIERINGS.c.pack, BATCHES.c.archived.label("archived"), TIERINGS.c.tiering)
        .join(BATCHES, TIERINGS.c.pack == batch)
        .where(BATCHES.c.state == BatchState.ARCHIVED, BATCHES.c.frozen.is_not(None))
    )
    files = sa.select(TIERINGS.c.pack, FILE_PACKS.c.archived, TIERINGS.c.tiering).join(
        FILE_PACKS, TIERINGS.c.pack == FILE_PACKS.c.pack
    )
    query = sa.union_all(batches, files).order_by("archived", "pack")
    replicas, pinned = all_replicas(connection), pins.pinned(connection, now)
    return [
        Archive(
            row.pack,
            row.archived,
            _tiering(row.tiering),
            {each.tier: each for each in replicas.get(row.pack, [])},
            row.pack in pinned,
        )
        for row in connection.execute(query)
    ]


def _tiering(text: str) -> Tiering:
    return msgspec.json.decode(text, type=Tiering)


def _change(connection: sa.Connection, pack: str, tier: str, present: ReplicaState, **values: Any) -> None:
    """Change a replica if it has a state."""
    mine = _C.pack == pack, _C.tier == tier, _C.state == present
    connection.execute(sa.update(REPLICAS).where(*mine).values(**values))


def _row(row: Any) -> ReplicaRow:
    values = row._asdict()
    return ReplicaRow(**{**values, "state": ReplicaState(row.state)})
