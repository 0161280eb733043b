"""Push a source with a cursor and a progress bar, and print the report."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from gwclient.account import failure_text, for_people, for_programs
from gwclient.commands.console import print_answer, stop_on_signal
from gwclient.cursor import Cursor, CursorListener, check_datastore, state_folder
from gwclient.errors import GatewayError, InvalidSource, NoStateFolder
from gwclient.exits import exit_code_of_push
from gwclient.groups import Sendable
from gwclient.options import Connection, PushOptions
from gwclient.pieces import in_time_order, without
from gwclient.progress import Progress
from gwclient.push import Ending, Report, push
from gwclient.sources import Source
from gwclient.strain import LeftOut, Run


def send_source(source: Source, runs: Iterable[Run], options: PushOptions, connection: Connection) -> None:
    """Push what is missing of a source, print the report, and exit with its exit code.

    Raises:
        CursorError: the source is being sent by another process, or its cursor cannot be read.

    """
    skipped: list[LeftOut] = []
    with cursor_of(source.identity, options, connection) as cursor:

        def pieces() -> Iterator[Sendable]:
            settled = cursor.settled
            missing = (without(run, settled.get(run.channel, []), "acknowledged before") for run in runs)
            return in_time_order(missing, options.length, skipped.append)

        report = asyncio.run(_push(connection, options, cursor, pieces, source.seconds))
    _print_report(report, skipped, connection)
    if not (report.acknowledged or report.before):
        if any(each.reason == "acknowledged before" for each in skipped):
            return
        raise InvalidSource("there was nothing to send: no sample is left")


def send_live(pieces: Iterable[Sendable | None], options: PushOptions, connection: Connection) -> None:
    """Push segments as they arrive, print the report, and exit with its exit code."""

    async def work() -> Report:
        progress = Progress(sys.stderr, None, quiet=connection.as_json)
        try:
            async with connection.client(progress.retrying) as client:
                return await push(
                    client, pieces, concurrency=options.concurrency, wait=options.wait, poll=options.poll,
                    listener=progress, stop=stop_on_signal(progress.say), live=True,
                )  # fmt: skip
        finally:
            progress.close()

    _print_report(asyncio.run(work()), [], connection)


async def _push(
    connection: Connection,
    options: PushOptions,
    cursor: Cursor,
    pieces: Callable[[], Iterator[Sendable]],
    seconds: float,
) -> Report:
    progress = Progress(sys.stderr, seconds, quiet=connection.as_json)
    try:
        async with connection.client(progress.retrying) as client:
            stop = stop_on_signal(progress.say)
            try:
                await check_datastore(client, cursor, progress.say)
            except GatewayError as error:
                unsent = [piece.span for piece in pieces() if not cursor.covers(piece.span)]
                return Report(Ending.FAILED, unsent=unsent, error=error)
            return await push(
                client, pieces(), concurrency=options.concurrency, wait=options.wait, poll=options.poll,
                listener=CursorListener(progress, cursor), stop=stop, is_done=cursor.covers, salt=cursor.salt,
            )  # fmt: skip
    finally:
        progress.close()


@contextmanager
def cursor_of(identity: str, options: PushOptions, connection: Connection) -> Iterator[Cursor]:
    """Open the cursor of a source; if its folder cannot be written, warn and use a temporary one.

    Raises:
        CursorError: the source is being sent by another process, or its cursor cannot be read or written.

    """
    with ExitStack() as stack:
        fixed: Any = {"gateway": connection.srv, "length": options.length, "restart": options.restart}
        try:
            cursor = Cursor.open(state_folder(os.environ), identity, **fixed)
        except NoStateFolder as error:
            click.echo(
                f"{error}; after an interruption all would be sent again. XDG_STATE_HOME names another", err=True
            )
            cursor = Cursor.open(Path(stack.enter_context(TemporaryDirectory())), identity, **fixed)
        stack.callback(cursor.close)
        yield cursor


def _print_report(report: Report, skipped: list[LeftOut], connection: Connection) -> None:
    print_answer(connection, for_programs(report, skipped), for_people(report, skipped))
    if report.ending is not Ending.COMPLETE:
        click.echo(f"gwclient: {failure_text(report)}", err=True)
        sys.exit(exit_code_of_push(report))
