"""`gwclient simulate`: simulated strain to the gateway, or to a folder."""

import math
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import msgspec
from click.core import ParameterSource

from gwclient.account import done_text
from gwclient.commands.options import (
    Connection,
    GivenPath,
    PushOptions,
    StrictCommand,
    detectors,
    seconds,
    with_connection,
    with_push_options,
)
from gwclient.commands.transfer import send_live, send_source
from gwclient.folder import prepare_folder, write_batch, write_file
from gwclient.pieces import Length, Piece, in_time_order
from gwclient.progress import Progress
from gwclient.push import Report
from gwclient.sources.simulate import SimulatedSource
from gwclient.strain import Run, join_spans
from gwwire.gps import gps_of_unix


@click.command(cls=StrictCommand)
@click.option(
    "--detectors", type=detectors, metavar="H1,L1", default="H1,L1", show_default=True, help="Any of H1, L1, V1, K1."
)
@click.option(
    "--seconds",
    "duration",
    type=seconds(0.1, 4096),
    default=64.0,
    show_default=True,
    help="Seconds of strain of each detector.",
)
@click.option("--rate", type=click.IntRange(1024, 16384), default=4096, show_default=True, help="Samples per second.")
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="The same seed and t0 give the same strain."
)
@click.option(
    "--t0",
    type=click.IntRange(0, 10**10),
    default=1_400_000_000,
    show_default=True,
    help="GPS seconds of the first sample.",
)
@click.option(
    "--glitch-rate", type=click.FloatRange(0, 10), default=0.1, show_default=True,
    help="Mean number of injected glitches per second and detector.",
)  # fmt: skip
@click.option(
    "--out", type=GivenPath(file_okay=False, path_type=Path),
    help="Write a batch folder, with the truth in glitches.json, and send nothing.",
)  # fmt: skip
@click.option("--truth", type=GivenPath(dir_okay=False, path_type=Path), help="Write the truth to this file.")
@click.option("--live", is_flag=True, help="Send from now on, at the detectors' pace, until Ctrl-C.")
@with_push_options
@with_connection
def simulate(
    out: Path | None,
    truth: Path | None,
    live: bool,  # noqa: FBT001 (click calls it by name)
    options: PushOptions,
    connection: Connection,
    **parameters: Any,
) -> None:
    """Push simulated noise with glitches.

    The noise has the design sensitivity of the detectors. Blips, sine-Gaussians and scattered-light arches are injected
    at random times; the meta of each segment names those in it.

    \b
    Examples:
      gwclient simulate --detectors H1,L1 --seconds 64 --rate 4096 --seed 1
      gwclient simulate --detectors H1,L1,V1 --t0 1400000064 --truth glitches.json --wait
      gwclient simulate --seconds 32 --out batch/
      gwclient simulate --live --detectors H1,L1,V1 --wait
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    if live:
        _refuse_with_live("duration", "t0", "out", "truth")
        parameters["t0"] = math.floor(gps_of_unix(time.time()))
        source = SimulatedSource(**parameters)
        send_live(_as_they_come(source.endless_runs(), options.length), [], options, connection)
        return
    source = SimulatedSource(**parameters)
    if out is not None:
        prepare_folder(out)
    runs = list(source.runs())
    truth_text = msgspec.json.format(msgspec.json.encode(source.truth(runs)))
    if truth is not None:
        write_file(truth, truth_text)
    if out is None:
        send_source(source, iter(runs), options, connection)
        return
    report = Report()
    with closing(Progress(sys.stderr, source.seconds, quiet=connection.as_json)) as progress:

        def on_written(piece: Piece, size: int) -> None:
            report.note_acknowledged(piece.span, size)
            progress.acknowledged(piece)

        write_batch(out, in_time_order(runs, options.length, lambda _: None), on_written)
    write_file(out / "glitches.json", truth_text)
    written = {"written": report.segments, "bytes": report.bytes, "spans": join_spans(report.acknowledged)}
    words = f"{done_text(report, f'written to {out}')}\nthe truth is in {out / 'glitches.json'}"
    connection.print_answer({**written, "folder": str(out)}, words)


def _refuse_with_live(*names: str) -> None:
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in names and context.get_parameter_source(parameter.name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{parameter.opts[0]} does not apply to --live, which sends from now on without end")


def _as_they_come(runs: Iterator[Run], length: Length) -> Iterator[Piece | None]:
    """Yield the pieces of runs, each as soon as its last sample is in the past, and None before."""
    for piece in in_time_order(runs, length, lambda _: None):
        while gps_of_unix(time.time()) < piece.span.stop:
            yield None
        yield piece
