"""One segment of strain on the wire: decode, validate, encode.

A segment is the JSON object `{"h": [strain…], "t": [t0, dt]}` with an optional `"meta": {…}`. It covers the
half-open GPS span `[t0, t0 + len(h)·dt)`. No other module validates segments: `validate_segment` applies every rule
to a new segment; `decode_segment` reads a stored one, to which a rule that was added later does not apply.
"""

import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from gwwire.decoding import TooDeep, decode
from gwwire.problems import ProblemCode, ProblemError

#: The media type of many segments, one per line.
NDJSON = "application/x-ndjson"
#: The header with the key of one segment; for many segments, line i has the key `KEY/i`.
KEY_HEADER = "Idempotency-Key"
#: The header of such a request that has the Idempotency-Key of each line, with commas between them.
KEYS_HEADER = "Idempotency-Keys"

#: Maximum number of characters of a channel name, which is repeated with every segment and in every overview.
MAX_CHANNEL = 255
#: Characters not allowed in a channel name: control characters, line ends, and marks that change the text direction.
#: The pattern is valid in Python's regular expressions and in JSON Schema.
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
#: Every GPS time of a segment is between -MAX_TIME and MAX_TIME, exclusively; 1e10 s is in the year 2296.
MAX_TIME = 1e10
#: Smallest and largest sample spacing in s.
MIN_SPACING, MAX_SPACING = 1e-9, 1e6
#: For the OpenAPI document; `validate_segment` checks times, spacing and `meta.channel` itself.
_TIME_SCHEMA = {"exclusiveMinimum": -MAX_TIME, "exclusiveMaximum": MAX_TIME}
_SPACING_SCHEMA = {"minimum": MIN_SPACING, "maximum": MAX_SPACING}
#: float64 holds every whole number up to here, and not every larger one.
LARGEST_WHOLE = 2**53
#: Extra values allowed in a segment besides samples and `meta`; a generous margin.
_FRAME = 8
#: Bytes of a body whose keys may take long to decode.
_MANY_KEYS = 4_000_000
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

    def check_body(self, body: bytes) -> None:
        """Raise TooManySamples or MetaTooLarge if a body has more values or keys than all limits together.

        Decoding them could take 1 GB, or many seconds. Commas separate values, of which each takes two bytes at least,
        and quotes enclose keys, of which a smaller body has too few to matter: most bodies need not be counted.
        """
        most = self.max_samples + self.max_meta + _FRAME
        if len(body) > 2 * most and body.count(b",") > most:
            detail = f"more than {most} values; MAX_SAMPLES allows {self.max_samples}, MAX_META {self.max_meta} bytes"
            raise TooManySamples(detail)
        if len(body) > _MANY_KEYS and body.count(b'"') > self.max_meta + _FRAME:
            raise MetaTooLarge(f"meta: too many keys and texts; MAX_META allows {self.max_meta} bytes", field="meta")

    def check(self, segment: "Segment", meta: bytes) -> None:
        """Raise TooManySamples, MetaTooLarge or TooDeep if a segment, with `meta` as JSON, exceeds a limit."""
        if len(segment.h) > self.max_samples:
            raise TooManySamples(f"h: {len(segment.h)} samples; MAX_SAMPLES allows {self.max_samples}", field="h")
        if segment.meta:
            # The size is checked first: it bounds the cost of measuring the depth.
            if len(meta) > self.max_meta:
                raise MetaTooLarge(f"meta: {len(meta)} bytes; MAX_META allows {self.max_meta}", field="meta")
            if _deeper_than(self.max_depth - 1, segment.meta):
                raise TooDeep(f"meta: nested too deeply; MAX_DEPTH allows {self.max_depth} levels", field="meta")


