"""Fetch stored segments, several at a time, in the order of their names."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import numpy as np
from numpy.typing import NDArray

from gwclient.client import GlitchflowClient
from gwclient.errors import GatewayError, GatewayUnavailable, UnexpectedAnswer
from gwfiles.stretches import Placed, Stretch
from gwwire.problems import ProblemError
from gwwire.segment import Segment, decode_segment

#: Segments requested at a time.
_AHEAD = 8


class Unreadable(Exception):
    """A segment of a stretch cannot be fetched or decoded; `place` is where it lies, `error` the reason."""

    def __init__(self, place: Placed, error: GatewayError) -> None:
        super().__init__(f"{place.record.name}: {error}")
        self.place, self.error = place, error


async def fetch_bodies(
    client: GlitchflowClient, names: Sequence[str]
) -> AsyncGenerator[tuple[str, bytes | GatewayError], None]:
    """Yield the names of segments and their bodies, or the errors, in order.

    Without a connection to the gateway, raise GatewayUnavailable.
    """

    async def fetch(name: str) -> bytes | GatewayError:
        try:
            return await client.segment(name)
        except GatewayError as error:
            if isinstance(error, GatewayUnavailable) and not error.connected:
                raise
            return error

    for i in range(0, len(names), _AHEAD):
        now = names[i : i + _AHEAD]
        for name, body in zip(now, await asyncio.gather(*map(fetch, now)), strict=True):
            yield name, body


async def fetch_stretch(
    client: GlitchflowClient, stretch: Stretch
) -> AsyncGenerator[tuple[Placed, Segment, NDArray[np.float64]], None]:
    """Yield where each segment of a stretch lies, the segment, and its samples there; raise Unreadable for one."""
    placed = iter(stretch.placed)
    async with aclosing(fetch_bodies(client, [each.record.name for each in stretch.placed])) as bodies:
        async for name, body in bodies:
            place = next(placed)
            try:
                segment = decode_stored(name, body)
            except GatewayError as error:
                raise Unreadable(place, error) from error
            yield place, segment, np.array(segment.h)[place.first : place.last]


def decode_stored(name: str, body: bytes | GatewayError) -> Segment:
    """Return the segment of a body, or raise its error, or UnexpectedAnswer if it is not a segment."""
    if isinstance(body, GatewayError):
        raise body
    try:
        return decode_segment(body)
    except ProblemError as error:
        raise UnexpectedAnswer(f"{name} is not a segment: {error.detail}") from error
