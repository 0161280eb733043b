"""The table of files in holdings: reads, and the changes of rows.

Every function works on the connection of a transaction. A path is in a holding once, among files that are WAITING or
COMPLETE; what failed or was deleted does not take it.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa

from databuffer.holdings.rows import FileRow, HoldingRow, TransactionRow
from databuffer.holdings.table import count, in_portions
from databuffer.storage.catalog.database import portions
from databuffer.storage.catalog.schema import FILE_PACKS, HOLDING_FILES, LIVE, TRANSACTIONS, WAITS
from gwwire.holdings import FileOutcome, FileState, PathType, TransactionKind

_T, _F = TRANSACTIONS.c, HOLDING_FILES.c
#: The positions of these columns in a row.
_TYPE, _STATE = FileRow._fields.index("type"), FileRow._fields.index("state")


def file(connection: sa.Connection, number: int) -> FileRow | None:
    """Return a file, or None if it does not exist."""
    row = connection.execute(sa.select(HOLDING_FILES).where(_F.number == number)).first()
    return None if row is None else _file(row)


def file_at(connection: sa.Connection, holding: int, path: str) -> FileRow | None:
    """Return the file of a holding at a path that is waiting or complete, or None."""
    row = connection.execute(sa.select(HOLDING_FILES).where(_F.holding == holding, _F.path == path, LIVE)).first()
    return None if row is None else _file(row)


def files_at(connection: sa.Connection, holding: int, paths: Iterable[str]) -> dict[str, FileRow]:
    """Return the files of a holding at paths that are waiting or complete."""
    found = {}
    for some in portions(paths):
        rows = connection.execute(sa.select(HOLDING_FILES).where(_F.holding == holding, _F.path.in_(some), LIVE))
        found.update({row.path: _file(row) for row in rows})
    return found


def file_of(connection: sa.Connection, transaction: int, path: str) -> FileRow | None:
    """Return the file that a transaction put at a path, or None; of several, one that has not failed."""
    mine = sa.select(HOLDING_FILES).where(_F.transaction == transaction, _F.path == path)
    row = connection.execute(mine.order_by(_F.state == FileState.FAILED, _F.number)).first()
    return None if row is None else _file(row)


def paths_in(connection: sa.Connection, holding: int, after: str, below: str = "") -> Iterator[tuple[str, int]]:
    """Yield path and number of the files of a holding that are waiting or complete, by path; `below` a folder."""
    mine = sa.select(_F.path, _F.number).where(_F.holding == holding, LIVE)
    if below:  # "0" is the character after the slash
        mine = mine.where(_F.path > below, _F.path < below[:-1] + "0")
    for row in in_portions(connection, mine, _F.path, after):
        yield row.path, row.number


def files(connection: sa.Connection, numbers: Iterable[int]) -> list[FileRow]:
    """Return files by their numbers, in the order of their paths."""
    found: list[FileRow] = []
    for some in portions(numbers):
        found += map(_file, connection.execute(sa.select(HOLDING_FILES).where(_F.number.in_(some))))
    return sorted(found, key=lambda row: (row.path, row.number))


def files_of(
    connection: sa.Connection, transaction: TransactionRow, state: FileState | None, after: str, limit: int
) -> list[FileRow]:
    """Return the files that a transaction put or deleted, in the order of their paths."""
    column = _F.transaction if transaction.kind is TransactionKind.PUT else _F.deletion
    mine = sa.select(HOLDING_FILES).where(column == transaction.number, _F.path > after)
    if state is not None:
        mine = mine.where(_F.state == state)
    return [_file(row) for row in connection.execute(mine.order_by(_F.path, _F.number).limit(limit))]


def outcomes(connection: sa.Connection, transaction: int) -> list[FileOutcome]:
    """Return what became of the files of a transaction, in the order in which they were added."""
    mine = sa.select(_F.path, _F.state, _F.reason).where(_F.transaction == transaction).order_by(_F.number)
    return [FileOutcome(row.path, FileState(row.state), row.reason) for row in connection.execute(mine)]


def next_file(connection: sa.Connection) -> int:
    """Return the number of the next file."""
    return (connection.execute(sa.select(sa.func.max(_F.number))).scalar() or 0) + 1


def insert_files(connection: sa.Connection, rows: list[FileRow]) -> None:
    """Insert files."""
    if rows:
        connection.execute(sa.insert(HOLDING_FILES), [row._asdict() for row in rows])


def change_file(connection: sa.Connection, number: int, *, only_if: FileState, **values: Any) -> bool:
    """Change columns of a file that has a state; return whether it has it."""
    statement = sa.update(HOLDING_FILES).where(_F.number == number, _F.state == only_if)
    return bool(connection.execute(statement.values(**values)).rowcount)


def still_waiting(connection: sa.Connection, rows: Iterable[FileRow]) -> list[FileRow]:
    """Return those of some files that wait for bytes by now."""
    known = {row.number: row for row in rows}
    found: list[FileRow] = []
    for some in portions(known):
        numbers = connection.execute(sa.select(_F.number).where(_F.number.in_(some), WAITS)).scalars()
        found += [known[number] for number in numbers]
    return found


def fail_files(connection: sa.Connection, rows: Iterable[FileRow], reason: str) -> None:
    """Mark files as failed."""
    values = {"state": FileState.FAILED, "reason": reason}
    for some in portions(row.number for row in rows):
        connection.execute(sa.update(HOLDING_FILES).where(_F.number.in_(some)).values(values))


def waiting(
    connection: sa.Connection, *, holding: int | None = None, before: int | None = None, limit: int = -1
) -> list[FileRow]:
    """Return files that wait for bytes, of a holding, or of transactions that began before a time."""
    mine = sa.select(HOLDING_FILES).where(WAITS)
    if holding is not None:
        mine = mine.where(_F.holding == holding)
    if before is not None:
        mine = mine.where(_F.transaction.in_(sa.select(_T.number).where(_T.time < before)))
    mine = mine if limit < 0 else mine.limit(limit)
    return [_file(row) for row in connection.execute(mine)]


def delete_files(connection: sa.Connection, of: HoldingRow, deletion: int, now: int, path: str | None = None) -> int:
    """Mark the complete files of a holding, or the one at a path, as deleted; return their number."""
    wanted = [_F.holding == of.id, _F.state == FileState.COMPLETE, LIVE]
    if path is not None:
        wanted.append(_F.path == path)
    size = connection.execute(sa.select(sa.func.coalesce(sa.func.sum(_F.size), 0)).where(*wanted)).scalar() or 0
    values = {"state": FileState.DELETED, "deleted": now, "deletion": deletion}
    number = connection.execute(sa.update(HOLDING_FILES).where(*wanted).values(values)).rowcount
    count(connection, of.id, -number, -size, size)
    return int(number)


def undelete_files(connection: sa.Connection, deletion: TransactionRow) -> tuple[int, int]:
    """Restore what a transaction deleted; return the numbers of files restored, and of those whose path is taken."""
    other = HOLDING_FILES.alias()
    taken = sa.exists().where(
        other.c.holding == _F.holding,
        other.c.path == _F.path,
        other.c.state.in_([FileState.WAITING, FileState.COMPLETE]),
    )
    mine = [_F.deletion == deletion.number, _F.state == FileState.DELETED]
    free = connection.execute(sa.select(_F.number, _F.size).where(*mine, ~taken)).all()
    total = connection.execute(sa.select(sa.func.count()).select_from(HOLDING_FILES).where(*mine)).scalar() or 0
    values = {"state": FileState.COMPLETE, "deleted": None, "deletion": None}
    for some in portions(row.number for row in free):
        connection.execute(sa.update(HOLDING_FILES).where(_F.number.in_(some)).values(values))
    size = sum(row.size for row in free)
    count(connection, deletion.holding, len(free), size, -size)
    return len(free), total - len(free)


def deleted_before(connection: sa.Connection, before: int, limit: int) -> list[FileRow]:
    """Return files that were deleted before a time, and that no pack has."""
    deletions = sa.select(_T.number).where(_T.kind == TransactionKind.DELETE, _T.time < before)
    mine = sa.select(HOLDING_FILES).where(
        *(_F.deletion.in_(deletions), _F.state == FileState.DELETED, _F.deleted < before),
        ~sa.exists().where(FILE_PACKS.c.transaction == _F.transaction),
    )
    return [_file(row) for row in connection.execute(mine.limit(limit))]


def remove_files(connection: sa.Connection, rows: Iterable[FileRow]) -> None:
    """Delete the rows of deleted files for good."""
    sizes: dict[int, int] = {}
    rows = list(rows)
    for row in rows:
        sizes[row.holding] = sizes.get(row.holding, 0) + row.size
    for some in portions(row.number for row in rows):
        connection.execute(sa.delete(HOLDING_FILES).where(_F.number.in_(some)))
    for number, size in sizes.items():
        count(connection, number, 0, 0, -size)


def _file(row: Any) -> FileRow:
    values = list(row)
    values[_TYPE], values[_STATE] = PathType(values[_TYPE]), FileState(values[_STATE])
    return FileRow._make(values)
