"""Counts, sizes and spans of a batch by channel."""

import sys
from collections.abc import Iterable, Mapping

from databuffer.storage.catalog import SegmentRow
from gwwire.overview import ChannelOverview
from gwwire.spans import stop_of

#: Times are any float64; JSON has no infinity.
_MOST = sys.float_info.max

#: By channel; None for segments without a channel.
Tally = Mapping[str | None, ChannelOverview]


def counted(tally: Tally, rows: Iterable[SegmentRow]) -> Tally:
    """Return a new tally with further segments, in the order they were stored."""
    found = dict(tally)
    for row in rows:
        seconds, stop = stop_of(0.0, row.n, row.dt), stop_of(row.t0, row.n, row.dt)
        one = ChannelOverview(row.channel, 1, row.bytes, seconds, row.t0, stop, latest=row.name)
        known = found.get(row.channel)
        found[row.channel] = one if known is None else _joined(known, one)
    return found


def joined(tally: Tally, later: Tally) -> Tally:
    """Return the sum of two tallies, the second of segments stored later."""
    both = {channel: _joined(tally[channel], later[channel]) for channel in tally.keys() & later.keys()}
    return {**tally, **later, **both}


def _joined(one: ChannelOverview, later: ChannelOverview) -> ChannelOverview:
    return ChannelOverview(
        one.channel,
        one.segments + later.segments,
        one.bytes + later.bytes,
        min(one.seconds + later.seconds, _MOST),
        min(one.start, later.start),
        max(one.stop, later.stop),
        later.latest,
    )
