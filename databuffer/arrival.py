"""A segment on its way in: validated, in its compact form, with what the catalog will say of it."""

import asyncio
from dataclasses import dataclass

from gwwire.decoding import InvalidRequest
from gwwire.segment import compact, decode_segment

_LONGEST_KEY = 255
#: Bytes from which on validation takes more than about a millisecond, and is done off the event loop.
_LONG_BODY = 500_000


@dataclass(frozen=True)
class Arrival:
    """A segment that may be stored.

    Attributes:
        content: what its file will hold.
        channel: "DET:NAME", where it says so.
        t0: GPS seconds of the first sample.
        dt: sample spacing in s.
        n: number of samples.
        key: the Idempotency-Key it came with.

    """

    content: bytes
    channel: str | None
    t0: float
    dt: float
    n: int
    key: str | None


async def receive(body: bytes, key: str | None = None) -> Arrival:
    """Validate what came.

    Raises:
        MalformedJson, InvalidSegment: the body is no segment.
        InvalidRequest: the key is none.

    """
    check_key(key)
    if len(body) < _LONG_BODY:
        return _validate(body, key)
    return await asyncio.to_thread(_validate, body, key)


def check_key(key: str | None) -> None:
    """Raise InvalidRequest where a key is not 1 to 255 printable ASCII characters."""
    if key is not None and not (0 < len(key) <= _LONGEST_KEY and key.isascii() and key.isprintable()):
        message = f"Idempotency-Key: expected 1 to {_LONGEST_KEY} printable ASCII characters"
        raise InvalidRequest(message, field="Idempotency-Key")


def _validate(body: bytes, key: str | None) -> Arrival:
    segment = decode_segment(body)
    return Arrival(compact(body, segment), segment.channel, segment.t0, segment.dt, len(segment.h), key)
