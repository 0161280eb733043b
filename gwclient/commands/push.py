"""`gwclient push`: recorded strain to the gateway."""

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from glob import glob
from itertools import chain
from pathlib import Path
from typing import Any

import click

from gwclient.client import Retry
from gwclient.commands.options import (
    PATH_TEXT,
    Connection,
    PushOptions,
    StrictCommand,
    bits,
    detectors,
    name,
    seconds,
    with_connection,
    with_push_options,
)
from gwclient.commands.transfer import send_live, send_source
from gwclient.errors import InvalidSource
from gwclient.sources.arrays import NPY, Grid, is_array
from gwclient.sources.download import Downloads
from gwclient.sources.file import FileSource, strain_files
from gwclient.sources.gwosc import event_detectors, event_gps, open_data
from gwclient.sources.lines import pieces_of_lines, read_lines
from gwclient.sources.recording import extension
from gwclient.strain import Run, gps_text
from gwwire.spans import gaps

#: Seconds before and after an event's GPS time that are pushed by default: what GWOSC's files of 32 s have around each.
_EVENT_WINDOW = (-16.0, 15.0)
_GWOSC_RATES = (4096.0, 16384.0)
#: Metadata files beside the segments of a batch.
_BESIDE = frozenset({"MANIFEST.json", "glitches.json"})


@dataclass(frozen=True)
class _Wanted:
    """The strain to push, as the options name it."""

    sources: tuple[str, ...]
    event: str | None
    gps: tuple[float, float] | None
    stdin: bool
    detector: tuple[str, ...] | None
    channels: tuple[str, ...]
    rate: float | None
    t0: float | None
    bits: tuple[str, ...] | None
    start: float | None
    stop: float | None

    def __post_init__(self) -> None:
        if sum([self.event is not None, self.gps is not None, bool(self.sources), self.stdin]) != 1:
            raise click.UsageError("name files or folders, or one of --event, --gps and --stdin")
        if not self.open_data and self.detector:
            raise click.UsageError("--detector applies to --event and --gps; files are chosen by --channel")
        if self.open_data and self.rate not in {None, *_GWOSC_RATES}:
            raise click.UsageError(f"--rate {self.rate:g}: GWOSC has open data at 4096 and 16384 Hz")
        if not self.sources:
            self._refuse("files", channel=self.channels, t0=self.t0)
        if self.stdin:
            self._refuse("files and open data", rate=self.rate, dq=self.bits)
        if self.gps or self.stdin:
            self._refuse("--event and files", start=self.start, stop=self.stop)
        if self.gps and not self.detector:
            raise click.UsageError("--gps needs a --detector, such as H1,L1")
        start, stop = self.window
        if not start < stop:
            raise click.UsageError(self._reversed(gps_text(start), gps_text(stop)))

    @staticmethod
    def _refuse(where: str, **options: Any) -> None:
        for option, value in options.items():
            if value not in {None, ()}:
                raise click.UsageError(f"--{option} applies to {where} only")

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


