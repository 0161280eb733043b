"""Commands that put files into holdings: `put`, `putlist`, `resume`."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import click
from msgspec import Struct

from gwclient.amounts import bytes_text, count_text
from gwclient.client import GlitchflowClient
from gwclient.commands.file_lists import each_of, progress_bar, raise_for, with_concurrency, with_filelist
from gwclient.commands.holding_options import with_holding
from gwclient.commands.options import PATH_TEXT, Connection, StrictCommand, with_connection
from gwclient.errors import GatewayError, GatewayRefused
from gwclient.holdings import SourceChanged
from gwclient.trees import FileFailure, find_files
from gwwire.holdings import (
    MOST_FILES,
    FileState,
    HoldingFile,
    NewFile,
    Transaction,
    TransactionOrder,
)

_with_job_label = click.option("-b", "--job-label", help="A label of the transaction, for `gwclient stat -b`.")


class PutReport(Struct, frozen=True):
    """The result of putting files."""

    transactions: list[Transaction]
    failures: list[FileFailure]


@click.command(cls=StrictCommand)
@click.argument("files", nargs=-1, required=True, type=PATH_TEXT)
@with_holding
@_with_job_label
@with_concurrency
@with_connection
def put(files: tuple[str, ...], connection: Connection, **options: Any) -> None:
    """Put files into a holding, directories with all that is in them.

    The files keep their absolute paths, modes and times; links are recorded, not followed. Without a label or id, the
    holding is a new one. A file whose path is in the holding already fails, and the others go on.

    \b
    Examples:
      gwclient put -l "O4a glitches" -t site:LLO,run:O4a spectrograms/ notes.md
      gwclient put -i 5 model.h5
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    _put(files, connection, **options)


@click.command(cls=StrictCommand)
@with_filelist
@with_holding
@_with_job_label
@with_concurrency
@with_connection
def putlist(filelist: list[str], connection: Connection, **options: Any) -> None:
    """Put the files in a list, one path in each line, into a holding; `-` is standard input.

    \b
    Examples:
      gwclient putlist files.txt -l "O4a glitches"
      gwclient stat -i 5 -F > failed.txt; gwclient putlist failed.txt -i 5
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    _put(filelist, connection, **options)


@click.command(cls=StrictCommand)
@click.argument("transaction")
@with_concurrency
@with_connection
def resume(transaction: str, concurrency: int, connection: Connection) -> None:
    """Continue a transaction that was interrupted: send what has not arrived of its files.

    Example: gwclient resume 0ee42f6f-3f0f-4b0e-8c3f-0d0b3a0f6a55
    """

    async def work(client: GlitchflowClient) -> PutReport:
        found = await client.holdings.transaction(transaction)
        waiting = [each async for each in client.holdings.files_of(transaction, FileState.WAITING)]
        failures = await _send_all(client, connection, found.id, waiting, concurrency)
        return PutReport([await client.holdings.transaction(transaction)], failures)

    _report_put(connection, connection.call(work))


def _put(  # noqa: PLR0913 (the options)
    paths: Sequence[str],
    connection: Connection,
    *,
    label: str | None,
    holding: int | None,
    tagged: dict[str, str] | None,
    job_label: str | None,
    concurrency: int,
) -> None:
    async def work(client: GlitchflowClient) -> PutReport:
        found = await asyncio.to_thread(find_files, paths)
        failures, made = list(found.failures), []
        target = holding
        for start in range(0, len(found.files), MOST_FILES):
            order = TransactionOrder(
                found.files[start : start + MOST_FILES],
                label=label,
                holding=target,
                tags=tagged or {},
                job_label=job_label,
                id=str(uuid4()),
            )
            answer = await client.holdings.begin(order)
            transaction, target = answer.transaction, answer.transaction.holding
            failures += [
                FileFailure(each.path, each.reason or "") for each in answer.files if each.state is FileState.FAILED
            ]
            waiting = {each.path for each in answer.files if each.state is FileState.WAITING}
            files = [_expected(transaction, each) for each in order.files if each.path in waiting]
            failures += await _send_all(client, connection, transaction.id, files, concurrency)
            made.append(await client.holdings.transaction(transaction.id))
        return PutReport(made, failures)

    _report_put(connection, connection.call(work))


def _expected(transaction: Transaction, new: NewFile) -> HoldingFile:
    """Return a file as its transaction says it will be."""
    return HoldingFile(
        *(new.path, new.type, new.size, new.mode, new.mtime, new.link, None, FileState.WAITING, None),
        *(transaction.holding, transaction.id, None, None),
    )


async def _send_all(
    client: GlitchflowClient, connection: Connection, transaction: str, files: Sequence[HoldingFile], concurrency: int
) -> list[FileFailure]:
    """Send the bytes of files, and return those that failed."""
    unique = {each.path: each for each in files}
    with progress_bar(connection, "put", sum(each.size for each in unique.values())) as bar:

        async def send(file: HoldingFile) -> FileFailure | None:
            try:
                _check_unchanged(file)
                sent = await client.holdings.send(transaction, file, Path(file.path), bar.update)
            except (SourceChanged, OSError) as error:
                reason = getattr(error, "strerror", None) or str(error)
                await client.holdings.give_up(transaction, file.path, reason)
                return FileFailure(file.path, reason)
            except GatewayRefused as error:
                return FileFailure(file.path, str(error))
            return None if sent.state is FileState.COMPLETE else FileFailure(file.path, sent.reason or sent.state)

        try:
            return await each_of(unique.values(), send, concurrency)
        except (GatewayError, asyncio.CancelledError):
            click.echo(f"interrupted; `gwclient resume {transaction}` continues", err=True)
            raise


def _check_unchanged(file: HoldingFile) -> None:
    found = Path(file.path).lstat()
    if (found.st_size, found.st_mtime) != (file.size, file.mtime):
        raise SourceChanged("it has changed since its transaction began")


def _report_put(connection: Connection, report: PutReport) -> None:
    lines = [
        f"transaction {each.id}: {each.state}, {each.complete:,} of {count_text(each.files, 'file')},"
        f" {bytes_text(each.bytes)} in holding {each.holding}"
        for each in report.transactions
    ]
    warnings = [f"warning: {text}" for each in report.transactions for text in each.warnings]
    connection.print_answer(report, "\n".join([*lines, *warnings]))
    for each in report.transactions:
        if waiting := each.files - each.complete - each.failed:  # such as those that a full volume refused
            wait = count_text(waiting, "file waits", "files wait")
            click.echo(f"{wait} for bytes; `gwclient resume {each.id}` continues", err=True)
    raise_for(report.failures)
