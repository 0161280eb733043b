"""Strain from files in the layout of the Gravitational Wave Open Science Center (GWOSC), HDF5."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np

from gwclient.errors import InvalidSource
from gwclient.strain import Run, sample_period

_CHANNEL = re.compile(r"[A-Z]\d:\S+")


@dataclass(frozen=True)
class _Header:
    path: Path
    detector: str
    channel: str
    t0: float
    dt: float
    first: int
    last: int

    @property
    def count(self) -> int:
        return self.last - self.first


@dataclass(frozen=True)
class FileSource:
    """Reads GWOSC strain files, one run from each.

    Attributes:
        paths: the files, in any order.
        start: GPS seconds; samples before it are left out.
        stop: GPS seconds; samples from it on are left out.

    """

    paths: tuple[Path, ...]
    start: float = -math.inf
    stop: float = math.inf

    @property
    def seconds(self) -> float:
        """How much strain there will be in s, all files together.

        Raises:
            InvalidSource: a file is not what it should be.

        """
        return sum(header.count * header.dt for header in self._headers)

    def runs(self) -> Iterator[Run]:
        """Read one run from each file that has samples in [start, stop), ordered by t0, one file at a time.

        Raises:
            InvalidSource: a file is not what it should be, or none has samples there.

        """
        if not any(header.count for header in self._headers):
            raise InvalidSource(f"no file has strain in GPS [{self.start!r}, {self.stop!r})")
        return (_read_run(header) for header in self._headers if header.count)

    @cached_property
    def _headers(self) -> list[_Header]:
        headers = [_read_header(path, self.start, self.stop) for path in self.paths]
        return sorted(headers, key=lambda header: header.t0)


def gwosc_channel(name: str, detector: str, rate: float) -> str:
    """Give the channel that open data come from: the one the data name, else the one GWOSC's convention names.

    Args:
        name: what the data call themselves; the oldest files only say "Strain".
        detector: as "L1".
        rate: sample rate, Hz.

    """
    if _CHANNEL.fullmatch(name) and name.endswith("STRAIN"):
        return name
    return f"{detector}:GWOSC-{round(rate / 1024)}KHZ_R1_STRAIN"


def _read_header(path: Path, start: float, stop: float) -> _Header:
    try:
        with h5py.File(path, "r") as file:
            strain = file["strain/Strain"]
            t0, dt = float(strain.attrs["Xstart"]), float(strain.attrs["Xspacing"])
            detector = file["meta/Detector"][()].decode()
            name = file["strain/GWOSCmeta"][()].decode() if "strain/GWOSCmeta" in file else ""
            count = len(strain)
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise InvalidSource(f"{path} is not a strain file in the layout of GWOSC: {_one_line(error)}") from error
    if not (math.isfinite(t0) and math.isfinite(dt) and dt > 0):
        raise InvalidSource(f"{path}: Xstart {t0!r} and Xspacing {dt!r} are no sample grid")
    channel = gwosc_channel(f"{detector}:{name}", detector, 1 / dt)
    first, last = (_first_sample(gps, t0, dt, count) for gps in (start, stop))
    return _Header(path, detector, channel, t0, dt, first, max(first, last))


def _first_sample(gps: float, t0: float, dt: float, count: int) -> int:
    """Give the index of the first sample at or after `gps`, within the file."""
    if math.isinf(gps):
        return count if gps > 0 else 0
    return min(max(math.ceil((Fraction(gps) - Fraction(t0)) / sample_period(dt)), 0), count)


def _read_run(header: _Header) -> Run:
    try:
        with h5py.File(header.path, "r") as file:
            strain = np.asarray(file["strain/Strain"][header.first : header.last], dtype=np.float64)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InvalidSource(f"{header.path} cannot be read: {_one_line(error)}") from error
    t0 = float(Fraction(header.t0) + header.first * sample_period(header.dt))
    meta = {"detector": header.detector, "source": header.path.name}
    return Run(strain, t0, header.dt, header.channel, meta)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
