"""Recordings: one channel of a strain file each, and what the readers of all formats check."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gwclient.errors import InvalidSource
from gwclient.strain import Quality, Samples, gps_of
from gwwire.segment import LARGEST_WHOLE, MAX_CHANNEL, MAX_SPACING, MAX_TIME, MIN_SPACING
from gwwire.spans import first_sample, sampling

#: The formats that can be read, by the names of the files.
SUPPORTED = "Supported: HDF5, frames (.gwf), segments (.json, .ndjson), arrays (.npy), text (.csv, .txt, .dat)"
#: The end of a line about a file that a program wrote to meanwhile.
CHANGED = "changed while it was read; push it again when it is complete"
#: The name of a channel, `DET:NAME`.
CHANNEL = re.compile(r"[A-Z]\d:\S+")
#: Data-quality bits that are read of a mask.
MOST_BITS = 63
#: A whole number as text; one with a decimal point or an exponent was a float64 before.
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
#: Samples by which a written time may differ from an even grid: text often has few decimals.
_UNEVEN = 0.1
#: Sample spacings from one time to the next that are a gap.
_GAP = 1.5
#: Times that are compared with a grid at once.
_BLOCK = 1 << 13


@dataclass(frozen=True, eq=False)
class Recording:
    """One channel of a strain file.

    `read` returns its samples [first, last); those that the file marks as invalid are masked.
    """

    path: Path
    detector: str  # as "L1"
    channel: str  # `DET:NAME`; empty if unknown
    t0: float  # GPS seconds of the first sample
    dt: float  # s
    count: int  # of samples
    quality: Quality | None
    read: Callable[[int, int], Samples]
    meta: Mapping[str, Any] | None = None  # the meta of its segments, without the channel; None: made from the file
    digest: str = ""  # the SHA-256 of a stored segment; "" for other strain

    def first_sample(self, gps: float) -> int:
        """Return the index of the first sample at or after a GPS time; from 0 to `count`."""
        return first_sample(gps, self.t0, self.dt, self.count)

    def gps(self, k: int) -> float:
        """Return the GPS seconds of sample `k`."""
        return gps_of(self.t0, k, self.dt)


def extension(path: Path) -> str:
    """Return the extension of a file's name in lower case, as `.csv`; some programs write `.CSV`."""
    return path.suffix.lower()


def check_readable(path: Path, signature: bytes = b"") -> bool:
    """Return whether a file begins with a signature, or raise InvalidSource if it is empty or cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(max(1, len(signature)))
    except OSError as error:
        raise InvalidSource(f"{path} cannot be read: {error.strerror or error}") from error
    if not head:
        raise InvalidSource(f"{path} is empty")
    return head.startswith(signature)


def check_grid(where: str, t0: float, dt: float, names: Sequence[str]) -> None:
    """Raise InvalidSource, which names the value, if a GPS time or a sample spacing is none."""
    least, most = MIN_SPACING, MAX_SPACING
    if not -MAX_TIME < t0 < MAX_TIME:
        raise InvalidSource(f"{where}: {names[0]} is {t0!r}; a GPS time in s is between {-MAX_TIME:g} and {MAX_TIME:g}")
    if not least <= dt <= most:
        raise InvalidSource(f"{where}: {names[1]} is {dt!r}; a sample spacing in s is from {least:g} to {most:g}")


def as_float64(where: str, values: NDArray[Any], first: int = 0) -> NDArray[np.float64]:
    """Return real numbers as float64, or raise InvalidSource if float64 cannot hold one of them exactly.

    `first` is the number of the first sample, for the message.
    """
    with np.errstate(over="ignore"):
        exact = np.asarray(values).astype(np.float64, copy=False)
    if (at := _first_lost(values, exact)) is not None:
        raise InvalidSource(
            f"{where}: sample {first + at} is {values[at]!s} ({values.dtype}), which float64 cannot hold exactly"
        )
    return exact


def _first_lost(values: NDArray[Any], exact: NDArray[np.float64]) -> int | None:
    """Return the index of the first of some values that differs from its float64, or None."""
    if values.dtype.kind in "iu" and values.dtype.itemsize == exact.itemsize:
        large = np.flatnonzero((values > LARGEST_WHOLE) | (values < -LARGEST_WHOLE))
        return next((int(at) for at in large if int(values[at]) != int(exact[at])), None)
    if values.dtype.itemsize > exact.itemsize:
        return next((int(at) for at in np.flatnonzero((exact != values) & ~np.isnan(values))), None)
    return None


def check_whole(where: str, text: str, value: float) -> None:
    """Raise InvalidSource if a text is a whole number and `value`, its float64, is another one."""
    if _WHOLE.fullmatch(text) and Decimal(text) != value:
        raise InvalidSource(f"{where} is {text[:40]}, which float64 cannot hold exactly")


class NothingWanted(InvalidSource):
    """A file has none of the requested channels."""


def usable_quality(read: Callable[[], Quality | None], *, bits_needed: bool) -> Quality | None:
    """Return the data-quality bits that `read` returns; without need of them, return None if they cannot be used."""
    try:
        return read()
    except InvalidSource:
        if bits_needed:
            raise
        return None


def check_channel(name: str) -> None:
    """Raise InvalidSource if a name is not `DET:NAME`, or is too long."""
    if len(name) > MAX_CHANNEL:
        raise InvalidSource(f"the channel {name[:40]!r}… has {len(name)} characters; the limit is {MAX_CHANNEL}")
    if not CHANNEL.fullmatch(name):
        example = f"L1:{name}" if re.fullmatch(r"[^\s:]+", name) else "L1:MY-STRAIN"
        raise InvalidSource(f"{name!r} is not a channel name: it needs a detector, such as {example}")


def choose(path: Path, there: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return the channels of a file that match a wanted name or shell pattern, or raise NothingWanted."""
    chosen = [name for name in there if any(fnmatchcase(name, pattern) for pattern in wanted)]
    if not chosen:
        more = f" and {len(there) - 5} more" if len(there) > 5 else ""  # noqa: PLR2004 (as many as are shown)
        none = "none of the requested channels" if wanted else "no channel of strain"
        hint = "" if wanted or not there else "; name what to send with --channel"
        raise NothingWanted(f"{path} has {none}; it has {', '.join(sorted(there)[:5]) or 'no other'}{more}{hint}")
    return sorted(chosen)


