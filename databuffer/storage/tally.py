"""What a batch holds of each channel, kept up to date segment by segment."""

import sys
from collections.abc import Iterable, Mapping

from databuffer.storage.catalog import SegmentRow
from gwwire.public import ChannelOverview

#: A segment may claim any time that is a float64; JSON has no word for what is more.
_MOST = sys.float_info.max

#: By channel; None: the segments that do not say.
Tally = Mapping[str | None, ChannelOverview]


def counted(tally: Tally, rows: Iterable[SegmentRow]) -> Tally:
    """Give a tally with further segments, in the order they were stored; the given one stays as it is."""
    found = dict(tally)
    for row in rows:
        seconds = min(row.n * row.dt, _MOST)
        one = ChannelOverview(row.channel, 1, row.bytes, seconds, row.t0, min(row.t0 + seconds, _MOST), latest=row.name)
        known = found.get(row.channel)
        found[row.channel] = one if known is None else _joined(known, one)
    return found


def joined(tally: Tally, later: Tally) -> Tally:
    """Give two tallies as one, the second of segments stored later."""
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
