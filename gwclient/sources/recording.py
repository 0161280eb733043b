"""What a strain file says of one channel, and how to read its samples."""

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
        quality: the file's data-quality bits, None where it has none.
        read: gives the samples [first, last), float64; those that are not valid are NaN.

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
    """Give the channel that open data come from: the one the data name, else the one GWOSC's convention names.

    Args:
        name: what the data call themselves; the oldest files only say "Strain".
        detector: as "L1".
        rate: sample rate, Hz.

    """
    if _CHANNEL.fullmatch(name) and not name.endswith(":Strain"):
        return name
    return f"{detector}:GWOSC-{round(rate / 1024)}KHZ_R1_STRAIN"


def one_line(error: BaseException) -> str:
    """Give an exception's message in one line."""
    return " ".join(str(error).split())
