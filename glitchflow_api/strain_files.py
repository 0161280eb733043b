"""The strain files that the gateway offers: which there are, by the coverage of channels, and their names.

A file has whole GPS seconds of one channel without a gap, and no multiple of FILE_SECONDS inside of it: the boundaries
of files do not depend on what is asked. Its name OBS-TYPE-GPSSTART-DURATION (LIGO-T050017) says exactly what it covers.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from gwwire.channel_names import site_of_channel, type_of_channel
from gwwire.public import ChannelCoverage
from gwwire.spans import TOLERANCE

#: GPS seconds between the boundaries of files: 34 MB at 16384 Hz, which are built within the timeouts of clients.
FILE_SECONDS = 256
EXTENSION = "hdf5"

_NAME = re.compile(rf"(?P<site>[A-Z])-(?P<type>[^-]+)-(?P<start>\d{{1,10}})-(?P<seconds>\d{{1,3}})\.{EXTENSION}")


@dataclass(frozen=True)
class Dataset:
    """The files of one channel; `spans` are the whole GPS seconds that are stored, in order."""

    channel: str
    spans: Sequence[tuple[int, int]]

    @property
    def site(self) -> str:
        """The first letter of the detector."""
        return site_of_channel(self.channel)

    @property
    def type(self) -> str:
        """The description in the names of files."""
        return type_of_channel(self.channel)

    def within(self, start: float, stop: float) -> list[tuple[int, int]]:
        """Return the spans in [start, stop), cut at whole seconds."""
        cut = [(max(first, math.ceil(start)), min(last, math.floor(stop))) for first, last in self.spans]
        return [(first, last) for first, last in cut if first < last]

    def files(self) -> Iterator[tuple[int, int]]:
        """Yield the spans of the files, in order."""
        for start, stop in self.spans:
            edges = [start, *range(_next_boundary(start), stop, FILE_SECONDS), stop]
            yield from pairwise(edges)

    def name(self, start: int, stop: int) -> str:
        """Return the name of the file of a span."""
        return f"{self.site}-{self.type}-{start}-{stop - start}.{EXTENSION}"


def datasets(channels: Iterable[ChannelCoverage]) -> list[Dataset]:
    """Return the datasets of channels; of several sample spacings of a channel, that of the shortest."""
    found: dict[str, Dataset] = {}
    for each in channels:
        if each.channel and each.channel not in found:
            found[each.channel] = Dataset(each.channel, list(_whole_seconds(each)))
    return list(found.values())


def parse_name(name: str) -> tuple[str, str, int, int] | None:
    """Return site, type, start and stop of a file by its name, or None if no file can have it."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    start, stop = int(found["start"]), int(found["start"]) + int(found["seconds"])
    return (found["site"], found["type"], start, stop) if start < stop <= _next_boundary(start) else None


def _next_boundary(gps: int) -> int:
    return (gps // FILE_SECONDS + 1) * FILE_SECONDS


def _whole_seconds(channel: ChannelCoverage) -> Iterator[tuple[int, int]]:
    rounding = TOLERANCE * min(channel.dt, 1.0)
    for start, stop, _ in channel.spans:
        first, last = math.ceil(start - rounding), math.floor(stop + rounding)
        if first < last:
            yield first, last
