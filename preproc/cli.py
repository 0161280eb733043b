"""The command line of preprocessing: the only place that prints or exits.

Exit codes: 0 done (or nothing to do), 1 failed (one line on standard error says why), 2 wrong usage, 5 the output
cannot be written, 130 interrupted.
"""

import argparse
import asyncio
import math
import os
import re
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gwclient.errors import GwclientError
from gwclient.output import checked_output, print_error
from gwwire.names import printable
from preproc.errors import BadParameter, PreprocError
from preproc.executors import Executor, here, in_processes, on_dask
from preproc.exports import torch_is_installed
from preproc.parameter_file import read_parameters
from preproc.parameters import DESCRIBED, Parameters
from preproc.progress import Progress, bar, silent
from preproc.report import summarise
from preproc.run import (
    ANNALISA,
    DATASET,
    PICTURE,
    QT,
    DirectorySource,
    Request,
    Source,
    draw_windows,
    fulfil,
    window_picture,
)
from preproc.selection import Selection

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

_EXIT_CODES = "Exit codes: 0 done, 1 failed, 2 wrong usage, 5 the output cannot be written, 130 interrupted."
_GATEWAY = "http://127.0.0.1:8000"
#: Stands for the id of the batch in --out, or for its digest if it is not sealed.
_BATCH = "{batch}"
_OUT = Path("dataset")
#: Processes of --jobs.
_MOST_JOBS = 1000
_STEP = "spectrograms"
#: Checks the options, and returns a function that runs the command.
Prepare = Callable[[argparse.Namespace], Callable[[], int]]
_EXPORTS = {"qt": QT, "annalisa": ANNALISA}


