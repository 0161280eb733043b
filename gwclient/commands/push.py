"""`gwclient push` and `gwclient simulate`: strain to the gateway."""

import math
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec

from gwclient.account import done_text
from gwclient.client import Retry
from gwclient.commands.options import (
    Connection,
    PushOptions,
    bits,
    detectors,
    seconds,
    with_connection,
    with_push_options,
)
from gwclient.commands.transfer import send_live, send_source
from gwclient.errors import InvalidSource
from gwclient.folder import prepare_folder, write_batch, write_file
from gwclient.pieces import Piece, in_time_order
from gwclient.progress import Progress
from gwclient.push import Report
from gwclient.sources.download import Downloads
from gwclient.sources.file import FileSource, strain_files
from gwclient.sources.gwosc import event_detectors, event_gps, open_data
from gwclient.sources.lines import pieces_of_lines, read_lines
from gwclient.sources.simulate import SimulatedSource
from gwclient.strain import Run, gps_text, join_spans
from gwwire.spans import gaps

#: Seconds before and after an event's GPS time that are pushed by default.
_EVENT_WINDOW = (-4.0, 4.0)


@dataclass(frozen=True)
class _Wanted:
    event: str | None
    gps: tuple[float, float] | None
    detector: tuple[str, ...] | None
    rate: str | None
    files: tuple[Path, ...]
    folder: Path | None
    stdin: bool
    channels: tuple[str, ...]
    bits: tuple[str, ...] | None
    start: float | None
    stop: float | None

    def __post_init__(self) -> None:
        named = [self.event is not None, self.gps is not None, bool(self.files), self.folder is not None, self.stdin]
        if sum(named) != 1:
            raise click.UsageError("name one of --event, --gps, --file, --folder and --stdin")
        if not self.open_data and (self.detector or self.rate):
            raise click.UsageError("--detector and --rate go with --event and --gps; a file says itself what it holds")
        if not (self.files or self.folder) and self.channels:
            raise click.UsageError("--channel goes with --file and --folder")
        if self.stdin and self.bits is not None:
            raise click.UsageError("segments on standard input have no data-quality bits for --dq to choose from")
        if (self.gps or self.stdin) and (self.start is not None or self.stop is not None):
            raise click.UsageError("--start and --stop go with --event, --file and --folder")
        if self.gps and not self.detector:
            raise click.UsageError("--gps needs a --detector, as H1,L1")
        start, stop = self.window
        if not start < stop:
            raise click.UsageError(self._reversed(gps_text(start), gps_text(stop)))

    def _reversed(self, start: str, stop: str) -> str:
        if self.gps:
            return f"--gps {start} {stop}: the start is not before the stop"
        if self.start is None:
            return f"--stop {stop} is not after the start, which is {start} without --start"
        if self.stop is None:
            return f"--start {start} is not before the stop, which is {stop} without --stop"
        return f"--start {start} is not before --stop {stop}"

    @property
    def open_data(self) -> bool:
        return self.event is not None or self.gps is not None

    @property
    def window(self) -> tuple[float, float]:
        """The window: relative to the event's GPS time, or in GPS seconds."""
        if self.gps:
            return self.gps
        start, stop = (-math.inf, math.inf) if self.event is None else _EVENT_WINDOW
        return start if self.start is None else self.start, stop if self.stop is None else self.stop


