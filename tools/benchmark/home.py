"""The option --home of the benchmarks."""

import argparse
from pathlib import Path


def add_home(parser: argparse.ArgumentParser) -> None:
    """Add the option --home, which has to name a folder."""
    parser.add_argument("--home", type=_folder, help="folder on the disk to measure; default: a temporary folder")


def _folder(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a folder; it has to exist")
    return Path(text)
