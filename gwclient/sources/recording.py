"""Recordings: what a strain file contains of one channel, and how to read its samples."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gwclient.strain import Quality

_CHANNEL = re.compile(r"[A-Z]\d:\S+")


@dataclass(frozen=True, eq=False)
class Recording:
    """One channel of a strain file.

    Attributes:
        path: the file.
        detector: as "L1".
        channel: `DET:NAME`.
        t0: GPS seconds of the first sample.
        dt: sample spacing, s.
        count: the number of samples.
        quality: the file's data-quality bits, or None if it has none.
        read: returns the samples [first, last), float64; invalid ones are NaN.

    """

    path: Path
    detector: str
    channel: str
    t0: float
    dt: float
    count: int
    quality: Quality | None
    read: Callable[[int, int], NDArray[np.floating[Any]]]


def gwosc_channel(name: str, detector: str, rate: float) -> str:
    """Return the channel of open data: the one the data name, else the one of GWOSC's convention.

    Args:
        name: the channel's name in the data; the oldest files have only "Strain".
        detector: as "L1".
        rate: sample rate, Hz.

    """
    if _CHANNEL.fullmatch(name) and not name.endswith(":Strain"):
        return name
    return f"{detector}:GWOSC-{round(rate / 1024)}KHZ_R1_STRAIN"


def one_line(error: BaseException) -> str:
    """Return an exception's message in one line."""
    return " ".join(str(error).split())