@click.command("push")
@click.option("--event", help="Fetch open data around this event from GWOSC.")
@click.option("--gps", nargs=2, type=seconds(), metavar="START STOP", help="Fetch open data of this GPS interval.")
@click.option(
    "--detector", type=detectors, metavar="H1,L1",
    help="Of open data: one or more, as H1,L1.  [default: all of the event]",
)  # fmt: skip
@click.option("--rate", type=click.Choice(["4096", "16384"]), help="Of open data: samples per second.  [default: 4096]")
@click.option(
    "--file", "files", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read a strain file: GWOSC's HDF5, or frames (.gwf); may be given several times.",
)  # fmt: skip
@click.option(
    "--folder", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Read the strain files of a folder that are named OBS-TYPE-GPSSTART-DURATION.",
)  # fmt: skip
@click.option("--stdin", is_flag=True, help="Send the segments that come on standard input, one JSON object a line.")
@click.option(
    "--channel", "channels", multiple=True,
    help="Of frames: a channel or pattern, as L1:*STRAIN; may be given several times.  [default: what is strain]",
)  # fmt: skip
@click.option(
    "--dq", "bits", type=bits,
    help="Data-quality bits that have to be set, as DATA,CBC_CAT1; none: take all.  [default: DATA]",
)  # fmt: skip
@click.option(
    "--start", type=seconds(), help="With --event: seconds relative to its GPS time (-4). With files: GPS seconds."
)
@click.option("--stop", type=seconds(), help="The same for the end, which is not included (4).")
@with_push_options
@with_connection
def push_command(options: PushOptions, connection: Connection, **chosen: Any) -> None:
    """Push recorded strain: open data, files, a folder of files, or segments from standard input.

    \b
    Examples:
      gwclient push --event GW150914
      gwclient push --event GW150914 --detector L1 --start -4 --stop 4 --dq DATA,CBC_CAT1
      gwclient push --gps 1126259446 1126259478 --detector H1,L1
      gwclient push --file H-H1_LOSC_4_V2-1126259446-32.hdf5 --file L-L1_LOSC_4_V2-1126259446-32.hdf5
      gwclient push --folder frames/ --channel 'L1:*STRAIN' --start 1126259458 --stop 1126259466 --wait
      gwclient push --stdin < segments.ndjson

    Samples that are not finite, or fail the data-quality bits, are left out, and told with their GPS spans. What was
    acknowledged is kept in a cursor file (under XDG_STATE_HOME): run the same command again after an interruption, and
    only what is missing is sent. A segment whose answer was lost is sent again under the same key, by which the gateway
    stores it once.
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    wanted = _Wanted(**chosen)
    if wanted.stdin:
        if sys.stdin is None:
            raise InvalidSource("standard input cannot be read: it is closed")
        unread: list[str] = []
        send_live(pieces_of_lines(read_lines(sys.stdin.fileno()), options.length, unread), unread, options, connection)
    elif wanted.open_data:
        source = _open_data(wanted, connection)
        runs = list(source.runs())
        _print_shortage(source, runs)
        send_source(source, runs, options, connection)
    else:
        source = _files(wanted)
        send_source(source, source.runs(), options, connection)


def _open_data(wanted: _Wanted, connection: Connection) -> FileSource:
    say = partial(click.echo, err=True)
    if not connection.as_json:
        about = wanted.event or "GPS [{!r}, {!r})".format(*wanted.window)
        say(f"fetching {about} of {', '.join(wanted.detector or ()) or 'all detectors'} from GWOSC")
    gps = 0.0 if wanted.event is None else event_gps(wanted.event)
    start, stop = wanted.window
    named = wanted.detector or event_detectors(wanted.event or "")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gwclient"
    downloads = Downloads(cache, Retry(tries=connection.tries), connection.timeout, say)
    rate = int(wanted.rate or 4096)
    return open_data(named, gps + start, gps + stop, downloads, rate, wanted.event or "", wanted.bits)


def _print_shortage(source: FileSource, runs: Sequence[Run]) -> None:
    for channel in dict.fromkeys(run.channel for run in runs):
        of_channel = [run for run in runs if run.channel == channel]
        spans = [(run.t0, run.gps(len(run.strain))) for run in of_channel]
        for start, stop in gaps([(-math.inf, source.start), *spans, (source.stop, math.inf)]):
            # The edges of the window lie between samples.
            if stop - start >= of_channel[0].dt:
                click.echo(f"GWOSC has nothing of {channel} in GPS [{start!r}, {stop!r})", err=True)


def _files(wanted: _Wanted) -> FileSource:
    paths, name = wanted.files, ""
    if wanted.folder:
        found, unnamed = strain_files(wanted.folder, *wanted.window)
        if unnamed:
            some = f"{unnamed[0]} and {len(unnamed) - 1} more" if len(unnamed) > 1 else unnamed[0]
            click.echo(f"left out, not named as OBS-TYPE-GPSSTART-DURATION: {some}", err=True)
        paths, name = tuple(found), f"folder {wanted.folder.resolve()}"
    return FileSource(paths, *wanted.window, wanted.bits, wanted.channels, name=name)


@click.command
@click.option(
    "--detectors", type=detectors, metavar="H1,L1", default="H1,L1", show_default=True, help="Of H1, L1, V1, K1."
)
@click.option(
    "--seconds", "duration", type=seconds(0.1, 4096), default=64.0, show_default=True, help="Of each detector."
)
@click.option("--rate", type=click.IntRange(1024, 16384), default=4096, show_default=True, help="Samples per second.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Same seed and t0, same strain.")
@click.option("--t0", type=click.IntRange(0, 10**10), default=1_400_000_000, show_default=True, help="GPS seconds.")
@click.option(
    "--glitch-rate", type=click.FloatRange(0, 10), default=0.1, show_default=True,
    help="Mean number of injected glitches per second and detector.",
)  # fmt: skip
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path),
    help="Write a batch folder, with the truth in glitches.json, and send nothing.",
)  # fmt: skip
@click.option("--truth", type=click.Path(dir_okay=False, path_type=Path), help="Write the truth to this file.")
@with_push_options
@with_connection
def simulate(
    out: Path | None, truth: Path | None, options: PushOptions, connection: Connection, **parameters: Any
) -> None:
    """Push simulated strain: noise of the detectors' design sensitivity with injected glitches.

    Blips, sine-Gaussians and scattered-light arches fall at random times; each segment's meta names those in it.

    \b
    Examples:
      gwclient simulate --detectors H1,L1 --seconds 64 --rate 4096 --seed 1
      gwclient simulate --detectors H1,L1,V1 --t0 1400000064 --truth glitches.json --wait
      gwclient simulate --seconds 32 --out batch/
    """  # noqa: D301 (see above)
    source = SimulatedSource(**parameters)
    if out is not None:
        prepare_folder(out)
    runs = list(source.runs())
    telling = msgspec.json.format(msgspec.json.encode(source.truth(runs)))
    if truth is not None:
        write_file(truth, telling)
    if out is None:
        send_source(source, iter(runs), options, connection)
        return
    report = Report()
    with closing(Progress(sys.stderr, source.seconds, quiet=connection.as_json)) as progress:

        def on_written(piece: Piece, size: int) -> None:
            report.acknowledged.append(piece.span)
            report.bytes += size
            progress.acknowledged(piece)

        write_batch(out, in_time_order(runs, options.length, lambda _: None), on_written)
    write_file(out / "glitches.json", telling)
    written = {"written": len(report.acknowledged), "bytes": report.bytes, "spans": join_spans(report.acknowledged)}
    words = f"{done_text(report, f'written to {out}')}\nthe truth is in {out / 'glitches.json'}"
    connection.print_answer({**written, "folder": str(out)}, words)
