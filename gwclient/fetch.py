"""Fetch stored segments, in the order of their names."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gwclient.client import GlitchflowClient
from gwclient.errors import GatewayError, GatewayUnavailable, UnexpectedAnswer
from gwclient.outages import PackReads
from gwclient.recalls import BatchRecalls
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


class SegmentFetcher:
    """Fetches segments of a datastore; see `PackReads` for what happens after failures.

    With `recalls`, one on tape is waited for; without them, that is a failure.
    """

    def __init__(self, client: GlitchflowClient, recalls: BatchRecalls | None = None) -> None:
        self._client = client
        self._recalls = recalls
        self._reads = PackReads(client, waits_for_tape=recalls is not None)

    def given_up(self, batch: str) -> GatewayError | None:
        """Return why the segments of a batch are not requested any more, or None."""
        return self._reads.given_up(batch)

    async def segment(self, name: str, batch: str = "") -> bytes:
        """Return a segment, or raise the error."""
        read = partial(self._reads.read, batch, partial(self._client.segment_once, name))
        return await (self._recalls.read(name, batch, read) if self._recalls else read())

    async def bodies(
        self, segments: Sequence[tuple[str, str]]
    ) -> AsyncGenerator[tuple[str, bytes | GatewayError], None]:
        """Yield the names of segments, given with their batches, and their bodies or the errors, in order.

        Without a connection to the gateway, raise GatewayUnavailable.
        """

        async def fetch(name: str, batch: str) -> bytes | GatewayError:
            try:
                return await self.segment(name, batch)
            except GatewayError as error:
                if isinstance(error, GatewayUnavailable) and not error.connected:
                    raise
                return error

        for i in range(0, len(segments), _AHEAD):
            now = segments[i : i + _AHEAD]
            for (name, _), body in zip(now, await asyncio.gather(*(fetch(*each) for each in now)), strict=True):
                yield name, body

    async def stretch(self, stretch: Stretch) -> AsyncGenerator[tuple[Placed, Segment, NDArray[np.float64]], None]:
        """Yield where each segment of a stretch lies, the segment, and its samples there; raise Unreadable for one."""
        placed = iter(stretch.placed)
        segments = [(each.record.name, each.record.batch) for each in stretch.placed]
        async with aclosing(self.bodies(segments)) as bodies:
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
