"""Push a source with a cursor and a progress bar, and print the report."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from gwclient.account import failure_text, for_people, for_programs
from gwclient.archived import note_archived
from gwclient.client import GlitchflowClient
from gwclient.commands.options import Connection, PushOptions
from gwclient.cursor import Cursor, CursorListener, check_datastore, state_folder
from gwclient.errors import (
    INTERRUPTED,
    NOT_ACKNOWLEDGED,
    GatewayError,
    GwclientError,
    InvalidSource,
    NoStateFolder,
    address_hint,
)
from gwclient.groups import Sendable
from gwclient.pieces import in_time_order, without
from gwclient.progress import Progress
from gwclient.push import Ending, Report, push
from gwclient.sources.file import FileSource
from gwclient.sources.simulate import SimulatedSource
from gwclient.strain import Run
from gwfiles.stretches import LeftOut
from gwwire.url_user import hide_user


def send_source(
    source: FileSource | SimulatedSource, runs: Iterable[Run], options: PushOptions, connection: Connection
) -> None:
    """Push the rest of a source, print the report, and exit with its exit code."""
    skipped: list[LeftOut] = []
    with cursor_of(source.identity, options, connection) as cursor:
        if isinstance(source, FileSource):
            forget_changed(source, cursor)

        def pieces() -> Iterator[Sendable]:
            settled = cursor.state.settled
            missing = (without(run, settled.get(run.recorded_as, []), "acknowledged before") for run in runs)
            return in_time_order(missing, options.length, skipped.append)

        async def work(client: GlitchflowClient, progress: Progress) -> Report:
            stop = stop_on_signal(progress.say)
            try:
                if news := await check_datastore(client, cursor, progress.say):
                    progress.say(f"{news}; everything is sent to it")
            except GatewayError as error:
                unsent = [piece.span for piece in pieces() if not cursor.covers(piece.recorded)]
                return Report(Ending.FAILED, unsent=unsent, error=error)
            report = await push(
                client, pieces(), concurrency=options.concurrency, wait=options.wait, poll=options.poll,
                listener=CursorListener(progress, cursor), stop=stop, is_done=cursor.covers, salt=cursor.state.salt,
            )  # fmt: skip
            await note_archived(client, report)
            return report

        report = send(connection, source.seconds, work, cursor)
    report.left_out += skipped
    if isinstance(source, FileSource):
        report.left_out += source.left_out
        report.note_unread(source.failures)
        if source.skipped:
            more = f" and {len(source.skipped) - 1} more" if len(source.skipped) > 1 else ""
            click.echo(f"left out, without a requested channel: {source.skipped[0]}{more}", err=True)
    print_report(report, connection)
    if not (report.acknowledged or report.before):
        if any(each.reason == "acknowledged before" for each in skipped):
            return
        raise InvalidSource("there is nothing to send: every sample is left out")


def send_live(
    pieces: Iterable[Sendable | None], unread: Sequence[str], options: PushOptions, connection: Connection
) -> None:
    """Push segments as they arrive, print the report, and exit with its exit code.

    `unread` gets a line for each segment that could not be read. There is no cursor.
    """
    if options.restart:
        raise click.UsageError("--restart does not apply: no cursor is kept of segments that are sent as they arrive")

    async def work(client: GlitchflowClient, progress: Progress) -> Report:
        report = await push(
            client, pieces, concurrency=options.concurrency, wait=options.wait, poll=options.poll,
            listener=progress, stop=stop_on_signal(progress.say), live=True,
        )  # fmt: skip
        await note_archived(client, report)
        return report

    report = send(connection, None, work)
    report.note_unread(unread)
    print_report(report, connection)


def send(
    connection: Connection,
    seconds: float | None,
    work: Callable[[GlitchflowClient, Progress], Coroutine[Any, Any, Report]],
    cursor: Cursor | None = None,
) -> Report:
    """Return the report of a coroutine that gets an open client, and a progress of so many s of strain.

    If the cursor cannot be saved, that is in the report.
    """

    async def sending() -> Report:
        with closing(Progress(sys.stderr, seconds, quiet=connection.as_json)) as progress:
            async with connection.client(progress.retrying) as client:
                return await work(client, progress)

    report = asyncio.run(sending())
    try:
        if cursor is not None:
            cursor.save()
    except GwclientError as error:
        report.note_failure(error)
    return report


@contextmanager
def cursor_of(identity: str, options: PushOptions, connection: Connection) -> Iterator[Cursor]:
    """Open the cursor of a source; if its folder cannot be written, warn and use a temporary one."""
    with ExitStack() as stack:
        fixed: Any = {"gateway": hide_user(connection.srv), "length": options.length, "restart": options.restart}
        try:
            cursor = Cursor.open(state_folder(os.environ), identity, **fixed)
        except NoStateFolder as error:
            click.echo(
                f"{error}; after an interruption everything would be sent again. XDG_STATE_HOME sets another folder",
                err=True,
            )
            cursor = Cursor.open(Path(stack.enter_context(TemporaryDirectory())), identity, **fixed)
        stack.callback(cursor.close)
        yield cursor


def forget_changed(source: FileSource, cursor: Cursor) -> None:
    """Remove the files that changed since the last push from a cursor, and name them."""
    changed = source.changed_since(cursor.state.began) if cursor.state.began else []
    sent = {path: None for path, span in changed if cursor.forget([span])}
    if sent:
        more = f" and {len(sent) - 1} more" if len(sent) > 1 else ""
        click.echo(f"{next(iter(sent))}{more} changed since the last push; all of it is sent", err=True)
    cursor.state.began = time.time()


def stop_on_signal(say: Callable[[str], None]) -> asyncio.Event:
    """Return an event that is set at Ctrl-C or SIGTERM; a second signal ends the process."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        stop.set()
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(each)
        say("stopping; segments in flight may still arrive")

    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, interrupt)
    return stop


def print_report(
    report: Report,
    connection: Connection,
    *,
    lost: Sequence[LeftOut] = (),
    more: Mapping[str, Any] | None = None,
) -> None:
    """Print a report, and exit with its exit code unless it ended COMPLETE.

    Spans that were `lost` are shown with the reason; the JSON object has `more` members instead.
    """
    connection.print_answer({**for_programs(report), **(more or {})}, for_people(report, lost))
    if report.ending is not Ending.COMPLETE:
        click.echo(f"gwclient: {failure_text(report)}{address_hint(report.error)}", err=True)
        if report.ending is Ending.INTERRUPTED:
            sys.exit(INTERRUPTED)
        sys.exit(report.error.exit_code if report.error else NOT_ACKNOWLEDGED)