class _Parser(argparse.ArgumentParser):
    """A parser that fails if its help cannot be written; argparse ignores that."""

    def print_help(self, file: "SupportsWrite[str] | None" = None) -> None:
        (file or sys.stdout).write(self.format_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    try:
        with checked_output():
            return _main(arguments)
    except (PreprocError, GwclientError) as error:
        if str(error):
            _fail(str(error))
        return error.exit_code
    except MemoryError:
        return _fail("there is not enough memory")
    except (KeyboardInterrupt, asyncio.CancelledError):
        _fail("interrupted")
        return 130


def _main(arguments: Sequence[str] | None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    parser, words = _parser(os.environ), _with_command(words, os.environ)
    if not words:
        parser.print_help()
        return 0
    options = parser.parse_args(words)
    try:
        command: Callable[[], int] = options.prepare(options)
    except BadParameter as error:
        options.parser.error(printable(str(error)))
    return command()


def _with_command(words: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Return the words of the command line, with the command that the environment implies if there is none."""
    if words and (not words[0].startswith("-") or words[0] in {"-h", "--help"}):
        return list(words)
    if environment.get("DATART") or {word.partition("=")[0] for word in words} & {"--data", "--batch"}:
        return ["run", *words]
    return ["watch", "--once", *words] if environment.get("SRV") else list(words)


def _prepare_run(options: argparse.Namespace) -> Callable[[], int]:
    source: Source
    if options.batch is not None:
        from preproc.gateway import GatewaySource  # noqa: PLC0415 (a directory needs no HTTP client)

        source = GatewaySource(_gateway(options), options.batch, _api_key(options))
    elif options.data is None:
        raise BadParameter("--data DIR or --batch ID is required if DATART is not set")
    elif options.out.resolve() == options.data.resolve():
        raise BadParameter("--out must not be the directory of the data, which is never changed")
    else:
        source = DirectorySource(options.data)
    windows = tuple(options.window_png)
    request = Request(source, options.out, _parameters(options), _exports(options), options.target, windows)
    return partial(_run, request, _executor(options))


def _run(request: Request, executor: Executor) -> int:
    if _BATCH in str(request.out):
        batch = request.source.batch_id()
        name = batch if batch and Path(batch).name == batch else request.source.digest(_progress())[:12]
        request = replace(request, out=Path(str(request.out).replace(_BATCH, name)))
    changed = fulfil(request, _progress(), executor, notify=_notify)
    dataset = request.dataset
    if changed:
        names = (PICTURE, *sorted(request.exports), *map(window_picture, request.windows))
        products = ", ".join(str(request.out / name) for name in names)
        _say(f"{summarise(dataset)}\nwritten: {dataset} ({dataset.stat().st_size / 1e6:.2g} MB), {products}")
    else:
        _say(f"nothing to do: {request.out} holds the dataset of this batch with these parameters")
    return 0


def _prepare_watch(options: argparse.Namespace) -> Callable[[], int]:
    from preproc.watch import Worker  # noqa: PLC0415 (the other commands need no HTTP client)

    worker = Worker(
        url=_gateway(options),
        out=options.out,
        step=options.step,
        name=options.worker or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}",
        parameters=_parameters(options),
        exports=_exports(options),
        target=options.target,
        lease=options.lease,
        archived=options.all,
        clean=options.clean,
        once=options.once,
        api_key=_api_key(options),
        progress=_progress(),
        executor=_executor(options),
        log=_say,
    )
    return lambda: asyncio.run(_until_terminated(worker.work())) or 0


async def _until_terminated(work: Coroutine[Any, Any, None]) -> None:
    """Cancel the work at SIGTERM, as asyncio does at SIGINT: raised anywhere, KeyboardInterrupt gives nothing back."""
    working = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
    await working


def _plot(options: argparse.Namespace) -> int:
    for picture in draw_windows(options.dataset, options.windows, options.out or options.dataset.parent):
        _say(str(picture))
    return 0


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    about = "Turn batches of strain segments into spectrograms for training."
    default = (
        "Without COMMAND, it is `run` if DATART is set, and `watch --once` if only SRV is set. "
        f"`COMMAND --help` describes a command. {_EXIT_CODES}"
    )
    parser = _Parser(prog="python -m preproc", description=about, epilog=default)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add = partial(commands.add_parser, epilog=_EXIT_CODES)
    about = f"Make {DATASET}, pictures and reports from a directory of gwb*.json files, or from a sealed batch."
    run = add("run", help="make the dataset of one batch", description=about)
    datart = environment.get("DATART") or None
    where = run.add_mutually_exclusive_group()
    data = "directory of the batch (default: DATART)"
    where.add_argument("--data", type=_path, metavar="DIR", default=datart, help=data)
    where.add_argument("--batch", type=_printable, metavar="ID", help="id of the batch, to fetch it from the gateway")
    picture = "also draw window N by itself; may be repeated"
    run.add_argument("--window-png", type=int, metavar="N", action="append", default=[], help=picture)
    out = f"output folder, created if missing; {_BATCH} stands for the batch's id, or its digest if it is not sealed"
    run.add_argument(
        "--out", type=_path, metavar="DIR", default=_OUT / _BATCH, help=f"{out} (default: {_OUT / _BATCH})"
    )
    _add_shared(run, environment, _prepare_run)
    about = "Wait for a frozen batch, make its dataset in OUT/ID, and start again, as a listener of a step."
    watch = add("watch", help="make a dataset of each batch that is frozen", description=about)
    watch.add_argument("--clean", action="store_true", help="archive each batch after its dataset is published")
    watch.add_argument("--once", action="store_true", help="exit after one batch")
    archived = (
        "also process the archived batches on which the step was not done (default: only batches not archived yet)"
    )
    watch.add_argument("--all", action="store_true", help=archived)
    step = f"name of the step on the record of each batch (default: {_STEP})"
    watch.add_argument("--step", type=_printable, default=_STEP, metavar="NAME", help=step)
    name = "name of this worker in its leases; every worker needs its own (default: a random name)"
    watch.add_argument("--worker", type=_printable, metavar="NAME", help=name)
    lease = "seconds after which another worker gets the batch unless the lease is renewed (default: 60)"
    watch.add_argument("--lease", type=_seconds, default=60.0, metavar="S", help=lease)
    out = f"output folder, created if missing; each batch gets a folder in it (default: {_OUT})"
    watch.add_argument("--out", type=_path, metavar="DIR", default=_OUT, help=out)
    _add_shared(watch, environment, _prepare_watch)
    plot = add("plot", help="draw single windows of a dataset")
    plot.add_argument("dataset", type=_path, metavar="DATASET", help=f"a {DATASET}")
    plot.add_argument("windows", type=int, nargs="+", metavar="N", help="number of a window; the first is 0")
    plot.add_argument("--out", type=_path, metavar="DIR", help="output folder (default: that of the dataset)")
    plot.set_defaults(prepare=lambda options: partial(_plot, options), parser=plot)
    return parser


def _add_shared(parser: argparse.ArgumentParser, environment: Mapping[str, str], prepare: Prepare) -> None:
    parser.set_defaults(prepare=prepare, parser=parser)
    add = parser.add_argument
    gateway = f"address of the gateway (default: SRV, or {_GATEWAY})"
    add("--gateway", metavar="URL", default=environment.get("SRV") or _GATEWAY, help=gateway)
    key = "file with the API key, if the gateway requires one (default: GLITCHFLOW_KEY_FILE)"
    add("--key-file", type=_path, metavar="FILE", default=environment.get("GLITCHFLOW_KEY_FILE") or None, help=key)
    channels = "use only these channels, by names or shell patterns such as 'L1:*STRAIN' (default: all)"
    add("--channels", type=_printable, nargs="+", action="extend", metavar="CHANNEL", default=[], help=channels)
    add("--start", type=_gps, metavar="GPS", default=-math.inf, help="use only strain from this GPS time on, s")
    add("--stop", type=_gps, metavar="GPS", default=math.inf, help="use only strain before this GPS time, s")
    add("--jobs", type=_jobs, metavar="N", default=1, help="number of processes that compute (default: 1)")
    add("--scheduler", metavar="URL", help="compute on the Dask cluster with this scheduler, such as tcp://host:8786")
    export = f"also write {QT} (default if torch is installed), or a folder of strain for ANNALISA; may be repeated"
    add("--export", choices=[*_EXPORTS, "none"], action="append", help=export)
    target = f"channel that comes first in {QT} (default: the first by name)"
    add("--target", type=_printable, metavar="CHANNEL", help=target)
    add("--parameters", type=_path, metavar="FILE", help="YAML file of parameters, with the training code's names")
    defaults = Parameters()
    for name, (kind, text) in DESCRIBED.items():
        default = None if name == "stride" else getattr(defaults, name)
        more = "" if default is None else f" (default: {default:g})"
        add(f"--{name.replace('_', '-')}", type=kind, metavar=kind.__name__.upper(), help=text + more)


def _parameters(options: argparse.Namespace) -> Parameters:
    chosen = {} if options.parameters is None else read_parameters(options.parameters)
    named = {name: getattr(options, name) for name in DESCRIBED}
    chosen |= {name: value for name, value in named.items() if value is not None}
    if "window" in chosen:
        chosen.setdefault("stride", chosen["window"])
        chosen.setdefault("padding", min(Parameters.padding, chosen["window"] / 2))
    selection = Selection(tuple(sorted(set(options.channels))), options.start, options.stop)
    return Parameters(**chosen, selection=selection)  # type: ignore[arg-type]  # the reader and argparse check the types


def _exports(options: argparse.Namespace) -> frozenset[str]:
    chosen = options.export
    if chosen is None:
        return frozenset({QT}) if torch_is_installed() else frozenset()
    return frozenset(_EXPORTS[name] for name in chosen if name != "none")


def _gateway(options: argparse.Namespace) -> str:
    from gwclient.client import parse_gateway_url  # noqa: PLC0415 (a directory needs no client)

    try:
        return parse_gateway_url(options.gateway.strip())
    except ValueError as error:
        raise BadParameter(f"--gateway: {error}") from error


def _api_key(options: argparse.Namespace) -> str | None:
    from gwclient.api_key import read_api_key  # noqa: PLC0415 (a directory needs no client)

    try:
        return read_api_key(options.key_file) if options.key_file else None
    except ValueError as error:
        raise BadParameter(str(error)) from error


def _executor(options: argparse.Namespace) -> Executor:
    if options.scheduler is not None:
        if not re.fullmatch(r"(\w+://)?[^\s/]+:\d+", options.scheduler):
            raise BadParameter(f"--scheduler: {options.scheduler!r} is not an address such as tcp://host:8786")
        return on_dask(options.scheduler)
    return here if options.jobs == 1 else in_processes(options.jobs)


def _progress() -> Progress:
    return bar if sys.stderr.isatty() else silent


def _jobs(text: str) -> int:
    with suppress(ValueError):
        if 1 <= (number := int(text)) <= _MOST_JOBS:
            return number
    raise argparse.ArgumentTypeError(f"{text[:20]!r} is not a number from 1 to {_MOST_JOBS}")


def _path(text: str) -> Path:
    if not text:  # Path takes it for the working directory
        raise argparse.ArgumentTypeError("a path cannot be empty")
    return Path(text)


def _printable(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("a name cannot be empty")
    if not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} holds characters that cannot be printed")
    return text


def _gps(text: str) -> float:
    with suppress(ValueError):
        if math.isfinite(gps := float(text)):
            return gps
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of GPS seconds")


def _seconds(text: str) -> float:
    with suppress(ValueError):
        seconds = float(text)
        if 0 < seconds < math.inf:
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")


def _say(text: str) -> None:
    print(_lines(text), flush=True)  # noqa: T201 (the result of the command)


def _notify(text: str) -> None:
    print_error(f"preproc: {_lines(text)}")


def _fail(message: str) -> int:
    print_error(f"preproc: {printable(' '.join(message.split()))}")
    return 1


def _lines(text: str) -> str:
    """Return lines for a terminal; some contain names of files and channels."""
    return "\n".join(map(printable, text.split("\n")))
