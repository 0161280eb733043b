"""One segment of strain on the wire: decode, validate, encode.

A segment is the JSON object `{"h": [strain…], "t": [t0, dt]}` with an optional `"meta": {…}`. It covers the
half-open GPS span `[t0, t0 + len(h)·dt)`. This module is the only validator of segments in the house.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from gwwire.decoding import TooDeep, decode
from gwwire.problems import ProblemCode, ProblemError

#: The media type of many segments, a line each.
NDJSON = "application/x-ndjson"

#: Characters of the longest channel name. It is told again with each segment, and with each look at the whole.
LONGEST_CHANNEL = 255
#: What no channel name has in it: control characters, ends of lines, and what turns the direction of text around.
#: A pattern in the words that Python's regular expressions share with JSON Schema's.
STEERING = r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]"
_steering = re.compile(STEERING)
#: `decode_segment` checks `meta.channel`: the decoder sees a dictionary there.
_CHANNEL_SCHEMA = {
    "description": "DET:NAME, without control characters",
    "type": "string",
    "maxLength": LONGEST_CHANNEL,
    "not": {"pattern": STEERING},
}


class InvalidSegment(ProblemError):
    """The body is JSON but not a segment; `field` names the part that is wrong."""

    code = ProblemCode.INVALID_SEGMENT


class TooManySamples(ProblemError):
    """The segment has more samples than are taken."""

    code = ProblemCode.TOO_MANY_SAMPLES


class MetaTooLarge(ProblemError):
    """The `meta` of the segment is larger than is taken."""

    code = ProblemCode.META_TOO_LARGE


@dataclass(frozen=True)
class SegmentLimits:
    """What a segment may be at most; each is the setting of the same name.

    Attributes:
        max_samples: numbers in `h`.
        max_meta: bytes of `meta` as compact JSON.
        max_depth: arrays and objects inside each other, the segment itself being the first.

    """

    max_samples: int
    max_meta: int
    max_depth: int

    def check(self, segment: "Segment") -> None:
        """Refuse a segment that is too much.

        Raises:
            TooManySamples, MetaTooLarge, TooDeep: it is.

        """
        if len(segment.h) > self.max_samples:
            raise TooManySamples(f"h: {len(segment.h)} samples; MAX_SAMPLES allows {self.max_samples}", field="h")
        if segment.meta:
            # The size first: it bounds what the search for depth has to go through.
            size = len(_encoder.encode(segment.meta))
            if size > self.max_meta:
                raise MetaTooLarge(f"meta: {size} bytes; MAX_META allows {self.max_meta}", field="meta")
            if _deeper_than(self.max_depth - 1, segment.meta):
                raise TooDeep(f"meta: nested too deeply; MAX_DEPTH allows {self.max_depth} levels", field="meta")


class Segment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Evenly spaced strain samples, covering `[t0, t0 + len(h)·dt)`."""

    h: Annotated[list[float], msgspec.Meta(min_length=1, description="strain, dimensionless, finite")]
    t: Annotated[
        tuple[float, Annotated[float, msgspec.Meta(gt=0)]],
        msgspec.Meta(description="[t0, dt]: GPS seconds of the first sample, sample spacing in s"),
    ]
    meta: (
        Annotated[
            dict[str, Any],
            msgspec.Meta(
                description="more about the data: detector, event, source, …; all of it is stored",
                extra_json_schema={"properties": {"channel": _CHANNEL_SCHEMA}},
            ),
        ]
        | msgspec.UnsetType
    ) = msgspec.UNSET

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


def decode_segment(body: bytes, limits: SegmentLimits | None = None) -> Segment:
    """Decode and validate one segment.

    Args:
        body: the segment as JSON.
        limits: what it may be at most; None: what is stored already was let in before.

    Raises:
        MalformedJson: the body is not JSON.
        InvalidSegment: the body is JSON, but not a segment.
        TooDeep, TooManySamples, MetaTooLarge: it is a segment, but too much of one.

    """
    segment = decode(_decoder, body, InvalidSegment)
    channel = segment.channel
    if not isinstance(channel, str | None):
        raise InvalidSegment("meta.channel: expected `str`", field="meta.channel")
    if limits:
        limits.check(segment)
        if channel and (len(channel) > LONGEST_CHANNEL or _steering.search(channel)):
            detail = f"meta.channel: expected {LONGEST_CHANNEL} characters at most, and no control characters"
            raise InvalidSegment(detail, field="meta.channel")
    return segment


def _deeper_than(levels: int, value: Any) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any([_deeper_than(levels - 1, each) for each in inner])  # noqa: C419 (a third faster)


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
