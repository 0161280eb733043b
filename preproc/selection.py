"""The selected channels and time of a batch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from gwwire.gps import gps_text
from gwwire.spans import TOLERANCE
from preproc.batch import Piece
from preproc.errors import BadParameter, UnusableBatch
from preproc.runs import Grid, Run, Runs


@dataclass(frozen=True)
class Selection:
    """The chosen channels (all if none is named) in [start, stop) GPS seconds; BadParameter if that is empty."""

    channels: tuple[str, ...] = ()  # names or shell patterns, sorted
    start: float = -math.inf
    stop: float = math.inf

    def __post_init__(self) -> None:
        if self.start >= self.stop:
            raise BadParameter(f"start {gps_text(self.start)} is not before stop {gps_text(self.stop)}")

    def given(self) -> dict[str, tuple[str, ...] | float]:
        """Return what is chosen, by its name; empty if everything is used."""
        bounds = {"start": self.start, "stop": self.stop}
        named: dict[str, tuple[str, ...] | float] = {name: gps for name, gps in bounds.items() if math.isfinite(gps)}
        return named | ({"channels": self.channels} if self.channels else {})

    def pieces(self, pieces: Sequence[Piece]) -> list[Piece]:
        """Return the segments that hold something chosen, or raise UnusableBatch for a channel without any."""
        inside = [one for one in pieces if one.stop > self.start and one.t0 < self.stop]
        there = sorted({one.channel for one in inside})
        matches = {wanted: {name for name in there if _matches(name, wanted)} for wanted in self.channels}
        if missing := [wanted for wanted, names in matches.items() if not names]:
            others = ", ".join(there) or "none"
            raise UnusableBatch(f"no strain of {', '.join(missing)}{self.span()}; the channels there are {others}")
        wanted_names = set[str]().union(*matches.values())
        chosen = [one for one in inside if not self.channels or one.channel in wanted_names]
        if not chosen:
            start, stop = min(one.t0 for one in pieces), max(one.stop for one in pieces)
            raise UnusableBatch(f"no strain{self.span()}; the batch is in GPS {gps_text(start)} to {gps_text(stop)}")
        return chosen

    def span(self) -> str:
        """Return the chosen time in words, such as ` before GPS 7`; ` in the batch` if it is not limited."""
        match math.isfinite(self.start), math.isfinite(self.stop):
            case True, True:
                return f" in GPS [{gps_text(self.start)}, {gps_text(self.stop)})"
            case True, False:
                return f" from GPS {gps_text(self.start)} on"
            case False, True:
                return f" before GPS {gps_text(self.stop)}"
        return " in the batch"

    def runs(self, runs: Runs) -> Runs:
        """Return the parts of the runs between `start` and `stop`."""
        by_channel = {channel: self._parts(found, runs.grid) for channel, found in runs.by_channel.items()}
        return replace(runs, by_channel={channel: parts for channel, parts in by_channel.items() if parts})

    def _parts(self, runs: Sequence[Run], grid: Grid) -> list[Run]:
        first, last = (
            math.ceil((gps - grid.origin) / grid.dt - TOLERANCE) if math.isfinite(gps) else gps
            for gps in (self.start, self.stop)
        )
        parts = [replace(run, start=int(max(run.start, first)), stop=int(min(run.stop, last))) for run in runs]
        return [part for part in parts if part.samples > 0]


def _matches(name: str, wanted: str) -> bool:
    return name == wanted or fnmatchcase(name, wanted)
