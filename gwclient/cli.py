"""The `gwclient` command; the only place that prints, reads the environment, or exits."""

import asyncio
import math
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import msgspec

from gwclient.account import for_people, for_programs, tell_done, tell_failure
from gwclient.answers import TrainOutcome
from gwclient.client import GlitchflowClient
from gwclient.errors import FolderError, GatewayRefused, GwclientError, InvalidSource
from gwclient.folder import prepare_folder, write_batch, write_whole
from gwclient.options import Detectors, Door, Seconds, Sending, with_door, with_sending
from gwclient.progress import Progress
from gwclient.push import Ending, Report, push
from gwclient.segmenting import in_time_order
from gwclient.sources import Source
from gwclient.sources.file import FileSource
from gwclient.sources.gwosc import GwoscSource, event_detectors
from gwclient.sources.simulate import SimulatedSource
from gwclient.strain import Run, Span, join_spans

T = TypeVar("T")

NOT_ACKNOWLEDGED, USAGE, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130

EXIT_CODES = """\b
Exit codes:
  0    everything was acknowledged, or answered
  1    something was refused, or not acknowledged
  2    the command, or the data it names, cannot be used
  3    the gateway, or the source of the data, does not answer
  130  interrupted
"""

#: Seconds before and after an event's GPS time that are pushed where nobody says how many.
_EVENT_WINDOW = (-4.0, 4.0)


