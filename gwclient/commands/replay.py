"""`gwclient replay`: recorded strain, sent at the detector's pace."""

import asyncio
import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import click

from gwclient.account import failure_text, for_people, for_programs
from gwclient.commands.console import print_answer, stop_on_signal
from gwclient.commands.transfer import cursor_of
from gwclient.cursor import Cursor, CursorListener, check_datastore, state_folder
from gwclient.exits import EXIT_CODES, NOT_ACKNOWLEDGED, exit_code_of_push
from gwclient.groups import Sendable
from gwclient.options import Bits, Connection, PushOptions, Seconds, Size, with_connection, with_push_options
from gwclient.pieces import in_time_order, without
from gwclient.progress import Progress
from gwclient.push import Ending, Report
from gwclient.replay import Pace
from gwclient.replay import replay as send_at_pace
from gwclient.sources.file import FileSource
from gwclient.spool import Spool
from gwclient.strain import LeftOut, Span, join_spans

#: s between two looks at the lag.
_LOOK_S = 1.0
_LOOK_IN_A_LOG_S = 5.0


@click.command(epilog=EXIT_CODES)
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--rate", type=Seconds(0.01, 1000), default=1.0, show_default=True, help="Seconds of strain in a second.",
)  # fmt: skip
@click.option("--channel", "channels", multiple=True, help="Of frames: a channel or pattern; may be repeated.")
@click.option("--dq", type=Bits(), help="Data-quality bits that have to be set; none: take all.  [default: DATA]")
@click.option(
    "--spool", "folder", type=click.Path(file_okay=False, path_type=Path),
    help="The folder where segments wait.  [default: one for these files, under XDG_STATE_HOME]",
)  # fmt: skip
@click.option("--spool-size", type=Size(), default="1GB", show_default=True, help="How much may wait there.")
@with_push_options
@with_connection
def replay(  # noqa: PLR0913, PLR0917 (one for each option)
    files: tuple[Path, ...],
    rate: float,
    channels: tuple[str, ...],
    dq: tuple[str, ...] | None,
    folder: Path | None,
    spool_size: int,
    options: PushOptions,
    connection: Connection,
) -> None:
    """Send strain files as a detector would: a second of strain of every channel each second.

    While the datastore is frozen or away, segments wait in a bounded spool on the disk; they are sent when it is back.
    Only what comes about while the spool is full is dropped, and told (exit code 1). Run the same command again after
    an interruption, and it goes on: first with what waits in the spool.

    \b
    Examples:
      gwclient replay H-H1_LOSC_4_V2-1126259446-32.hdf5 L-L1_LOSC_4_V2-1126259446-32.hdf5
      gwclient replay H-H1_LOSC_4_V2-1126259446-32.hdf5 --rate 4 --spool-size 200MB --poll 1
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    source = FileSource(files, bits=dq, channels=channels)
    state = state_folder(os.environ)
    identity = f"replay of {source.identity}"
    digest = hashlib.sha256(f"{connection.srv}\n{identity}".encode()).hexdigest()[:16]
    skipped: list[LeftOut] = []
    acknowledged_before: list[Span] = []
    before = "sent, or in the spool, before"
    with (
        cursor_of(identity, options, connection) as cursor,
        closing(Spool(folder or state / f"spool-{digest}", spool_size)) as spool,
    ):
        waiting = join_spans(spool.spans)

        def pieces() -> Iterator[Sendable]:
            missing = (
                without(without(run, cursor.settled.get(run.channel, []), before), waiting.get(run.channel, []), before)
                for run in source.runs()
            )
            cut = in_time_order(missing, options.length, skipped.append)
            for piece in cut:
                if cursor.covers(piece.span):
                    acknowledged_before.append(piece.span)
                else:
                    yield piece

        pace = Pace(rate)
        report = asyncio.run(_replay(pieces, source.seconds, spool, pace, cursor, options, connection))
    report.before = acknowledged_before
    _print_report(report, pace, skipped, connection)


async def _replay(  # noqa: PLR0913, PLR0917 (what a replay is made of)
    pieces: Callable[[], Iterator[Sendable]],
    seconds: float,
    spool: Spool,
    pace: Pace,
    cursor: Cursor,
    options: PushOptions,
    connection: Connection,
) -> Report:
    progress = Progress(sys.stderr, seconds, quiet=connection.as_json)
    listener = CursorListener(progress, cursor)
    looking = asyncio.create_task(_show_lag(progress, pace, spool, quiet=connection.as_json))
    try:
        if len(spool):
            progress.say(f"{len(spool)} segments wait in the spool from before")
        async with connection.client(progress.retrying) as client:
            await check_datastore(client, cursor, progress.say)
            return await send_at_pace(
                client, pieces(), spool, pace, concurrency=options.concurrency, poll=options.poll, listener=listener,
                say=progress.say, stop=stop_on_signal(progress.say),
            )  # fmt: skip
    finally:
        looking.cancel()
        progress.close()


async def _show_lag(progress: Progress, pace: Pace, spool: Spool, *, quiet: bool) -> None:
    told = time.monotonic()
    while True:
        await asyncio.sleep(_LOOK_S)
        words = f"lag {pace.lag:.1f} s, {len(spool)} segments ({spool.size / 1e6:.1f} MB) in the spool"
        if progress.note(words) or quiet or time.monotonic() - told < _LOOK_IN_A_LOG_S:
            continue
        told = time.monotonic()
        progress.say(words)


def _print_report(report: Report, pace: Pace, skipped: list[LeftOut], connection: Connection) -> None:
    account = for_programs(report, skipped) | {"lag": pace.lag, "dropped_spans": join_spans(pace.dropped)}
    words = for_people(report, skipped)
    if pace.dropped:
        lost = [LeftOut(span, "the spool was full") for span in pace.dropped]
        words = for_people(report, [*skipped, *lost])
    print_answer(connection, account, words)
    if report.ending is not Ending.COMPLETE:
        click.echo(f"gwclient: {failure_text(report)}", err=True)
        sys.exit(exit_code_of_push(report))
    if pace.dropped:
        click.echo(f"gwclient: the spool was full: {len(pace.dropped)} segments were dropped", err=True)
        sys.exit(NOT_ACKNOWLEDGED)