def name_channel(path: Path, wanted: Sequence[str]) -> str:
    """Return the one channel name that was given for a file that has none, or raise InvalidSource."""
    if len(wanted) == 1 and not set("*?[") & set(wanted[0]):
        check_channel(wanted[0])
        return wanted[0]
    one = " once, not as a pattern" if wanted else ""
    raise InvalidSource(f"{path} does not name its channel; name it with --channel{one}, such as L1:MY-STRAIN")


def even_grids(
    where: str, times: NDArray[np.floating[Any]], dt: float | None = None
) -> list[tuple[slice, float, float]]:
    """Return each span of samples between gaps with its (t0, dt) in s; `times` are GPS times, shape [samples].

    Raise InvalidSource if the times between two gaps are not evenly spaced.
    """
    try:
        return [(slice(0, len(times)), *even_grid(where, times, dt))]
    except InvalidSource:
        if len(times) == 1:
            raise
        steps = np.diff(times)
        usual = float(np.median(steps)) if dt is None else dt
        edges = [0, *(np.flatnonzero(steps > _GAP * usual) + 1).tolist(), len(times)]
        if len(edges) == 2 or not usual > 0:  # noqa: PLR2004 (no gap)
            raise
    spans = [slice(*ends) for ends in pairwise(edges)]
    if dt is None:
        longest = max(spans, key=lambda span: span.stop - span.start)
        _, dt = even_grid(where, times[longest], first=longest.start)
    return [(span, *even_grid(where, times[span], dt, first=span.start)) for span in spans]


def even_grid(
    where: str, times: NDArray[np.floating[Any]], dt: float | None = None, *, first: int = 0
) -> tuple[float, float]:
    """Return (t0, dt) in s of evenly spaced GPS times, shape [samples], or raise InvalidSource if they are not.

    `first` is the number of the first time, for the message.
    """
    if dt is None:
        if len(times) < 2:  # noqa: PLR2004 (a spacing takes two times)
            raise InvalidSource(f"{where} has one time; the sample spacing cannot be computed")
        dt = float(times[-1] - times[0]) / (len(times) - 1)
        if not dt > 0:
            _check_increasing(where, times, first)
        check_grid(where, float(times[0]), dt, ("the first time", "the spacing of the times"))
        dt = sampling(dt)
    if (at := _first_off_grid(times, dt)) is not None:
        _check_increasing(where, times, first)
        raise InvalidSource(
            f"{where}: time {float(times[at])!r} (number {first + at}) is not on a grid of {dt:g} s; "
            "between gaps, times have to be evenly spaced"
        )
    return float(times[0]), dt


def _check_increasing(where: str, times: NDArray[np.floating[Any]], first: int) -> None:
    """Raise InvalidSource if a time is not after the time before it."""
    back = np.diff(times) <= 0
    if back.any():
        at = int(np.argmax(back))
        before, after = map(float, times[at : at + 2])
        raise InvalidSource(f"{where}: time {after!r} (number {first + at + 1}) is not after {before!r} before it")


def _first_off_grid(times: NDArray[np.floating[Any]], dt: float) -> int | None:
    """Return the first of the times that is not on the grid of the first one, or None."""
    for start in range(0, len(times), _BLOCK):
        block = times[start : start + _BLOCK]
        wanted = times[0] + np.arange(start, start + len(block)) * dt
        off = ~(np.abs(block - wanted) <= _UNEVEN * dt + np.spacing(np.abs(block)))
        if off.any():
            return start + int(np.argmax(off))
    return None
