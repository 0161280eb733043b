"""The command line of preprocessing: the only place that prints or exits.

Exit codes: 0 done, 1 could not (one line on standard error says why), 2 the command makes no sense as written.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from preproc.errors import BadParameter, PreprocError
from preproc.parameters import Parameters
from preproc.pipeline import preprocess
from preproc.plots import draw_contact_sheet
from preproc.progress import bar, silent
from preproc.summary import summarise

DATASET = "dataset.h5"
PICTURE = "spectrograms.png"

_HELP = {
    "window": "length of a spectrogram in s",
    "stride": "distance between two windows in s (default: the window's length)",
    "q": "quality factor of the transform",
    "fmin": "lowest frequency in Hz",
    "fmax": "highest frequency in Hz",
    "rows": "number of frequencies, spaced logarithmically",
    "columns": "number of times in a window",
    "mismatch": "largest fractional energy loss between neighbouring tiles",
    "highpass": "corner of the highpass in Hz",
    "fduration": "length of the whitening filter in s",
    "psd_fftlength": "length of a periodogram of the power spectrum in s",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; give the exit code."""
    parser = _parser(os.environ)
    options = parser.parse_args(arguments)
    if options.data is None:
        parser.error("--data DIR is required where DATART is not set")
    if options.out.resolve() == options.data.resolve():
        parser.error("--out must not be the directory of the data, which stays as it is")
    try:
        parameters = _parameters(options)
    except BadParameter as error:
        parser.error(str(error))
    try:
        print(_run(options.data, options.out, parameters))  # noqa: T201 (the result of the command)
    except PreprocError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("interrupted")
    return 0


def _run(data: Path, out: Path, parameters: Parameters) -> str:
    dataset, picture = out / DATASET, out / PICTURE
    preprocess(data, dataset, parameters, bar if sys.stderr.isatty() else silent)
    draw_contact_sheet(dataset, picture)
    return f"{summarise(dataset)}\nwritten: {dataset} ({dataset.stat().st_size / 1e6:.2g} MB), {picture}"


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m preproc", description="Turn a batch of strain segments into spectrograms for training."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="make a dataset of a directory of segment files",
        description=f"Make {DATASET} and {PICTURE} of a directory of gwb*.json files.",
        epilog="Exit codes: 0 done, 1 could not, 2 the command makes no sense as written.",
    )
    datart = environment.get("DATART")
    run.add_argument(
        "--data", type=Path, metavar="DIR", default=Path(datart) if datart else None, help="the batch (default: DATART)"
    )
    run.add_argument("--out", type=Path, metavar="DIR", required=True, help="where the result goes, made if missing")
    for field in fields(Parameters):
        default = None if field.name == "stride" else field.default
        run.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=type(field.default),
            default=default,
            metavar="N",
            help=_HELP[field.name] + ("" if default is None else f" (default: {default:g})"),
        )
    return parser


def _parameters(options: argparse.Namespace) -> Parameters:
    chosen = {field.name: getattr(options, field.name) for field in fields(Parameters)}
    if chosen["stride"] is None:
        chosen["stride"] = chosen["window"]
    return Parameters(**chosen)


def _fail(message: str) -> int:
    print(f"preproc: {' '.join(message.split())}", file=sys.stderr)  # noqa: T201 (the one line that says why)
    return 1
