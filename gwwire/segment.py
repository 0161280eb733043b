"""One segment of strain on the wire: decode, validate, encode.

A segment is the JSON object `{"h": [strain…], "t": [t0, dt]}` with an optional `"meta": {…}`. It covers the
half-open GPS span `[t0, t0 + len(h)·dt)`. No other module validates segments.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from gwwire.decoding import TooDeep, decode
from gwwire.problems import ProblemCode, ProblemError

#: The media type of many segments, one per line.
NDJSON = "application/x-ndjson"
#: The header of such a request that has the Idempotency-Key of each line, with commas between them.
KEYS_HEADER = "Idempotency-Keys"

#: Maximum number of characters of a channel name, which is repeated with every segment and in every overview.
MAX_CHANNEL = 255
#: Characters not allowed in a channel name: control characters, line ends, and marks that change the text direction.
#: The pattern is valid in Python's regular expressions and in JSON Schema.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
#: For the OpenAPI document; `decode_segment` checks `meta.channel` itself.
_CHANNEL_SCHEMA = {
    "description": "DET:NAME, without control characters",
    "type": "string",
    "maxLength": MAX_CHANNEL,
    "not": {"pattern": _FORBIDDEN.pattern},
}


class InvalidSegment(ProblemError, code=ProblemCode.INVALID_SEGMENT):
    """The body is JSON but not a segment; `field` names the wrong part."""


class TooManySamples(ProblemError, code=ProblemCode.TOO_MANY_SAMPLES):
    """The segment has too many samples."""


class MetaTooLarge(ProblemError, code=ProblemCode.META_TOO_LARGE):
    """The `meta` of the segment is too large."""


@dataclass(frozen=True)
class SegmentLimits:
    """Upper limits of a segment; each is the setting of the same name."""

    max_samples: int  # numbers in `h`
    max_meta: int  # bytes of `meta` as compact JSON
    max_depth: int  # levels of nested arrays and objects; the segment itself is the first

    def check(self, segment: "Segment") -> None:
        """Raise TooManySamples, MetaTooLarge or TooDeep if a segment exceeds a limit."""
        if len(segment.h) > self.max_samples:
            raise TooManySamples(f"h: {len(segment.h)} samples; MAX_SAMPLES allows {self.max_samples}", field="h")
        if segment.meta:
            # The size is checked first: it bounds the cost of measuring the depth.
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
        """The channel named in `meta`, or None."""
        if isinstance(self.meta, msgspec.UnsetType):
            return None
        return self.meta.get("channel")


_decoder = msgspec.json.Decoder(Segment)
_encoder = msgspec.json.Encoder()


def decode_segment(body: bytes, limits: SegmentLimits | None = None) -> Segment:
    """Decode and validate one segment; `limits` is None for a segment that is stored already.

    Raise MalformedJson if the body is not JSON, InvalidSegment if it is not a segment, and TooDeep, TooManySamples or
    MetaTooLarge if it exceeds a limit.
    """
    segment = decode(_decoder, body, InvalidSegment)
    channel = segment.channel
    if not isinstance(channel, str | None):
        raise InvalidSegment("meta.channel: expected `str`", field="meta.channel")
    if limits:
        limits.check(segment)
        if channel and (len(channel) > MAX_CHANNEL or _FORBIDDEN.search(channel)):
            detail = f"meta.channel: expected {MAX_CHANNEL} characters at most, and no control characters"
            raise InvalidSegment(detail, field="meta.channel")
    return segment


def _deeper_than(levels: int, value: Any) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any([_deeper_than(levels - 1, each) for each in inner])  # noqa: C419 (a third faster)


def encode_segment(segment: Segment) -> bytes:
    """Return a segment as compact JSON; every float64 survives the round trip bit for bit."""
    return _encoder.encode(segment)


def compact(body: bytes, segment: Segment) -> bytes:
    """Return the compact JSON of `segment`, which was decoded from `body`.

    A body without white space is compact already and is returned unchanged.
    """
    if b" " in body or b"\n" in body or b"\t" in body or b"\r" in body:
        return encode_segment(segment)
    return body
