"""Changes of holdings: put, complete, fail, delete, undo, purge; each is called in one transaction of the database."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import sqlalchemy as sa

from databuffer.errors import LabelTaken, NotFound, NotOwner
from databuffer.holdings import file_table, packed, table
from databuffer.holdings.quotas import Left, Quotas
from databuffer.holdings.rows import Caller, FileRow, HoldingRow, TransactionRow
from gwwire.decoding import InvalidRequest
from gwwire.holdings import (
    MOST_TAGS,
    FileState,
    HoldingPatch,
    NewFile,
    PathType,
    TransactionKind,
    TransactionOrder,
)

#: Characters of the id of a transaction that become the label of its holding, if it has none.
_LABEL = 8
#: Files that are added, and rows that are purged, in one step; segments wait for it.
_ADDED = 1000
_PORTION = 500
#: Bytes of a holding, as its files say; larger sums would be no integers of the database.
_MOST_BYTES = 2**60
#: Larger ids are no integers of the database.
_MOST_HOLDINGS = 2**63


def find_holding(connection: sa.Connection, caller: Caller, number: int, *, changing: bool = False) -> HoldingRow:
    """Return a holding; raise NotFound, or NotOwner if the caller is `changing` it and may not."""
    row = table.holding(connection, number) if 0 < number < _MOST_HOLDINGS else None
    if row is None or not caller.may_read(row):
        raise NotFound(f"there is no holding {number}")
    if changing:
        _check_owner(caller, row, f"holding {number}")
    return row


def find_transaction(
    connection: sa.Connection, caller: Caller, identity: str, *, changing: bool = False
) -> TransactionRow:
    """Return a transaction; raise NotFound, or NotOwner if the caller is `changing` it and may not."""
    row = table.transaction(connection, identity)
    if row is None or not caller.may_read(row):
        raise NotFound(f"there is no transaction {identity!r}")
    if changing:
        _check_owner(caller, row, f"transaction {identity}")
    return row


def new_transaction(
    connection: sa.Connection, kind: TransactionKind, of: HoldingRow, identity: str, now: int
) -> TransactionRow:
    """Return a new transaction without files."""
    number = table.next_transaction(connection)
    return TransactionRow(number, identity, kind, of.id, of.user, of.group, None, now, 0, 0, 0, 0, "[]")


def begin(
    connection: sa.Connection, caller: Caller, order: TransactionOrder, identity: str, now: int
) -> TransactionRow:
    """Begin to put files into a holding, which is made if there is none; `add` adds the files, unless it has them."""
    if (row := table.transaction(connection, identity)) is not None:
        if not caller.owns(row) or row.kind is not TransactionKind.PUT:
            raise InvalidRequest(f"id: {identity} is another transaction's", field="id")
        return row
    of, warnings = _holding_for(connection, caller, order, identity, now)
    row = new_transaction(connection, TransactionKind.PUT, of, identity, now)
    row = replace(row, job_label=order.job_label, warnings=msgspec.json.encode(warnings).decode())
    table.insert_transaction(connection, row)
    return row


def add(
    connection: sa.Connection, begun: TransactionRow, files: Sequence[NewFile], now: int, quotas: Quotas
) -> tuple[list[FileRow], bool]:
    """Add the next files of its order to a transaction that puts them into a holding; return whether more are left.

    They are those after the files that the transaction has by now: the same order may have come again meanwhile. A
    file fails if its path is in the holding already, or twice in the transaction, or if the group has no space left for
    it; others go on. One that still waits for the bytes of an earlier transaction is taken from it; return these, whose
    uploads end with it.
    """
    transaction = table.transaction(connection, begun.id) or begun
    files, more = files[transaction.files :][:_ADDED], len(files) > transaction.files + _ADDED
    if not files:
        return [], False
    of = table.holding(connection, transaction.holding)
    if of is None or of.deleted is not None:
        raise NotFound(f"holding {transaction.holding} was deleted meanwhile")
    if packed.is_packed(connection, transaction.number):
        raise InvalidRequest(f"id: transaction {transaction.id} has ended; begin another one", field="id")
    there = file_table.files_at(connection, of.id, {each.path for each in files})
    ended = [row for row in there.values() if row.state is FileState.WAITING and row.transaction != transaction.number]
    fail_all(connection, ended, f"put again by transaction {transaction.id}")
    left = quotas.left(connection, of.group)
    reasons = _reasons(connection, transaction, files, there, left, _MOST_BYTES - of.bytes - of.deleted_bytes)
    first = file_table.next_file(connection)
    rows = [_file(first + i, transaction, each, reasons.get(i), now) for i, each in enumerate(files)]
    live = [row for row in rows if row.state is not FileState.FAILED]
    size = sum(row.size for row in live)
    file_table.insert_files(connection, rows)
    complete = sum(row.state is FileState.COMPLETE for row in rows)
    table.add_files(connection, transaction.number, len(rows), size, complete, len(rows) - len(live))
    table.count(connection, of.id, len(live), size)
    return ended, more


@dataclass(frozen=True)
class Completed:
    """The numbers of files that are complete now, and whether one of their transactions has ended with them."""

    complete: frozenset[int]
    ended: bool


def complete(connection: sa.Connection, rows: Sequence[tuple[FileRow, str]], now: int) -> Completed:
    """Mark files as complete, each with its SHA-256, if they wait for their bytes."""
    done: list[FileRow] = []
    for row, digest in rows:
        values = {"state": FileState.COMPLETE, "sha256": digest, "stored": now}
        if file_table.change_file(connection, row.number, only_if=FileState.WAITING, **values):
            done.append(row)
    for transaction, number in Counter(row.transaction for row in done).items():
        table.add_outcomes(connection, transaction, complete=number)
    ended = table.has_ended(connection, {row.transaction for row in done})
    return Completed(frozenset(row.number for row in done), ended)


def fail_all(connection: sa.Connection, rows: Sequence[FileRow], reason: str) -> bool:
    """Mark those files as failed that wait for their bytes; return whether there are some."""
    waiting = file_table.still_waiting(connection, rows)
    file_table.fail_files(connection, waiting, reason)
    for transaction, number in Counter(row.transaction for row in waiting).items():
        table.add_outcomes(connection, transaction, failed=number)
    for holding in {row.holding for row in waiting}:
        sizes = [row.size for row in waiting if row.holding == holding]
        table.count(connection, holding, -len(sizes), -sum(sizes))
    return bool(waiting)


def delete(  # noqa: PLR0913, PLR0917 (what a transaction has)
    connection: sa.Connection, caller: Caller, number: int, identity: str, now: int, path: str | None = None
) -> tuple[TransactionRow, list[FileRow]]:
    """Delete a holding, or one of its files; return the transaction, and files whose upload ends with it."""
    of = find_holding(connection, caller, number, changing=True)
    if of.deleted is not None:
        raise NotFound(f"holding {number} is deleted already")
    ended = []
    if path is None:
        ended = file_table.waiting(connection, holding=number)
    elif (row := file_table.file_at(connection, number, path)) is None:
        raise NotFound(f"holding {number} has no file {path}")
    elif row.state is FileState.WAITING:
        ended = [row]
    fail_all(connection, ended, f"deleted by transaction {identity}")
    transaction = new_transaction(connection, TransactionKind.DELETE, of, identity, now)
    table.insert_transaction(connection, transaction)
    deleted = file_table.delete_files(connection, of, transaction.number, now, path)
    if path is None:
        table.change_holding(connection, number, deleted=now)
    table.change_transaction(connection, transaction.number, files=deleted, complete=deleted)
    return find_transaction(connection, caller, identity), ended


def undo(connection: sa.Connection, caller: Caller, identity: str, now: int, grace: int | None) -> TransactionRow:
    """Restore what a transaction deleted less than `grace` ns ago; None: however long ago."""
    row = find_transaction(connection, caller, identity, changing=True)
    if row.kind is not TransactionKind.DELETE:
        raise InvalidRequest(
            f"transaction {identity} has put files; only a deletion can be undone", field="transaction"
        )
    if row.undone is not None:
        return row
    of = table.holding(connection, row.holding)
    if of is None or (grace is not None and row.time < now - grace):
        raise NotFound(f"what transaction {identity} deleted is gone: HOLDING_GRACE is over")
    if of.deleted is not None:
        if of.deleted != row.time:
            raise NotFound(f"holding {of.id} was deleted later; undo that transaction first")
        if table.by_label(connection, of.user, of.label):
            raise LabelTaken(f"label {of.label!r}: another holding has it now; rename that one first", field="label")
        table.change_holding(connection, of.id, deleted=None)
    restored, taken = file_table.undelete_files(connection, row)
    warnings = [f"{taken} of {restored + taken} files stay deleted: their paths are taken"] if taken else []
    table.change_transaction(connection, row.number, undone=now, warnings=msgspec.json.encode(warnings).decode())
    return find_transaction(connection, caller, identity)


def patch(connection: sa.Connection, caller: Caller, number: int, changes: HoldingPatch) -> HoldingRow:
    """Change label and tags of a holding."""
    row = find_holding(connection, caller, number, changing=True)
    if changes.label is not None and changes.label != row.label:
        if row.deleted is None:
            _check_label(connection, row.user, changes.label)
        table.change_holding(connection, number, label=changes.label)
    for name, value in changes.tags.items():
        table.set_tag(connection, number, name, value)
    _check_tags(connection, number)
    return find_holding(connection, caller, number)


def expire(connection: sa.Connection, before: int) -> list[FileRow]:
    """Fail some files of which not all bytes have arrived since a time; return them."""
    rows = file_table.waiting(connection, before=before, limit=_PORTION)
    fail_all(connection, rows, "not all of its bytes arrived within HOLDING_GRACE")
    return rows


def purge(connection: sa.Connection, before: int) -> list[FileRow]:
    """Remove some files that were deleted before a time, and holdings that have none left; return the files."""
    rows = file_table.deleted_before(connection, before, _PORTION)
    file_table.remove_files(connection, rows)
    if not rows:
        table.remove_holdings(connection, before)
    return rows


def _holding_for(
    connection: sa.Connection, caller: Caller, order: TransactionOrder, identity: str, now: int
) -> tuple[HoldingRow, list[str]]:
    """Return the holding of an order, which may be a new one, and warnings about its tags."""
    user = caller.user or ""
    if order.holding is not None:
        found: HoldingRow | None = find_holding(connection, caller, order.holding, changing=True)
        if found and found.deleted is not None:
            raise NotFound(f"holding {order.holding} is deleted")
        if found and order.label not in {None, found.label}:
            detail = f"label: holding {order.holding} has the label {found.label!r}, not {order.label!r}"
            raise InvalidRequest(detail, field="label")
    else:
        found = table.by_label(connection, user, order.label or identity[:_LABEL])
    if found is None:
        label = order.label or identity[:_LABEL]
        found = HoldingRow(table.next_holding(connection), label, user, caller.group, now, None, 0, 0, 0)
        table.insert_holding(connection, found)
    known = table.tags(connection, [found.id]).get(found.id, {})
    warnings = []
    for name, value in order.tags.items():
        if name not in known:
            table.set_tag(connection, found.id, name, value)
        elif known[name] != value:
            warnings.append(f"tag {name} stays {known[name]!r}; it was not set to {value!r}")
    _check_tags(connection, found.id)
    return found, warnings


def _reasons(  # noqa: PLR0913, PLR0917 (what limits the files)
    connection: sa.Connection,
    transaction: TransactionRow,
    files: Sequence[NewFile],
    there: Mapping[str, FileRow],
    left: Left | None,
    space: int,
) -> dict[int, str]:
    """Return why files fail, by their index; the group has `left`, or None: unlimited, the holding `space`."""
    free = None if left is None else left.bytes
    mine = {path for path, row in there.items() if row.transaction == transaction.number}
    others = {path: row for path, row in there.items() if row.state is FileState.COMPLETE and path not in mine}
    ids = table.transaction_ids(connection, {row.transaction for row in others.values()})
    found: dict[int, str] = {}
    for i, each in enumerate(files):
        if each.path in mine:
            found[i] = "the path is twice in the list"
        elif row := others.get(each.path):
            found[i] = f"holding {row.holding} has this path already, from transaction {ids[row.transaction]}"
        elif left is not None and free is not None and each.size > free:
            has = f"group {transaction.group} has {max(free, 0):,} left of its quota {left.quota}"
            found[i] = f"{each.size:,} bytes; {has}"
        elif each.size > space:
            found[i] = f"{each.size:,} bytes; a holding has at most {_MOST_BYTES:,}"
        else:
            space -= each.size
            free = None if free is None else free - each.size
        mine.add(each.path)
    return found


def _file(number: int, transaction: TransactionRow, new: NewFile, reason: str | None, now: int) -> FileRow:
    state = FileState.WAITING if new.type is PathType.FILE else FileState.COMPLETE
    state = FileState.FAILED if reason else state
    return FileRow(
        *(number, transaction.number, transaction.holding, new.path, new.type, new.size, new.mode, new.mtime, new.link),
        *(None, state, reason, now if state is FileState.COMPLETE else None),
    )


def _check_owner(caller: Caller, row: HoldingRow | TransactionRow, what: str) -> None:
    if not caller.owns(row):
        raise NotOwner(f"{what} is of {row.user or 'nobody'}; only the owner, or an admin, may change it")


def _check_label(connection: sa.Connection, user: str, label: str) -> None:
    if other := table.by_label(connection, user, label):
        raise LabelTaken(f"label {label!r}: holding {other.id} has it", field="label")


def _check_tags(connection: sa.Connection, number: int) -> None:
    if len(table.tags(connection, [number]).get(number, {})) > MOST_TAGS:
        raise InvalidRequest(f"tags: a holding has at most {MOST_TAGS}", field="tags")
