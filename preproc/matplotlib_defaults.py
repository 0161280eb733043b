"""Matplotlib with its own defaults, so that a picture depends only on its dataset."""

import os
from contextlib import chdir, nullcontext
from importlib import import_module
from pathlib import Path


def import_matplotlib() -> None:
    """Import matplotlib with its defaults, whatever the environment and the files of the user say.

    Its import fails if they name a backend that is not installed, as in notebooks, or are not UTF-8; pictures fail if
    they ask for LaTeX, and there is none.
    """
    os.environ |= {"MPLBACKEND": "agg", "MATPLOTLIBRC": os.devnull}
    # A file in the current folder would come before MATPLOTLIBRC.
    is_here = os.path.exists("matplotlibrc")  # noqa: PTH110 (that of Path fails in a folder that cannot be searched)
    with chdir(Path(os.devnull).parent) if is_here else nullcontext():
        import_module("matplotlib")
