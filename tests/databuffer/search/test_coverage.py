"""The coverage of queries, compared with that of the segments they select."""

import json

import pytest

from databuffer.buffer import Buffer
from gwwire.coverage import channel_coverage, channel_gaps, coverage, spans_of
from gwwire.datastore import FreezeOrder
from gwwire.public import Span
from gwwire.query import Query, parse_parameters

pytestmark = pytest.mark.anyio


@pytest.fixture
async def stored(buffer: Buffer) -> Buffer:
    """Return a buffer with two batches, of three channels that overlap, have gaps, and have rounded spacings."""

    async def store(t0: float, channel: str | None, dt: float, snr: float) -> None:
        meta = {"snr": snr} | ({"channel": channel} if channel else {})
        await buffer.ingest.append(json.dumps({"h": [1.0] * 4, "t": [t0, dt], "meta": meta}).encode())

    for place in range(12):
        await store(100.0 + place, "L1:STRAIN", 0.25, place)
        await store(100.0 + 2 * place, "H1:STRAIN", 0.25 if place % 2 else 0.250001, place)
        await store(100.5 + place, None, 0.25, place)
        if place == 7:
            await buffer.batches.freeze(FreezeOrder("alice", "secret"))
            await buffer.batches.flush()
    await store(105.25, "L1:STRAIN", 0.25, 50)
    return buffer


@pytest.mark.parametrize(
    "text",
    [
        *((), ("detector=H1",), ("channel=*STRAIN", "start=103.5"), ("start=104", "stop=109.75"), ("stop=100.5",)),
        *(("start=500",), ("detector=K1",), ("condition=snr>=5", "stop=108"), ("condition=snr<3", "channel=L1:STRAIN")),
        *(("status=good", "detector=L1"), ("status=bad",), ("facility=LIGO", "start=107.9")),
    ],
)
async def test_a_query_covers_what_the_segments_cover_that_it_selects(stored: Buffer, text: tuple[str, ...]) -> None:
    query = parse_parameters((word.split("=", 1)[0], word.split("=", 1)[1]) for word in text)
    selected = channel_coverage(spans_of(await stored.search.segments(query, limit=100)), 2000)
    found = await stored.search.coverage(query)
    assert found.channels == selected
    assert found.gaps == list(channel_gaps(selected, query))
    assert found.more == 0


async def test_batches_are_covered_together_and_alone(stored: Buffer) -> None:
    first, second = (batch.id for batch in await stored.queries.batches())
    for batches in ((first,), (second,), (first, second)):
        query = Query(batch=batches, detector=("L1",))
        found = await stored.search.coverage(query)
        assert found.channels == channel_coverage(spans_of(await stored.search.segments(query)), 2000)
        assert found.batch == (batches[0] if len(batches) == 1 else None)


async def test_beyond_the_limit_the_shortest_gaps_are_ignored(stored: Buffer) -> None:
    await stored.ingest.append(b'{"h":[1.0],"t":[200,0.25],"meta":{"channel":"H1:STRAIN"}}')
    (found,) = (await stored.search.coverage(Query(channel=("H1:STRAIN",), start=122.0), limit=1)).channels
    assert (found.spans, found.closed_gaps) == ([(122.0, 200.25, 2)], 77.0)


def test_an_answer_with_many_channels_is_bounded_and_says_so() -> None:
    few: list[Span] = [(place**2, place**2 + 1, 1) for place in range(2, 202)]
    found = coverage({(f"L1:{i:03}", 1.0): few for i in range(1000)}, Query(), limit=2000)
    assert {(len(each.spans), each.closed_gaps) for each in found.channels} == {(100, 202)}
    assert (len(found.channels), found.more) == (1000, 0)
    one: list[Span] = [(0.0, 1.0, 1)]
    many = coverage({(f"L1:{i}", 1.0): one for i in range(100_005)}, Query(), limit=2000)
    assert (len(many.channels), many.more) == (100_000, 5)
