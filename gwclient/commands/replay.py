"""`gwclient replay`: recorded strain, sent at the detector's pace."""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import click

from gwclient.amounts import bytes_text, count_text
from gwclient.archived import note_archived
from gwclient.client import GlitchflowClient
from gwclient.commands.options import (
    Connection,
    GivenPath,
    PushOptions,
    StrictCommand,
    bits,
    seconds,
    size,
    with_connection,
    with_push_options,
)
from gwclient.commands.transfer import cursor_of, forget_changed, print_report, send, stop_on_signal
from gwclient.cursor import CursorListener, check_datastore, source_digest, state_folder
from gwclient.errors import NOT_ACKNOWLEDGED
from gwclient.groups import Sendable
from gwclient.pieces import in_time_order, without
from gwclient.progress import Progress
from gwclient.push import Report
from gwclient.replay import Pace
from gwclient.replay import replay as send_at_pace
from gwclient.sources.arrays import NO_TIMES, NPY
from gwclient.sources.file import FileSource
from gwclient.sources.recording import extension
from gwclient.spool import Spool
from gwclient.strain import join_spans
from gwfiles.stretches import LeftOut, Span

#: s between two updates of the lag.
_LOOK_S = 1.0
_LOOK_IN_A_LOG_S = 5.0


@click.command(cls=StrictCommand)
@click.argument("files", nargs=-1, required=True, type=GivenPath(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--rate", type=seconds(0.01, 1000, "rate"), default=1.0, show_default=True,
    help="Seconds of strain sent in a second.",
)  # fmt: skip
@click.option("--channel", "channels", multiple=True, help="A channel or pattern; may be repeated.")
@click.option("--dq", type=bits, help="Data-quality bits that have to be set; none: take all.  [default: DATA]")
@click.option(
    "--spool", "folder", type=GivenPath(file_okay=False, path_type=Path),
    help="The folder where segments wait.  [default: one for these files, under XDG_STATE_HOME]",
)  # fmt: skip
@click.option("--spool-size", type=size, default="1GB", show_default=True, help="The size limit of the spool.")
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
    """Send strain files at the detector's pace.

    A second of strain of every channel is sent each second. While the datastore is frozen or does not answer, segments
    wait in a bounded spool on the disk. Segments that are due while the spool is full are dropped and reported (exit
    code 1). After an interruption, run the same command again: it continues with the segments in the spool.

    \b
    Examples:
      gwclient replay H-H1_LOSC_4_V2-1126259446-32.hdf5 L-L1_LOSC_4_V2-1126259446-32.hdf5
      gwclient replay H-H1_LOSC_4_V2-1126259446-32.hdf5 --rate 4 --spool-size 200MB --poll 1
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    if arrays := [path for path in files if extension(path) == NPY]:
        raise click.UsageError(f"{arrays[0]} {NO_TIMES}")
    source = FileSource(files, bits=dq, channels=channels)
    identity = f"replay of {source.identity}"
    spool_folder = state_folder(os.environ) / f"spool-{source_digest(connection.srv, identity)}"
    skipped: list[LeftOut] = []
    acknowledged_before: list[Span] = []
    before = "sent, or in the spool, before"
    pace = Pace(rate)
    with (
        cursor_of(identity, options, connection) as cursor,
        closing(Spool(folder or spool_folder, spool_size)) as spool,
    ):
        forget_changed(source, cursor)
        waiting = join_spans(spool.spans)

        def pieces() -> Iterator[Sendable]:
            settled = cursor.state.settled
            missing = (
                without(run, settled.get(run.recorded_as, []) + waiting.get(run.channel, []), before)
                for run in source.runs()
            )
            for piece in in_time_order(missing, options.length, skipped.append):
                if cursor.covers(piece.recorded):
                    acknowledged_before.append(piece.span)
                else:
                    yield piece

        async def work(client: GlitchflowClient, progress: Progress) -> Report:
            if len(spool):
                progress.say(f"{count_text(len(spool), 'segment')} wait in the spool from before")
            looking = asyncio.create_task(_show_lag(progress, pace, spool, quiet=connection.as_json))
            try:
                if news := await check_datastore(client, cursor, progress.say):
                    progress.say(f"{news}; everything is sent to it")
                report = await send_at_pace(
                    client, pieces(), spool, pace, concurrency=options.concurrency, poll=options.poll,
                    listener=CursorListener(progress, cursor), say=progress.say, stop=stop_on_signal(progress.say),
                    salt=cursor.state.salt, check=partial(check_datastore, client, cursor),
                )  # fmt: skip
                report.before = acknowledged_before
                await note_archived(client, report)
                return report
            finally:
                looking.cancel()

        report = send(connection, source.seconds, work, cursor)
    report.note_unread([*source.failures, *spool.unusable])
    report.left_out = skipped + source.left_out
    lost = [LeftOut(span, "the spool was full") for span in pace.dropped]
    more = {"lag": pace.lag, "dropped_spans": join_spans(pace.dropped)}
    print_report(report, connection, lost=lost, more=more)
    if pace.dropped:
        click.echo(f"gwclient: the spool was full: {count_text(len(pace.dropped), 'segment')} dropped", err=True)
        sys.exit(NOT_ACKNOWLEDGED)


async def _show_lag(progress: Progress, pace: Pace, spool: Spool, *, quiet: bool) -> None:
    shown = time.monotonic()
    while True:
        await asyncio.sleep(_LOOK_S)
        words = f"lag {pace.lag:.1f} s, {count_text(len(spool), 'segment')} ({bytes_text(spool.size)}) in the spool"
        if progress.note(words) or quiet or time.monotonic() - shown < _LOOK_IN_A_LOG_S:
            continue
        shown = time.monotonic()
        progress.say(words)
