"""Place windows in the spans that all channels have in common.

A span is a half-open interval [start, stop) of positions on the sample grid; lists of spans are sorted and disjoint.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gwwire.spans import gaps, join_pairs
from preproc.runs import Run

Span = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """The positions of the windows."""

    channels: list[str]
    common: list[Span]  # the spans that all of the sorted `channels` cover
    starts: list[int]  # the first sample of each window, in the order of time
    left_out: list[str]  # the channels that have no window in common with the others


def lay_windows(runs: Mapping[str, Sequence[Run]], length: int, stride: int) -> Layout:
    """Place windows of `length` samples, `stride` samples apart, from the start of each common span.

    Channels are added in the order of their data, the longest first. A channel that would leave no window is left out.
    """
    spans = {channel: [(run.start, run.stop) for run in found] for channel, found in runs.items()}
    common: list[Span] | None = None
    shared, left_out = [], []
    for channel in sorted(spans, key=lambda name: (-covered(spans[name]), name)):
        candidate = spans[channel] if common is None else intersect(common, spans[channel])
        if _starts(candidate, length, stride):
            shared.append(channel)
            common = candidate
        else:
            left_out.append(channel)
    common = common or []
    return Layout(sorted(shared), common, _starts(common, length, stride), sorted(left_out))


def intersect(one: Sequence[Span], other: Sequence[Span]) -> list[Span]:
    """Return the spans that both lists cover."""
    found = []
    i = j = 0
    while i < len(one) and j < len(other):
        start, stop = max(one[i][0], other[j][0]), min(one[i][1], other[j][1])
        if start < stop:
            found.append((start, stop))
        i, j = (i + 1, j) if one[i][1] < other[j][1] else (i, j + 1)
    return found


def subtract(one: Sequence[Span], other: Sequence[Span]) -> list[Span]:
    """Return the spans of `one` that `other` does not cover."""
    return intersect(one, list(gaps([(0, one[0][0]), *other, (one[-1][1], 0)]))) if one else []


def cover(starts: Sequence[int], length: int) -> list[Span]:
    """Return the spans that windows of one length cover, which may overlap."""
    return join_pairs((start, start + length) for start in starts)


def covered(spans: Sequence[Span]) -> int:
    """Count the samples in spans."""
    return sum(stop - start for start, stop in spans)


def _starts(spans: Sequence[Span], length: int, stride: int) -> list[int]:
    return [at for start, stop in spans for at in range(start, stop - length + 1, stride)]
