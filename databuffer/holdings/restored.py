"""A transaction that the ledger does not know is made again from the manifest of its pack."""

from collections.abc import Collection
from uuid import uuid4

import msgspec
import sqlalchemy as sa

from databuffer.holdings import file_table, orders, table
from databuffer.holdings.rows import FileRow, HoldingRow, TransactionRow
from gwwire.file_manifest import FileManifest
from gwwire.holdings import FileState, TransactionKind

_SECOND = 10**9
#: ns; a time as a float of seconds differs by less.
_ROUNDING = 10**6
_WARNING = "restored from the manifest of its pack: what was deleted or renamed since then is as it was"


def restore(connection: sa.Connection, manifest: FileManifest, since: float, now: int) -> TransactionRow:
    """Add a transaction with its files, to a holding that exists `since` a time, which is made if there is none.

    A transaction that is known is only returned. Of two files at a path, the one that was put later stays: the other
    one had been deleted before, and is deleted again, which can be undone.
    """
    if (known := table.transaction(connection, manifest.transaction)) is not None:
        return known
    of, begun = _holding(connection, manifest, since), round(manifest.begun * _SECOND)
    row = TransactionRow(
        *(table.next_transaction(connection), manifest.transaction, TransactionKind.PUT, of.id, of.user, of.group),
        *(manifest.job_label, begun, len(manifest.files), manifest.bytes, len(manifest.files), 0),
        msgspec.json.encode([_WARNING]).decode(),
    )
    table.insert_transaction(connection, row)
    there = file_table.files_at(connection, of.id, [each.path for each in manifest.files])
    later = table.begun_after(connection, {each.transaction for each in there.values()}, begun)
    earlier = [each for each in there.values() if each.transaction not in later]
    taken = {path for path, each in there.items() if each.transaction in later}
    deletion = _delete(connection, of, earlier, len(taken), now) if there else None
    rows = _files(file_table.next_file(connection), row, manifest, deletion, taken, now)
    file_table.insert_files(connection, rows)
    deleted = sum(each.size for each in rows if each.path in taken)
    table.count(connection, of.id, len(rows) - len(taken), manifest.bytes - deleted, deleted)
    return row


def _holding(connection: sa.Connection, manifest: FileManifest, since: float) -> HoldingRow:
    """Return the holding of a transaction: that with its id or label, if it was there before it, or a new one."""
    by_label = table.by_label(connection, manifest.user, manifest.label)
    for found in (table.holding(connection, manifest.holding), by_label):
        is_open = found and found.user == manifest.user and found.deleted is None
        if found and is_open and found.created <= manifest.begun * _SECOND + _ROUNDING:
            return found
    number = manifest.holding if table.is_unused(connection, manifest.holding) else table.next_holding(connection)
    label = manifest.transaction if by_label else manifest.label
    made = HoldingRow(number, label, manifest.user, manifest.group, round(since * _SECOND), None, 0, 0, 0)
    table.insert_holding(connection, made)
    for name, value in manifest.tags.items():
        table.set_tag(connection, number, name, value)
    return made


def _delete(connection: sa.Connection, of: HoldingRow, rows: list[FileRow], more: int, now: int) -> int:
    """Delete files in a transaction, which deletes `more` besides; return its number."""
    made = orders.new_transaction(connection, TransactionKind.DELETE, of, str(uuid4()), now)
    table.insert_transaction(connection, made)
    orders.fail_all(connection, rows, f"deleted by transaction {made.id}")  # those that wait for their bytes
    deleted = sum(file_table.delete_files(connection, of, made.number, now, each.path) for each in rows)
    table.change_transaction(connection, made.number, files=deleted + more, complete=deleted + more)
    return made.number


def _files(  # noqa: PLR0913, PLR0917 (what a row has)
    first: int, of: TransactionRow, manifest: FileManifest, deletion: int | None, taken: Collection[str], now: int
) -> list[FileRow]:
    """Return the files of a manifest; those whose paths are taken are deleted."""
    return [
        FileRow(
            *(first + index, of.number, of.holding, each.path, each.type, each.size, each.mode, each.mtime),
            *(each.link, each.sha256, FileState.DELETED if each.path in taken else FileState.COMPLETE, None),
            *(None if each.stored is None else round(each.stored * _SECOND),),
            *((now, deletion) if each.path in taken else (None, None)),
        )
        for index, each in enumerate(manifest.files)
    ]