@click.group(invoke_without_command=True, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("glitchflow-datastore"), prog_name="gwclient")
@click.pass_context
def gwclient(context: click.Context) -> None:
    """Push strain to a GlitchFlow gateway, and ask it questions.

    Without a command, the window is taken from the environment: GWID (event), DTCID (detector), INF and SUP
    (seconds relative to the event's GPS time), SRV (gateway).

    \b
    Examples:
      gwclient push --event GW150914 --detector L1 --start -4 --stop 4
      gwclient simulate --detectors H1,L1 --seconds 64 --srv http://gateway:8000
      GWID=GW150914 DTCID=L1 INF=-4 SUP=4 SRV=http://gateway:8000 gwclient
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    if context.invoked_subcommand is not None:
        return
    window = {name: os.environ.get(name, "").strip() for name in ("GWID", "DTCID", "INF", "SUP")}
    if not any(window.values()):
        click.echo(context.get_help())
        return
    if missing := [name for name, value in window.items() if not value]:
        raise click.UsageError(f"the environment names a window, but not its {', '.join(missing)}")
    options = ("--event", "--detector", "--start", "--stop")
    words = [f"{option}={value}" for option, value in zip(options, window.values(), strict=True)]
    with push_command.make_context("gwclient", words, parent=context) as subcontext:
        push_command.invoke(subcontext)


@gwclient.command("push", epilog=EXIT_CODES)
@click.option("--event", help="Fetch open data around this event from GWOSC.")
@click.option("--detector", type=Detectors(), help="With --event: one or more, as H1,L1.  [default: all]")
@click.option("--rate", type=click.Choice(["4096", "16384"]), help="With --event: samples per second.  [default: 4096]")
@click.option(
    "--file", "files", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Read a strain file in GWOSC's HDF5 layout; may be given several times.",
)  # fmt: skip
@click.option(
    "--start",
    type=Seconds(),
    help="With --event: seconds relative to its GPS time (-4). With --file: GPS seconds.",
)
@click.option("--stop", type=Seconds(), help="The same for the end, which is not included (4).")
@with_sending
@with_door
def push_command(  # noqa: PLR0913, PLR0917 (one for each option)
    event: str | None,
    detector: tuple[str, ...] | None,
    rate: str | None,
    files: tuple[Path, ...],
    start: float | None,
    stop: float | None,
    sending: Sending,
    door: Door,
) -> None:
    """Push recorded strain: open data around an event, or files.

    \b
    Examples:
      gwclient push --event GW150914
      gwclient push --event GW150914 --detector L1 --start -4 --stop 4
      gwclient push --file H-H1_LOSC_4_V2-1126259446-32.hdf5 --file L-L1_LOSC_4_V2-1126259446-32.hdf5
      gwclient push --file L-L1_LOSC_4_V2-1126259446-32.hdf5 --start 1126259458 --stop 1126259466 --wait

    A segment whose answer was lost is sent again under the same key, by which the gateway stores it once.
    """  # noqa: D301 (see above)
    if (event is None) == (not files):
        raise click.UsageError("name either --event or --file")
    if start is not None and stop is not None and not start < stop:
        raise click.UsageError(f"--start {start:g} is not before --stop {stop:g}")
    if event is None:
        if detector or rate:
            raise click.UsageError("--detector and --rate go with --event; a file says itself what it holds")
        source = FileSource(files, -math.inf if start is None else start, math.inf if stop is None else stop)
        _send(source, source.runs(), sending, door)
        return
    start, stop = _EVENT_WINDOW[0] if start is None else start, _EVENT_WINDOW[1] if stop is None else stop
    if not start < stop:
        raise click.UsageError(f"--start {start:g} is not before --stop {stop:g}")
    _push_event(GwoscSource(event, detector or event_detectors(event), start, stop, int(rate or "4096")), sending, door)


def _push_event(source: GwoscSource, sending: Sending, door: Door) -> None:
    if not door.as_json:
        click.echo(f"fetching {source.event} of {', '.join(source.detectors)} from GWOSC", err=True)
    runs = list(source.runs())
    for run in runs:
        start, stop = run.gps(0), run.gps(len(run.strain))
        if stop - start < source.stop - source.start - 2 * run.dt:
            click.echo(f"GWOSC has only [{start!r}, {stop!r}) of that window for {run.channel}", err=True)
    _send(source, iter(runs), sending, door)


@gwclient.command(epilog=EXIT_CODES)
@click.option(
    "--detectors", type=Detectors(), default="H1,L1", show_default=True, help="Of H1, L1, V1, K1.",
)  # fmt: skip
@click.option("--seconds", type=Seconds(0.1, 4096), default=64.0, show_default=True, help="Of each detector.")
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
@with_sending
@with_door
def simulate(  # noqa: PLR0913, PLR0917 (one for each option)
    detectors: tuple[str, ...],
    seconds: float,
    rate: int,
    seed: int,
    t0: int,
    glitch_rate: float,
    out: Path | None,
    truth: Path | None,
    sending: Sending,
    door: Door,
) -> None:
    """Push simulated strain: noise of the detectors' design sensitivity with injected glitches.

    Blips, sine-Gaussians and scattered-light arches fall at random times; each segment's meta names those in it.

    \b
    Examples:
      gwclient simulate --detectors H1,L1 --seconds 64 --rate 4096 --seed 1
      gwclient simulate --detectors H1,L1,V1 --t0 1400000064 --truth glitches.json --wait
      gwclient simulate --seconds 32 --out batch/
    """  # noqa: D301 (see above)
    source = SimulatedSource(detectors, seconds, rate, seed, t0, glitch_rate)
    if out is not None:
        prepare_folder(out)
    runs = list(source.runs())
    telling = msgspec.json.format(msgspec.json.encode(source.truth(runs)))
    if truth is not None:
        write_whole(truth, telling)
    if out is None:
        _send(source, iter(runs), sending, door)
    else:
        _write(out, source, runs, telling, sending, door)


def _write(  # noqa: PLR0913, PLR0917 (all of what a batch folder is made from)
    folder: Path, source: Source, runs: Sequence[Run], truth: bytes, sending: Sending, door: Door
) -> None:
    report = Report()
    progress = Progress(sys.stderr, source.seconds, quiet=door.as_json)

    def on_written(piece: Any, size: int) -> None:
        report.acknowledged.append(piece.span)
        report.bytes += size
        progress.acknowledged(piece)

    try:
        write_batch(folder, in_time_order(runs, sending.segment_seconds, on_gap=lambda _: None), on_written)
    finally:
        progress.close()
    write_whole(folder / "glitches.json", truth)
    written = {"written": len(report.acknowledged), "bytes": report.bytes, "spans": join_spans(report.acknowledged)}
    words = f"{tell_done(report, f'written to {folder}')}\nthe truth is in {folder / 'glitches.json'}"
    _tell(door, {**written, "folder": str(folder)}, words)


def _send(source: Source, runs: Iterator[Run], sending: Sending, door: Door) -> None:
    """Push the runs, tell the account, and exit with what it amounts to."""
    skipped: list[Span] = []
    pieces = in_time_order(runs, sending.segment_seconds, on_gap=skipped.append)
    progress = Progress(sys.stderr, source.seconds, quiet=door.as_json)

    async def work() -> Report:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def interrupt() -> None:
            stop.set()
            loop.remove_signal_handler(signal.SIGINT)  # a second Ctrl-C does not wait
            progress.say("stopping; what is on its way may still arrive")

        loop.add_signal_handler(signal.SIGINT, interrupt)
        async with door.client(progress.retrying) as client:
            return await push(
                client, pieces, concurrency=sending.concurrency, wait=sending.wait, poll=sending.poll,
                listener=progress, stop=stop,
            )  # fmt: skip

    try:
        report = asyncio.run(work())
    finally:
        progress.close()
    _tell(door, for_programs(report, skipped), for_people(report, skipped))
    if report.ending is not Ending.COMPLETE:
        click.echo(f"gwclient: {tell_failure(report)}", err=True)
        sys.exit(_exit_code_of(report))
    if not report.acknowledged:
        raise InvalidSource("there was nothing to send: no sample is finite")


@gwclient.command(epilog=EXIT_CODES)
@with_door
def stats(door: Door) -> None:
    """Tell how many segments and bytes the batch in hand has.

    Example: gwclient stats --json
    """
    answer = _ask(door, lambda client: client.stats())
    _tell(door, answer, f"{answer.n_itm} segments, {answer.buff_size} bytes")


@gwclient.command(epilog=EXIT_CODES)
@with_door
def desc(door: Door) -> None:
    """Tell the datastore's state, OPERATIONAL or FROZEN.

    Example: gwclient desc --srv gateway:8000
    """
    answer = _ask(door, lambda client: client.desc())
    _tell(door, answer, answer.resp)


@gwclient.command("list", epilog=EXIT_CODES)
@with_door
def list_command(door: Door) -> None:
    """List the files of the batch in hand, one in a line.

    Example: gwclient list
    """
    answer = _ask(door, lambda client: client.list())
    if answer.nmlist or door.as_json:
        _tell(door, answer, "\n".join(answer.nmlist))


@gwclient.command(epilog=EXIT_CODES)
@click.option("--user", required=True, help="Who will hold the batch.")
@click.option("--token", required=True, help="The holder's token.")
@with_door
def train(user: str, token: str, door: Door) -> None:
    """Ask for the batch in hand to be frozen for training: FROZEN, or WAITING for more data.

    Example: gwclient train --user ada --token s3cret
    """
    answer = _ask(door, lambda client: client.train(user, token))
    if answer.resp is TrainOutcome.WAITING:
        words = "WAITING: the batch is not complete yet"
    else:
        holder = f", held by {answer.holder}" if answer.holder else ""
        words = f"FROZEN: {answer.n_f} segments, {answer.bt_wrt} bytes{holder}"
    _tell(door, answer, words)


@gwclient.command(epilog=EXIT_CODES)
@click.option("--message", default="cleaned by gwclient", show_default=True, help="Goes with the order.")
@with_door
def clean(message: str, door: Door) -> None:
    """Have the batch in hand archived, and the datastore opened again.

    Example: gwclient clean --message "epoch 12 done"
    """
    answer = _ask(door, lambda client: client.clean(message))
    _tell(door, answer, f"{answer.resp}: {answer.body}" if answer.body else answer.resp)


def _tell(door: Door, answer: Any, words: str) -> None:
    click.echo(msgspec.json.encode(answer).decode() if door.as_json else words)


def _ask(door: Door, question: Callable[[GlitchflowClient], Coroutine[Any, Any, T]]) -> T:
    async def work() -> T:
        async with door.client() as client:
            return await question(client)

    return asyncio.run(work())


def _exit_code_of(report: Report) -> int:
    if report.ending is Ending.INTERRUPTED:
        return INTERRUPTED
    return _exit_code(report.error) if report.error else NOT_ACKNOWLEDGED


def _exit_code(error: GwclientError) -> int:
    match error:
        case GatewayRefused():
            return NOT_ACKNOWLEDGED
        case InvalidSource() | FolderError():
            return USAGE
        case _:
            return UNREACHABLE


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit; every error is one line on stderr.

    Args:
        arguments: what comes after the command's name; the process's own where not given.

    """
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        return gwclient.main(arguments, prog_name="gwclient", standalone_mode=False) or 0
    except click.ClickException as error:
        click.echo(f"gwclient: {' '.join(error.format_message().split())}", err=True)
        return USAGE
    except GwclientError as error:
        click.echo(f"gwclient: {error}", err=True)
        return _exit_code(error)
    except (KeyboardInterrupt, click.Abort):
        click.echo("gwclient: interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the answer went away; say nothing more, not even at exit.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOT_ACKNOWLEDGED
