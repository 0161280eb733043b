"""The strain files that the gateway offers: which there are, by the coverage of channels, and their names.

A file has the samples whose times are in whole GPS seconds of one channel without a gap, and no multiple of
FILE_SECONDS inside of it: the boundaries of files do not depend on what is asked. Its name OBS-TYPE-GPSSTART-DURATION
(LIGO-T050017) says these seconds. Where samples do not begin with the second, the last one ends after them.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from gwwire.bundles import BundleFormat
from gwwire.channel_names import site_of_channel, type_of_channel
from gwwire.public import ChannelCoverage
from gwwire.spans import TOLERANCE, sample_period

#: GPS seconds between the boundaries of files: 34 MB at 16384 Hz, which are built within the timeouts of clients.
FILE_SECONDS = 256
#: The formats of files, by the extension of their names.
FORMATS = {each.value: each for each in BundleFormat if each.is_built}

#: The last GPS second that files of a format can describe; names have none before 0.
_LAST = {each: 2**32 - 1 if each == BundleFormat.GWF else 10**10 for each in FORMATS}
_NAME = re.compile(
    r"(?P<site>[A-Z])-(?P<type>[^-]+)-(?P<start>0|[1-9]\d{0,9})-(?P<seconds>[1-9]\d{0,2})"
    rf"\.(?P<extension>{'|'.join(FORMATS)})",
    re.ASCII,
)


class NameParts(NamedTuple):
    """The name of a file; `start` and `stop` are GPS seconds."""

    site: str
    type: str
    start: int
    stop: int
    extension: str


class Stored(NamedTuple):
    """Whole GPS seconds [first, last) that are stored without a gap, and the time of a sample at or before them."""

    first: int
    last: int
    t0: float


@dataclass(frozen=True)
class Dataset:
    """The files of one channel in one format, with a sample each `period` s; `stored` is in order."""

    channel: str
    extension: str
    period: Fraction
    stored: Sequence[Stored]

    @property
    def site(self) -> str:
        """The first letter of the detector."""
        return site_of_channel(self.channel)

    @property
    def type(self) -> str:
        """The description in the names of files."""
        return type_of_channel(self.channel)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """The whole GPS seconds that are stored."""
        return [(first, last) for first, last, _ in self.stored]

    def within(self, start: float, stop: float) -> list[tuple[int, int]]:
        """Return the spans in [start, stop), cut at whole seconds."""
        cut = [(max(first, math.ceil(start)), min(last, math.floor(stop))) for first, last in self.spans]
        return [(first, last) for first, last in cut if first < last]

    def has_file(self, start: int, stop: int) -> bool:
        """Return whether a span is stored without a gap, and has a sample."""
        within = (each for each in self.stored if each.first <= start < stop <= each.last)
        return any(self._next_sample(each, start) < stop for each in within)

    def files(self, start: float = -math.inf, stop: float = math.inf) -> Iterator[tuple[int, int]]:
        """Yield the spans of the files that overlap [start, stop), in order; each is computed when it is needed."""
        for each in self.stored:
            first, last, _ = each
            if first < stop and last > start:
                begin = max(first, _boundary(math.floor(start))) if start > first else first
                end = min(last, _boundary(math.ceil(stop) - 1) + FILE_SECONDS) if stop < last else last
                while begin < end:
                    border = min(_boundary(begin) + FILE_SECONDS, end)
                    if (sample := self._next_sample(each, begin)) < border:
                        yield begin, border
                    begin = max(border, _boundary(sample))

    def _next_sample(self, stored: Stored, gps: int) -> int:
        """Return the second in which the first sample at or after a second is."""
        if self.period < 1:
            return gps
        # As `first_sample`, in integers: fractions take ten times as long.
        begin, begin_of = _rounded_up_from(gps)
        start, of = stored.t0.as_integer_ratio()
        step, per = self.period.as_integer_ratio()
        index = max(-((start * begin_of - begin * of) * per // (step * of * begin_of)), 0)
        sample, sample_of = start * per + index * step * of, of * per
        second = max(gps, sample // sample_of)
        after, after_of = _rounded_up_from(second + 1)
        return second + 1 if sample * after_of >= after * sample_of else second

    def latest(self) -> list[tuple[int, int]]:
        """Return the span of the last file, if there is one."""
        return list(self.files(start=self.stored[-1].last - 1 - float(self.period)))[-1:] if self.stored else []

    def name(self, start: int, stop: int) -> str:
        """Return the name of the file of a span."""
        return f"{self.site}-{self.type}-{start}-{stop - start}.{self.extension}"


def datasets(channels: Iterable[ChannelCoverage], extension: str) -> list[Dataset]:
    """Return the datasets of channels in a format; of several sample spacings of a channel, that of the shortest."""
    found: dict[str, Dataset] = {}
    for each in channels:
        if each.channel and each.channel not in found:
            stored = list(_whole_seconds(each, extension))
            found[each.channel] = Dataset(each.channel, extension, sample_period(each.dt), stored)
    return list(found.values())


def parse_name(name: str) -> NameParts | None:
    """Return the parts of the name of a file, or None if no file can have it."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    start, stop = int(found["start"]), int(found["start"]) + int(found["seconds"])
    if not start < stop <= _boundary(start) + FILE_SECONDS:
        return None
    return NameParts(found["site"], found["type"], start, stop, found["extension"])


def _rounded_up_from(gps: int) -> tuple[int, int]:
    """Return the first time, as a fraction, that is the second `gps` up to rounding."""
    return (gps - math.ulp(gps)).as_integer_ratio()


def _boundary(gps: int) -> int:
    """Return the last boundary of files at or before a second."""
    return gps // FILE_SECONDS * FILE_SECONDS


def _whole_seconds(channel: ChannelCoverage, extension: str) -> Iterator[Stored]:
    rounding = TOLERANCE * min(channel.dt, 1.0)
    for start, stop, _ in channel.spans:
        first, last = max(math.ceil(start - rounding), 0), min(math.floor(stop + rounding), _LAST[extension])
        if first < last:
            yield Stored(first, last, start)