@click.command("push", cls=StrictCommand)
@click.argument("sources", nargs=-1, type=PATH_TEXT, metavar="[FILE|FOLDER]...")
@click.option("--event", type=name, help="Fetch open data around this event from GWOSC.")
@click.option("--gps", nargs=2, type=seconds(), metavar="START STOP", help="Fetch open data of this GPS interval.")
@click.option("--file", "files", type=PATH_TEXT, multiple=True, help="The same as FILE; may be repeated.")
@click.option("--folder", type=PATH_TEXT, help="The same as FOLDER.")
@click.option("--stdin", is_flag=True, help="Send the segments on standard input, one JSON object a line.")
@click.option(
    "--detector", type=detectors, metavar="H1,L1", help="Open data: these detectors.  [default: all of the event]"
)
@click.option(
    "--channel", "channels", type=name, multiple=True,
    help="Files: a channel or pattern, such as L1:*STRAIN; may be repeated. NPY and CSV: the name of the channel."
    "  [default: all; of frames those with strain]",
)  # fmt: skip
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True),
    help="Samples per second, of NPY and CSV, or of open data (4096, 16384).  [open data: 4096]",
)  # fmt: skip
@click.option("--t0", type=seconds(), help="NPY and CSV: GPS seconds of the first sample.")
@click.option(
    "--dq", "bits", type=bits,
    help="Data-quality bits that have to be set, such as DATA,CBC_CAT1; none: take all.  [default: DATA]",
)  # fmt: skip
@click.option(
    "--start", type=seconds(), help="Files: GPS seconds. --event: seconds relative to its GPS time.  [event: -16]"
)
@click.option("--stop", type=seconds(), help="The end, which is not included.  [event: 15]")
@with_push_options
@with_connection
def push_command(
    sources: tuple[str, ...],
    files: tuple[str, ...],
    folder: str | None,
    options: PushOptions,
    connection: Connection,
    **chosen: Any,
) -> None:
    """Push files, folders or open data.

    A FILE is HDF5 as GWOSC, gwpy or `gwclient get` write it, frames (.gwf), segments (.json, .ndjson), or an array
    (.npy, .csv, .txt) with --rate, --t0 and --channel. Of a FOLDER, the files named OBS-TYPE-GPSSTART-DURATION are
    pushed, and the segments of a batch. Open data come from GWOSC, segments also from standard input.

    \b
    Examples:
      gwclient push H-H1_LOSC_4_V2-1126259446-32.hdf5 L-L1_LOSC_4_V2-1126259446-32.hdf5
      gwclient push strain.npy --rate 4096 --t0 1126259446 --channel L1:MY-STRAIN
      gwclient push frames/ --channel 'L1:*STRAIN' --start 1126259458 --stop 1126259466 --wait
      gwclient push --event GW150914
      gwclient push --event GW150914 --detector L1 --start -4 --stop 4 --dq DATA,CBC_CAT1
      gwclient push --gps 1126259446 1126259478 --detector H1,L1
      gwclient push --stdin < segments.ndjson

    Samples that are not finite, or fail the data-quality bits, are left out and reported with their GPS spans. A cursor
    file (under XDG_STATE_HOME) records what was acknowledged: after an interruption, run the same command again, and
    only the rest is sent. A segment whose answer was lost is sent again under the same key, and stored once.
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    named = (*sources, *files, *([folder] if folder else []))
    wanted = _Wanted(named, **chosen)
    if wanted.stdin:
        if sys.stdin is None:
            raise InvalidSource("standard input cannot be read: it is closed")
        unread: list[str] = []
        send_live(pieces_of_lines(read_lines(sys.stdin.fileno()), options.length, unread), unread, options, connection)
    elif wanted.open_data:
        source, runs = _open_data(wanted, connection)
        _print_shortage(source, runs)
        send_source(source, runs, options, connection)
    else:
        source = _files(wanted)
        send_source(source, source.runs(), options, connection)


def _open_data(wanted: _Wanted, connection: Connection) -> tuple[FileSource, list[Run]]:
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
    paths: list[Path] = []
    folders: list[Path] = []
    unnamed: list[str] = []
    for path in chain.from_iterable(map(_expanded, wanted.sources)):
        if path.is_dir():
            found, without_span = strain_files(path, *wanted.window)
            folders.append(path)
            paths += found
            unnamed += without_span
        elif path.name not in _BESIDE:
            paths.append(path)
    if unnamed:
        some = f"{unnamed[0]} and {len(unnamed) - 1} more" if len(unnamed) > 1 else unnamed[0]
        click.echo(f"left out, not named as OBS-TYPE-GPSSTART-DURATION: {some}; to push one, name the file", err=True)
    _check_arrays(wanted, paths)
    of_folders = len(folders) == len(wanted.sources)
    name = ", ".join(f"folder {path}" for path in sorted(each.resolve() for each in folders)) if of_folders else ""
    grid = Grid(wanted.rate, wanted.t0)
    return FileSource(tuple(paths), *wanted.window, wanted.bits, wanted.channels, name=name, grid=grid)


def _expanded(source: str) -> list[Path]:
    """Return the path, or the paths that match a pattern which the shell did not expand."""
    try:
        os.lstat(source)
    except FileNotFoundError as error:
        if found := sorted(glob(source, recursive=True)):  # noqa: PTH207 (a Path takes no absolute pattern)
            return [Path(each) for each in found]
        raise click.UsageError(f"{source!r}: no such file or folder") from error
    except OSError as error:
        raise click.UsageError(f"{source!r}: {error.strerror}") from error
    return [Path(source)]


def _check_arrays(wanted: _Wanted, paths: Sequence[Path]) -> None:
    """Raise UsageError if --rate and --t0 are given for files that have their own, or describe several files."""
    arrays = [path for path in paths if is_array(path)]
    if len(arrays) > 1:
        raise click.UsageError("--rate, --t0 and --channel describe one file; push NPY and CSV files one by one")
    if arrays and len(paths) > 1:
        raise click.UsageError(f"{arrays[0]} does not name its channel; push it alone")
    needed = {"--rate HZ": wanted.rate, "--t0 GPS": wanted.t0} if arrays and extension(arrays[0]) == NPY else {}
    missing = [option for option, value in needed.items() if value is None]
    missing += ["--channel L1:MY-STRAIN"] if arrays and not wanted.channels else []
    if missing:
        raise click.UsageError(f"{arrays[0]} has only samples; it needs {', '.join(missing)}")
    if not arrays and (wanted.rate is not None or wanted.t0 is not None):
        raise click.UsageError(f"--rate and --t0 apply to NPY and CSV files; {paths[0]} has its own times")