class Segment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Evenly spaced strain samples, covering `[t0, t0 + len(h)·dt)`."""

    h: Annotated[list[float], msgspec.Meta(min_length=1, description="strain, dimensionless, finite")]
    t: Annotated[
        tuple[
            Annotated[float, msgspec.Meta(extra_json_schema=_TIME_SCHEMA)],
            Annotated[float, msgspec.Meta(extra_json_schema=_SPACING_SCHEMA)],
        ],
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
        """The channel named in `meta`, or None; an empty name is none, as for clients."""
        if isinstance(self.meta, msgspec.UnsetType):
            return None
        channel: str | None = self.meta.get("channel")
        return None if channel == "" else channel


class _Texts(msgspec.Struct):
    """The samples of a segment as its JSON has them."""

    h: list[msgspec.Raw]


_decoder = msgspec.json.Decoder(Segment)
_encoder = msgspec.json.Encoder()
#: Characters of a key that a problem quotes.
_MAX_QUOTED = 100
#: Characters of a number that a problem quotes.
_SHOWN = 40


def decode_segment(body: bytes) -> Segment:
    """Decode a stored segment; of a key that appears more than once, the last value counts.

    Raise MalformedJson if the body is not JSON, InvalidSegment if it is not a segment, TooDeep if it cannot be decoded.
    """
    segment = decode(_decoder, body, InvalidSegment)
    if segment.dt <= 0:
        raise _bad_spacing(segment)
    if not isinstance(segment.channel, str | None):
        raise InvalidSegment("meta.channel: expected `str`", field="meta.channel")
    return segment


def validate_segment(body: bytes, limits: SegmentLimits | None = None) -> Segment:
    """Decode and validate a new segment; without `limits`, it may have any size.

    Raise what `decode_segment` raises, InvalidSegment for a repeated key, for a sample that float64 does not hold, or
    for a time, sample spacing or channel that is not allowed, and TooDeep, TooManySamples or MetaTooLarge if a limit
    is exceeded.
    """
    if limits:
        limits.check_body(body)
    segment = decode_segment(body)
    meta = _encoder.encode(segment.meta) if isinstance(segment.meta, dict) else None
    if limits:
        limits.check(segment, meta or b"")
    if _has_repeated_key(body, meta):
        raise _repeated_key(body)
    if math.hypot(*segment.h) > LARGEST_WHOLE / 2:  # the fastest way to see that no sample is too large
        _check_whole_numbers(body)
    _check_times(segment)
    channel = segment.channel
    if channel and (len(channel) > MAX_CHANNEL or _FORBIDDEN.search(channel)):
        detail = f"meta.channel: expected {MAX_CHANNEL} characters at most, and no control characters"
        raise InvalidSegment(detail, field="meta.channel")
    return segment


def _check_whole_numbers(body: bytes) -> None:
    """Raise InvalidSegment for a sample that is a whole number which float64 does not hold: it is read as another."""
    for index, text in enumerate(msgspec.json.decode(body, type=_Texts).h):
        token = bytes(text)
        if token.lstrip(b"-").isdigit() and int(token) != float(token):
            detail = f"h[{index}] is {token[:_SHOWN].decode()}, which float64 cannot hold exactly"
            raise InvalidSegment(detail, field="h")


def _check_times(segment: Segment) -> None:
    t0, dt = segment.t
    stop = t0 + len(segment.h) * dt
    if -MAX_TIME < t0 < stop < MAX_TIME and MIN_SPACING <= dt <= MAX_SPACING:
        return
    if not MIN_SPACING <= dt <= MAX_SPACING:
        raise _bad_spacing(segment)
    if t0 == stop and abs(t0) < MAX_TIME:
        detail = f"t: the segment begins and ends at {t0!r} s: float64 times there differ by {math.ulp(t0):g} s or more"
        raise InvalidSegment(detail, field="t")
    wrong = f"t0 is {t0!r} s" if abs(t0) >= MAX_TIME else f"the segment ends at {stop!r} s"
    hint = "1e12 looks like milliseconds, 1e18 like nanoseconds"
    raise InvalidSegment(f"t: {wrong}; expected GPS seconds between -{MAX_TIME:g} and {MAX_TIME:g} ({hint})", field="t")


def _bad_spacing(segment: Segment) -> InvalidSegment:
    return InvalidSegment(f"t: dt is {segment.dt!r} s; expected {MIN_SPACING:g} to {MAX_SPACING:g} s", field="t")


def _has_repeated_key(body: bytes, meta: bytes | None) -> bool:
    """Return whether a key appears more than once in an object of a segment, whose `meta` is JSON.

    The decoder keeps one value of a repeated key: the body then has more strings than what was decoded.
    """
    quotes, end, escaped = 4, len(body), False
    if meta is not None:
        quotes = 6
        if body.endswith(meta, 0, -1):
            end -= len(meta) + 1
        else:
            escaped = b"\\" in meta
            quotes += (_without_escapes(meta) if escaped else meta).count(b'"')
    # A search for one quote is far faster than a count: the samples, around the middle, are not counted.
    middle = end // 2
    before, after = body.rfind(b'"', 0, middle) + 1, body.find(b'"', middle, end)
    if after < 0:
        after = end
    if escaped:
        in_string = body[after - 1 : after] == b"\\"
        return _without_escapes(body if in_string else body[:before] + body[after:]).count(b'"') != quotes
    return body.count(b'"', 0, before) + body.count(b'"', after, end) != quotes


def _without_escapes(content: bytes) -> bytes:
    """Return JSON text without escaped backslashes and quotes: each quote left begins or ends a string."""
    return content.replace(rb"\\", b"").replace(rb"\"", b"")


def _repeated_key(body: bytes) -> ProblemError:
    """Return the error that names a key which appears more than once in an object of the body."""
    repeated: list[list[str]] = []  # by object; the segment itself is last

    def note(pairs: list[tuple[str, Any]]) -> None:
        repeated.append([key for key, count in Counter(key for key, _ in pairs).items() if count > 1])

    try:
        json.loads(body, object_pairs_hook=note)
    except RecursionError:
        return TooDeep("the body is nested too deeply")
    field = repeated[-1][0] if repeated[-1] else "meta"
    key = json.dumps(next(filter(None, reversed(repeated)))[0])
    return InvalidSegment(f"{field}: the key {key[:_MAX_QUOTED]} appears more than once", field=field)


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

    A body without white space is compact already and is returned unchanged, unless its `meta` is written longer than
    it was when MAX_META was checked, for example with escapes or with many zeros.
    """
    if b" " in body or b"\n" in body or b"\t" in body or b"\r" in body or _is_meta_rewritten(body, segment):
        return encode_segment(segment)
    return body


def _is_meta_rewritten(body: bytes, segment: Segment) -> bool:
    if not isinstance(segment.meta, dict):
        return False
    meta = _encoder.encode(segment.meta)
    # Nearly always it is the end of the body: searching all of the samples for it would cost far more.
    return not body.endswith(meta, 0, -1) and meta not in body
