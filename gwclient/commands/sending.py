"""How a source is sent: with a cursor, a progress bar, and an account at the end."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from gwclient.account import for_people, for_programs, tell_failure
from gwclient.commands.talking import stop_when_told, tell
from gwclient.cursor import Cursor, state_folder
from gwclient.errors import GatewayError, InvalidSource, NoStateFolder
from gwclient.exits import exit_code_of_push
from gwclient.grouping import Sendable
from gwclient.keeping import Keeping, check_datastore
from gwclient.options import Door, Sending
from gwclient.progress import Progress
from gwclient.push import Ending, Report, push
from gwclient.segmenting import in_time_order, without
from gwclient.sources import Source
from gwclient.strain import LeftOut, Run


def send_source(source: Source, runs: Iterable[Run], sending: Sending, door: Door) -> None:
    """Push what is missing of a source, tell the account, and exit with what it amounts to.

    Raises:
        CursorError: the source is being sent by another process, or its cursor cannot be read.

    """
    skipped: list[LeftOut] = []
    with cursor_of(source.identity, sending, door) as cursor:

        def pieces() -> Iterator[Sendable]:
            settled = cursor.settled
            missing = (without(run, settled.get(run.channel, []), "acknowledged before") for run in runs)
            return in_time_order(missing, sending.length, skipped.append)

        report = asyncio.run(_push(door, sending, cursor, pieces, source.seconds))
    _tell(report, skipped, door)
    if not (report.acknowledged or report.before):
        if any(each.reason == "acknowledged before" for each in skipped):
            return
        raise InvalidSource("there was nothing to send: no sample is left")


def send_live(pieces: Iterable[Sendable | None], sending: Sending, door: Door) -> None:
    """Push what comes, tell the account, and exit with what it amounts to."""

    async def work() -> Report:
        progress = Progress(sys.stderr, None, quiet=door.as_json)
        try:
            async with door.client(progress.retrying) as client:
                return await push(
                    client, pieces, concurrency=sending.concurrency, wait=sending.wait, poll=sending.poll,
                    listener=progress, stop=stop_when_told(progress.say), live=True,
                )  # fmt: skip
        finally:
            progress.close()

    _tell(asyncio.run(work()), [], door)


async def _push(
    door: Door, sending: Sending, cursor: Cursor, pieces: Callable[[], Iterator[Sendable]], seconds: float
) -> Report:
    progress = Progress(sys.stderr, seconds, quiet=door.as_json)
    try:
        async with door.client(progress.retrying) as client:
            stop = stop_when_told(progress.say)
            try:
                await check_datastore(client, cursor, progress.say)
            except GatewayError as error:
                unsent = [piece.span for piece in pieces() if not cursor.covers(piece.span)]
                return Report(Ending.FAILED, unsent=unsent, error=error)
            return await push(
                client, pieces(), concurrency=sending.concurrency, wait=sending.wait, poll=sending.poll,
                listener=Keeping(progress, cursor), stop=stop, is_done=cursor.covers, salt=cursor.salt,
            )  # fmt: skip
    finally:
        progress.close()


@contextmanager
def cursor_of(identity: str, sending: Sending, door: Door) -> Iterator[Cursor]:
    """Open the cursor of a source; where there is no place for one, say so and go on without.

    Raises:
        CursorError: the source is being sent by another process, or its cursor cannot be read or written.

    """
    with ExitStack() as stack:
        options: Any = {"gateway": door.srv, "length": sending.length, "restart": sending.restart}
        try:
            cursor = Cursor.open(state_folder(os.environ), identity, **options)
        except NoStateFolder as error:
            click.echo(
                f"{error}; after an interruption all would be sent again. XDG_STATE_HOME names another", err=True
            )
            cursor = Cursor.open(Path(stack.enter_context(TemporaryDirectory())), identity, **options)
        stack.callback(cursor.close)
        yield cursor


def _tell(report: Report, skipped: list[LeftOut], door: Door) -> None:
    tell(door, for_programs(report, skipped), for_people(report, skipped))
    if report.ending is not Ending.COMPLETE:
        click.echo(f"gwclient: {tell_failure(report)}", err=True)
        sys.exit(exit_code_of_push(report))
