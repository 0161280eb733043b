"""Idempotency-Key: each segment is stored exactly once."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from databuffer.buffer import Buffer
from databuffer.errors import BufferFrozen, KeyReused
from databuffer.settings import BufferSettings
from gwwire.datastore import FreezeOrder
from gwwire.decoding import InvalidRequest
from tests.support.segments import segment_body

pytestmark = pytest.mark.anyio
OpenBuffer = Callable[[], Awaitable[Buffer]]


async def test_the_same_key_and_bytes_again_get_the_first_answer(buffer: Buffer) -> None:
    first = await buffer.ingest.append(segment_body(1), "a-key")
    assert (await buffer.ingest.append(segment_body(1), "a-key")).receipt == first.receipt
    assert buffer.queries.stats.n_itm == 1


async def test_the_same_key_with_other_bytes_is_refused(buffer: Buffer) -> None:
    await buffer.ingest.append(segment_body(1), "a-key")
    with pytest.raises(KeyReused, match="a-key"):
        await buffer.ingest.append(segment_body(2), "a-key")
    assert buffer.queries.stats.n_itm == 1


async def test_without_a_key_every_request_counts(buffer: Buffer) -> None:
    await buffer.ingest.append(segment_body(1))
    await buffer.ingest.append(segment_body(1))
    assert buffer.queries.stats.n_itm == 2


async def test_a_key_that_comes_twice_at_once_is_stored_once(buffer: Buffer) -> None:
    same = await asyncio.gather(*(buffer.ingest.append(segment_body(1), "a-key") for _ in range(20)))
    assert len({each.receipt for each in same}) == 1 == buffer.queries.stats.n_itm
    other = await asyncio.gather(
        *(buffer.ingest.append(segment_body(number), "b-key") for number in range(5)), return_exceptions=True
    )
    assert sum(isinstance(each, KeyReused) for each in other) == 4
    assert buffer.queries.stats.n_itm == 2


async def test_a_frozen_batch_still_answers_repeated_requests(buffer: Buffer) -> None:
    first = await buffer.ingest.append(segment_body(1), "a-key")
    await buffer.batches.freeze(FreezeOrder("alice", ""))
    assert (await buffer.ingest.append(segment_body(1), "a-key")).receipt == first.receipt
    with pytest.raises(BufferFrozen):
        await buffer.ingest.append(segment_body(2), "b-key")


async def test_a_key_lives_as_long_as_its_batch(open_buffer: OpenBuffer) -> None:
    buffer = await open_buffer()
    first = await buffer.ingest.append(segment_body(1), "a-key")
    await buffer.batches.flush()
    assert (await buffer.ingest.append(segment_body(1), "a-key")).receipt == first.receipt
    await buffer.close()
    buffer = await open_buffer()
    assert (await buffer.ingest.append(segment_body(1), "a-key")).receipt == first.receipt
    assert buffer.queries.stats.n_itm == 0


async def test_a_segment_stored_right_before_a_crash_is_not_stored_again_by_its_sender(
    open_buffer: OpenBuffer, settings: BufferSettings
) -> None:
    buffer = await open_buffer()
    await buffer.close()
    found = "gwb1700000000000000000.json"
    (settings.DATAROOT / found).write_bytes(b'{"h":[1.0],"t":[0,1]}')
    buffer = await open_buffer()
    assert (await buffer.ingest.append(b'{"h":[2.0],"t":[0,1]}', "another")).name != found
    assert (await buffer.ingest.append(b'{"h":[1.0],"t":[0,1]}', "a-key")).name == found
    assert (await buffer.ingest.append(b'{"h":[1.0],"t":[0,1]}', "a-key")).name == found
    assert buffer.queries.stats.n_itm == 2
    assert (await buffer.ingest.append(b'{"h":[1.0],"t":[0,1]}', "b-key")).name != found


@pytest.mark.parametrize("key", ["", "x" * 256, "käse", "two\nlines"])
async def test_an_invalid_key_is_refused(buffer: Buffer, key: str) -> None:
    with pytest.raises(InvalidRequest, match="Idempotency-Key"):
        await buffer.ingest.append(segment_body(1), key)
    assert buffer.queries.stats.n_itm == 0
