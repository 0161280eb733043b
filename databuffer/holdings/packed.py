"""The table of packs of files: of which transactions the files are a pack, and which bytes the disk has to keep.

Every function works on the connection of a transaction of the database. A transaction has a pack from the moment in
which its manifest is on the disk and its row here, until the pack is deleted from all tiers. The files in it are
purged together, when all of them were deleted. The disk has the files of a pack unless it has no replica of it.
"""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from databuffer.holdings import file_table, table
from databuffer.holdings.rows import FileRow, TransactionRow
from databuffer.storage.catalog.batches import FILES_RECORD
from databuffer.storage.catalog.schema import FILE_PACKS, HOLDING_FILES, REPLICAS, TRANSACTIONS
from gwwire.holdings import MOST_FILES, FileState, PathType, TransactionKind
from gwwire.tiering import DISK, ReplicaState

_P, _T, _F = FILE_PACKS.c, TRANSACTIONS.c, HOLDING_FILES.c


@dataclass(frozen=True)
class Packed:
    """A transaction whose files are a pack, by number, when the last of them was complete, in ns, and their bytes."""

    transaction: int
    pack: str
    archived: int
    bytes: int


@dataclass(frozen=True)
class Needed:
    """A content that the disk has to keep, and the number of a file that has it."""

    size: int
    file: int


def pack_of(transaction: str) -> str:
    """Return the id of the pack of a transaction's files."""
    return FILES_RECORD + transaction


def find(connection: sa.Connection, pack: str) -> Packed | None:
    """Return the row of a pack, or None if there is none."""
    row = connection.execute(sa.select(FILE_PACKS).where(_P.pack == pack)).first()
    return None if row is None else Packed(**row._asdict())


def all_packs(connection: sa.Connection) -> list[Packed]:
    """Return all packs."""
    return [Packed(**row._asdict()) for row in connection.execute(sa.select(FILE_PACKS).order_by(_P.transaction))]


def is_packed(connection: sa.Connection, transaction: int) -> bool:
    """Return whether the files of a transaction are a pack."""
    return connection.execute(sa.select(_P.pack).where(_P.transaction == transaction)).first() is not None


def insert(connection: sa.Connection, row: Packed) -> None:
    """Insert a pack."""
    connection.execute(sa.insert(FILE_PACKS), vars(row))


def remove(connection: sa.Connection, pack: str) -> None:
    """Remove a pack; its files can be purged."""
    connection.execute(sa.delete(FILE_PACKS).where(_P.pack == pack))


def unpacked(connection: sa.Connection, deleted_after: int, limit: int) -> list[TransactionRow]:
    """Return transactions that have ended, have files with bytes that can still be read or restored, and no pack."""
    kept = sa.or_(_F.state == FileState.COMPLETE, sa.and_(_F.state == FileState.DELETED, _F.deleted >= deleted_after))
    statement = (
        sa.select(TRANSACTIONS)
        .where(
            *(_T.kind == TransactionKind.PUT, _T.complete > 0, _T.complete + _T.failed == _T.files),
            ~sa.exists().where(_P.transaction == _T.number),
            sa.exists().where(_F.transaction == _T.number, _F.type == PathType.FILE, kept),
        )
        .order_by(_T.number)
        .limit(limit)
    )
    return [table.transaction_row(row) for row in connection.execute(statement)]


def files_to_pack(connection: sa.Connection, transaction: TransactionRow) -> list[FileRow]:
    """Return the files of a transaction that are complete, or were deleted and can be restored, by path."""
    found = file_table.files_of(connection, transaction, None, "", MOST_FILES + 1)
    return [row for row in found if row.state in {FileState.COMPLETE, FileState.DELETED}]


def expired(connection: sa.Connection, before: int, limit: int) -> list[Packed]:
    """Return packs of which all files were deleted before a time."""
    statement = sa.select(FILE_PACKS).where(_is_expired(before)).limit(limit)
    return [Packed(**row._asdict()) for row in connection.execute(statement)]


def is_expired(connection: sa.Connection, pack: str, before: int) -> bool:
    """Return whether all files of a pack were deleted before a time."""
    return connection.execute(sa.select(_P.pack).where(_P.pack == pack, _is_expired(before))).first() is not None


def _is_expired(before: int) -> sa.ColumnElement[bool]:
    left = sa.or_(
        _F.state.in_([FileState.WAITING, FileState.COMPLETE]),
        sa.and_(_F.state == FileState.DELETED, _F.deleted >= before),
    )
    return ~sa.exists().where(_F.transaction == _P.transaction, left)


# ---- bytes in tiers


def bytes_gone_from(connection: sa.Connection, group: str, tier: str) -> int:
    """Return the bytes of the packs of a group's files that the disk has dropped, or another tier has evicted."""
    replica = REPLICAS.c
    mine = replica.pack == _P.pack, replica.tier == tier
    evicted = replica.state == ReplicaState.EVICTED
    gone = ~sa.exists().where(*mine) if tier == DISK else sa.exists().where(*mine, evicted)
    packs = sa.select(_P.bytes).where(_P.transaction.in_(sa.select(_T.number).where(_T.group == group)), gone)
    return sum(connection.execute(packs).scalars())


# ---- bytes on the disk


def is_needed_on_disk(connection: sa.Connection, sha256: str) -> bool:
    """Return whether a file has these bytes, deleted ones among them, and the disk has to keep them for it."""
    mine = sa.select(_F.number).where(_F.sha256 == sha256, _on_disk(_F))
    return connection.execute(mine.limit(1)).first() is not None


def needed(connection: sa.Connection) -> dict[str, Needed]:
    """Return all contents that the disk has to keep, by SHA-256."""
    mine = sa.select(_F.sha256, _F.size, sa.func.min(_F.number)).where(_F.sha256.is_not(None), _on_disk(_F))
    return {
        digest: Needed(size, number) for digest, size, number in connection.execute(mine.group_by(_F.sha256, _F.size))
    }


def needed_by_others(connection: sa.Connection, transaction: int) -> set[str]:
    """Return those contents of a transaction's files that the disk has to keep for files of others."""
    other = HOLDING_FILES.alias("other")
    mine = sa.select(_F.sha256).where(
        *(_F.transaction == transaction, _F.sha256.is_not(None)),
        sa.exists().where(other.c.sha256 == _F.sha256, other.c.transaction != transaction, _on_disk(other.c)),
    )
    return {digest for digest in connection.execute(mine).scalars() if digest is not None}


def _on_disk(file: Any) -> sa.ColumnElement[bool]:
    """Return the clause that the disk keeps a file: it is in no pack, or the disk has its pack and does not drop it."""
    in_pack = sa.exists().where(_P.transaction == file.transaction)
    replica = REPLICAS.c
    has_pack = sa.exists().where(
        *(_P.transaction == file.transaction, replica.pack == _P.pack),
        *(replica.tier == DISK, replica.state != ReplicaState.DELETING),
    )
    return sa.or_(~in_pack, has_pack)
