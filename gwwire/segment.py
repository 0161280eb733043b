"""One segment of strain on the wire: decode, validate, encode.

A segment is the JSON object `{"h": [strain…], "t": [t0, dt]}` with an optional `"meta": {…}`. It covers the
half-open GPS span `[t0, t0 + len(h)·dt)`. This module is the only validator of segments in the house.
"""

from typing import Annotated, Any

import msgspec

from gwwire.decoding import decode
from gwwire.problems import ProblemCode, ProblemError

#: The media type of many segments, a line each.
NDJSON = "application/x-ndjson"


class InvalidSegment(ProblemError):
    """The body is JSON but not a segment; `field` names the part that is wrong."""

    code = ProblemCode.INVALID_SEGMENT


class Segment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A run of evenly spaced strain samples.

    Attributes:
        h: strain, dimensionless, float64, at least one sample, all finite.
        t: `(t0, dt)`: GPS seconds of the first sample, sample spacing in seconds, dt > 0.
        meta: what is known of the data beyond the numbers: `channel` ("DET:NAME"), `detector`, `event`, …

    """

    h: Annotated[list[float], msgspec.Meta(min_length=1)]
    t: tuple[float, Annotated[float, msgspec.Meta(gt=0)]]
    meta: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET

    @property
    def t0(self) -> float:
        """GPS seconds of the first sample."""
        return self.t[0]

    @property
    def dt(self) -> float:
        """Sample spacing in seconds."""
        return self.t[1]

    @property
    def channel(self) -> str | None:
        """The channel named in `meta`, None where the segment does not say."""
        if isinstance(self.meta, msgspec.UnsetType):
            return None
        return self.meta.get("channel")


_decoder = msgspec.json.Decoder(Segment)
_encoder = msgspec.json.Encoder()


def decode_segment(body: bytes) -> Segment:
    """Decode and validate one segment.

    Raises:
        MalformedJson: the body is not JSON.
        InvalidSegment: the body is JSON, but not a segment.

    """
    segment = decode(_decoder, body, InvalidSegment)
    if not isinstance(segment.channel, str | None):
        raise InvalidSegment("meta.channel: expected `str`", field="meta.channel")
    return segment


def encode_segment(segment: Segment) -> bytes:
    """Encode one segment as compact JSON; every float64 survives the round trip bit for bit."""
    return _encoder.encode(segment)


def compact(body: bytes, segment: Segment) -> bytes:
    """Give the compact JSON of `segment`, which was decoded from `body`.

    A body without white space is compact already and is kept as it came, byte for byte.
    """
    if any(space in body for space in (b" ", b"\n", b"\t", b"\r")):
        return encode_segment(segment)
    return body
