"""The tables of holdings and transactions: reads, and the changes of rows; `file_table` has those of files.

Every function works on the connection of a transaction.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from databuffer.holdings.rows import Caller, HoldingRow, TransactionRow
from databuffer.storage.catalog.database import portions
from databuffer.storage.catalog.schema import (
    HOLDING_FILES,
    HOLDING_TAGS,
    HOLDINGS,
    LIVE,
    TRANSACTIONS,
)
from gwwire.holdings import FileState, TransactionKind

_H, _T, _F, _TAG = HOLDINGS.c, TRANSACTIONS.c, HOLDING_FILES.c, HOLDING_TAGS.c
#: Rows that one query returns.
_ROWS = 1001


# ---- holdings


@dataclass(frozen=True)
class HoldingFilter:
    """Selects holdings; None selects all. `path` is of a complete file that they have."""

    user: str | None = None
    group: str | None = None
    label: str | None = None
    tags: Mapping[str, str] | None = None
    path: str | None = None
    deleted: bool = False


def holding(connection: sa.Connection, number: int) -> HoldingRow | None:
    """Return a holding, or None if it does not exist."""
    row = connection.execute(sa.select(HOLDINGS).where(_H.id == number)).first()
    return None if row is None else HoldingRow(**row._asdict())


def by_label(connection: sa.Connection, user: str, label: str) -> HoldingRow | None:
    """Return the holding of a user with a label, or None; deleted holdings have given theirs up."""
    mine = sa.select(HOLDINGS).where(_H.user == user, _H.label == label, _H.deleted.is_(None))
    row = connection.execute(mine).first()
    return None if row is None else HoldingRow(**row._asdict())


def holdings(
    connection: sa.Connection, caller: Caller, wanted: HoldingFilter, after: int | None, *, descending: bool
) -> Iterator[HoldingRow]:
    """Yield the holdings that a caller may read and a filter selects, by id."""
    statement = sa.select(HOLDINGS).where(*_readable(_H, caller))
    statement = statement.where(_H.deleted.is_not(None) if wanted.deleted else _H.deleted.is_(None))
    for column, value in ((_H.user, wanted.user), (_H.group, wanted.group), (_H.label, wanted.label)):
        statement = statement if value is None else statement.where(column == value)
    for name, value in (wanted.tags or {}).items():
        having = sa.select(_TAG.holding).where(_TAG.name == name, _TAG.value == value)
        statement = statement.where(_H.id.in_(having))
    if wanted.path is not None:
        there = sa.exists().where(_F.holding == _H.id, _F.path == wanted.path, _F.state == FileState.COMPLETE, LIVE)
        statement = statement.where(there)
    for row in in_portions(connection, statement, _H.id, after, descending=descending):
        yield HoldingRow(**row._asdict())


def insert_holding(connection: sa.Connection, row: HoldingRow) -> None:
    """Insert a holding."""
    connection.execute(sa.insert(HOLDINGS), vars(row))


def next_holding(connection: sa.Connection) -> int:
    """Return an id that no holding has had; transactions are kept longer than holdings."""
    used = (connection.execute(sa.select(sa.func.max(each))).scalar() for each in (_H.id, _T.holding))
    return max(each or 0 for each in used) + 1


def is_unused(connection: sa.Connection, number: int) -> bool:
    """Return whether no holding has, or had, an id."""
    used = (sa.select(each).where(each == number).limit(1) for each in (_H.id, _T.holding))
    return all(connection.execute(query).first() is None for query in used)


def change_holding(connection: sa.Connection, number: int, **values: Any) -> None:
    """Change columns of a holding."""
    connection.execute(sa.update(HOLDINGS).where(_H.id == number).values(**values))


def count(connection: sa.Connection, number: int, files: int, size: int, deleted: int = 0) -> None:
    """Add to the files, bytes and deleted bytes of a holding."""
    change_holding(
        connection, number, files=_H.files + files, bytes=_H.bytes + size, deleted_bytes=_H.deleted_bytes + deleted
    )


def bytes_of_group(connection: sa.Connection, group: str) -> int:
    """Return the bytes of all holdings of a group, with those that are deleted and not purged."""
    # A sum of integers overflows, which is an error.
    total = sa.select(sa.func.sum(sa.cast(_H.bytes + _H.deleted_bytes, sa.Double))).where(_H.group == group)
    return int(connection.execute(total).scalar() or 0)


def tags(connection: sa.Connection, numbers: Iterable[int]) -> dict[int, dict[str, str]]:
    """Return the tags of holdings, by name, for each that has some."""
    found: dict[int, dict[str, str]] = {}
    for some in portions(numbers):
        for row in connection.execute(sa.select(HOLDING_TAGS).where(_TAG.holding.in_(some)).order_by(_TAG.name)):
            found.setdefault(row.holding, {})[row.name] = row.value
    return found


def set_tag(connection: sa.Connection, number: int, name: str, value: str | None) -> None:
    """Set a tag of a holding; None removes it."""
    connection.execute(sa.delete(HOLDING_TAGS).where(_TAG.holding == number, _TAG.name == name))
    if value is not None:
        connection.execute(sa.insert(HOLDING_TAGS), {"holding": number, "name": name, "value": value})


def remove_holdings(connection: sa.Connection, before: int) -> None:
    """Delete the rows of holdings that were deleted before a time and have no deleted file any more."""
    left = sa.exists().where(_F.holding == _H.id, _F.state != FileState.FAILED)
    gone = sa.select(_H.id).where(_H.deleted < before, ~left)
    numbers = list(connection.execute(gone).scalars())
    for some in portions(numbers):
        connection.execute(sa.delete(HOLDING_FILES).where(_F.holding.in_(some)))
        connection.execute(sa.delete(HOLDING_TAGS).where(_TAG.holding.in_(some)))
        connection.execute(sa.delete(HOLDINGS).where(_H.id.in_(some)))


# ---- transactions


@dataclass(frozen=True)
class TransactionFilter:
    """Selects transactions; None selects all."""

    user: str | None = None
    group: str | None = None
    holding: int | None = None
    job_label: str | None = None
    kind: TransactionKind | None = None


def transaction(connection: sa.Connection, identity: str) -> TransactionRow | None:
    """Return a transaction by its id, or None if it does not exist."""
    row = connection.execute(sa.select(TRANSACTIONS).where(_T.id == identity)).first()
    return None if row is None else transaction_row(row)


def transactions(
    connection: sa.Connection, caller: Caller, wanted: TransactionFilter, after: int | None, *, descending: bool
) -> Iterator[TransactionRow]:
    """Yield the transactions that a caller may read and a filter selects, by number."""
    statement = sa.select(TRANSACTIONS).where(*_readable(_T, caller))
    for name, value in vars(wanted).items():
        statement = statement if value is None else statement.where(_T[name] == value)
    for row in in_portions(connection, statement, _T.number, after, descending=descending):
        yield transaction_row(row)


def next_transaction(connection: sa.Connection) -> int:
    """Return the number of the next transaction."""
    return (connection.execute(sa.select(sa.func.max(_T.number))).scalar() or 0) + 1


def insert_transaction(connection: sa.Connection, row: TransactionRow) -> None:
    """Insert a transaction."""
    connection.execute(sa.insert(TRANSACTIONS), vars(row))


def change_transaction(connection: sa.Connection, number: int, **values: Any) -> None:
    """Change columns of a transaction."""
    connection.execute(sa.update(TRANSACTIONS).where(_T.number == number).values(**values))


def add_files(connection: sa.Connection, number: int, files: int, size: int, complete: int, failed: int) -> None:  # noqa: PLR0913, PLR0917 (columns)
    """Add to the files and bytes of a transaction, and to those of the files that are complete or have failed."""
    change_transaction(connection, number, files=_T.files + files, bytes=_T.bytes + size)
    add_outcomes(connection, number, complete, failed)


def add_outcomes(connection: sa.Connection, number: int, complete: int = 0, failed: int = 0) -> None:
    """Add to the complete and failed files of a transaction."""
    change_transaction(connection, number, complete=_T.complete + complete, failed=_T.failed + failed)


def has_ended(connection: sa.Connection, numbers: Iterable[int]) -> bool:
    """Return whether one of some transactions has no file any more that waits."""
    ended = _T.number.in_(list(numbers)), _T.complete + _T.failed == _T.files
    return connection.execute(sa.select(_T.number).where(*ended).limit(1)).first() is not None


def begun_after(connection: sa.Connection, numbers: Iterable[int], time: int) -> set[int]:
    """Return those of some transactions that began after a time."""
    found: set[int] = set()
    for some in portions(numbers):
        found.update(connection.execute(sa.select(_T.number).where(_T.number.in_(some), _T.time > time)).scalars())
    return found


def transaction_ids(connection: sa.Connection, numbers: Iterable[int]) -> dict[int, str]:
    """Return the ids of transactions by their numbers."""
    found: dict[int, str] = {}
    for some in portions(numbers):
        rows = connection.execute(sa.select(_T.number, _T.id).where(_T.number.in_(some)))
        found.update({row.number: row.id for row in rows})
    return found


def _readable(columns: Any, caller: Caller) -> list[sa.ColumnElement[bool]]:
    if caller.may_do_everything:
        return []
    mine = columns.user == caller.user
    return [mine if caller.group is None else sa.or_(mine, columns.group == caller.group)]


def in_portions(
    connection: sa.Connection, statement: Any, column: sa.Column[Any], after: Any, *, descending: bool = False
) -> Iterator[Any]:
    """Yield rows by a unique column; no query is left open if not all are wanted, which would keep its snapshot."""
    ordered = statement.order_by(column.desc() if descending else column).limit(_ROWS)
    while True:
        where = [] if after is None else [column < after if descending else column > after]
        rows = connection.execute(ordered.where(*where)).all()
        yield from rows
        if len(rows) < _ROWS:
            return
        after = getattr(rows[-1], column.name)


def transaction_row(row: Any) -> TransactionRow:
    """Return a transaction from a row of its table."""
    return TransactionRow(**{**row._asdict(), "kind": TransactionKind(row.kind)})
