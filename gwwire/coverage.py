"""What stretches of time are stored, channel by channel."""

import msgspec

#: GPS seconds of the start and the end, and the segments in between: a half-open stretch without a gap.
Span = tuple[float, float, int]


class ChannelCoverage(msgspec.Struct, frozen=True):
    """The spans of one channel (None: of those segments that do not say) with one sample spacing `dt` in seconds.

    Where there were too many of them, gaps of up to `closed_gaps` seconds are taken for none.
    """

    channel: str | None
    dt: float
    spans: list[Span]
    closed_gaps: float


class Coverage(msgspec.Struct, frozen=True):
    """The spans of a batch; None: of everything that is stored."""

    batch: str | None
    channels: list[ChannelCoverage]
