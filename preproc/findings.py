"""Findings: the reasons why data are not in the dataset, and notes about data that are."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from gwwire.names import printable


class Reason(StrEnum):
    """The reasons of findings; their texts are stable."""

    UNREADABLE = "unreadable file"
    NOT_FINITE = "not finite"
    MISSING = "missing file"
    ALTERED = "altered file"
    UNLISTED = "not in the manifest"
    OTHER_RATE = "other sample rate"
    OFF_GRID = "off the sample grid"
    CONFLICT = "conflicting strain"
    CONSTANT = "constant strain"
    NO_SPECTRUM = "no power spectrum"
    NO_LONG_RUN = "no run long enough"
    NO_COMMON_WINDOW = "no common window"
    SHORT_RUN = "run too short"
    FILTER_EDGE = "edge of the whitening filter"
    NOT_COMMON = "not covered by every channel"
    REST = "rest of a run"
    SILENT = "window without signal"
    DUPLICATE = "duplicate"
    OVERLAP = "overlap"
    REPEATED = "same strain at another time"
    GAP = "gap"
    SHORT_SPECTRUM = "short power spectrum"
    LOUD = "left out of the power spectrum"
    NO_PADDING = "window without padding"
    SPLIT = "split unlike the request"


#: Reasons for which a whole channel, or all of its segments of one sample rate, is left out.
_WHOLE_CHANNEL = {Reason.OTHER_RATE, Reason.NO_SPECTRUM, Reason.NO_LONG_RUN, Reason.NO_COMMON_WINDOW}
#: Lines of a summary; the dataset has all.
MOST_LINES = 8
_MOST_CHARACTERS = 150


@dataclass(frozen=True, order=True)
class Finding:
    """A finding about [start, stop) GPS seconds of a channel; "" and NaN if unknown. The detail is free text."""

    channel: str
    start: float
    stop: float
    reason: Reason
    detail: str = ""

    @property
    def seconds(self) -> float:
        """Length of the span; 0 if unknown."""
        return 0.0 if math.isnan(self.start) else self.stop - self.start

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else str(self.reason)


@dataclass(frozen=True)
class Tally:
    """The number and total length of the findings with one reason in one channel."""

    reason: Reason
    channel: str
    count: int
    seconds: float
    example: str


def about_file(file: str, reason: Reason, why: str) -> Finding:
    """Return a finding about a file whose channel and time are unknown."""
    named = file.encode(errors="backslashreplace").decode()
    return Finding("", math.nan, math.nan, reason, f"{named}: {why}")


def tally(findings: Iterable[Finding]) -> list[Tally]:
    """Count findings by channel and reason: first those about whole channels, then the longest."""
    groups: dict[tuple[str, Reason], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.channel, finding.reason), []).append(finding)
    tallies = (
        Tally(reason, channel, len(group), sum(found.seconds for found in group), group[0].detail)
        for (channel, reason), group in groups.items()
    )
    return sorted(tallies, key=lambda one: (one.reason not in _WHOLE_CHANNEL, -one.seconds, one.channel, one.reason))


def summarise_findings(title: str, findings: Iterable[Finding]) -> list[str]:
    """Return the lines of a summary of findings below a title; none if there are no findings.

    Channels with the same finding share a line.
    """
    channels: dict[str, list[str]] = {}
    for one in tally(findings):
        channels.setdefault(_sentence(one), []).append(one.channel)
    lines = [printable(f"  {_heading(names)}{line}") for line, names in channels.items()]
    return [title, *shortened(lines)] if lines else []


def _heading(channels: list[str]) -> str:
    named = ", ".join(filter(None, channels))  # some findings concern no channel
    return f"{named}{', each' * (len(channels) > 1)}: " if named else ""


def _sentence(one: Tally) -> str:
    example = one.example if len(one.example) <= _MOST_CHARACTERS else f"{one.example[: _MOST_CHARACTERS - 1]}…"
    if one.reason is Reason.SPLIT:
        return example
    length = f", {one.seconds:.4g} s" if one.seconds else ""
    parts = f" in {one.count} parts" if one.count > 1 else ""
    return f"{one.reason}{length}{parts}" + (f" ({example})" if example else "")


def shortened(lines: list[str]) -> list[str]:
    """Return the first lines of a summary and the number of the others."""
    more = len(lines) - MOST_LINES
    return lines if more <= 0 else [*lines[:MOST_LINES], f"  and {more} more; report.json has all"]
