"""The change feed: complete, in order, resumable, and quiet while nothing matches."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from databuffer.buffer import Buffer
from databuffer.records.feed import changes
from databuffer.records.selection import Selection
from gwwire.datastore import FreezeOrder
from gwwire.records import Feed, RecordContent, RecordPatch
from tests.support.segments import segment_body

pytestmark = pytest.mark.anyio


def feed(
    buffer: Buffer, since: int = 0, *, kind: str | None = None, heartbeat: float = 30, once: bool = True
) -> AsyncIterator[bytes]:
    how = Feed.ONCE if once else Feed.CONTINUOUS
    return changes(buffer.records, Selection(kind), since, how, heartbeat)


async def lines(buffer: Buffer, since: int = 0, kind: str | None = None) -> list[dict[str, Any]]:
    parts = [part async for part in feed(buffer, since, kind=kind)]
    return [json.loads(line) for line in b"".join(parts).splitlines()]


async def test_each_thing_is_told_once_in_its_latest_version_and_in_order(buffer: Buffer) -> None:
    await buffer.ingest.append(segment_body(1))
    await buffer.records.patch_all([(f"file/{number}", RecordPatch()) for number in range(250)])
    await buffer.records.patch("file/0", RecordPatch(status="noisy"))
    await buffer.batches.freeze(FreezeOrder("alice", "secret"))
    told = await lines(buffer)
    seqs = [line["seq"] for line in told]
    assert seqs == sorted(set(seqs))
    ids = [line["id"] for line in told]
    assert len(ids) == len(set(ids)) == 252
    assert ids[-2:] == ["file/0", "batch/" + (await buffer.queries.batches())[0].id]
    assert (told[-1]["last"], told[-2]["status"]) == ("sealed", "noisy")
    assert await lines(buffer, seqs[-3]) == told[-2:]
    assert await lines(buffer, seqs[-1]) == []


async def test_segments_can_be_left_out_until_somebody_writes_to_them(buffer: Buffer) -> None:
    for number in (1, 2):
        await buffer.ingest.append(segment_body(number))
    [_, second] = [each.id for each in await buffer.records.find(Selection("segment"), 0, 9)]
    written = Selection("segment", virtual_segments=False)
    assert await buffer.records.find(written, 0, 9) == []
    await buffer.records.patch(second, RecordPatch(status="noisy"))
    assert [each.id for each in await buffer.records.find(written, 0, 9)] == [second]


async def test_a_filter_that_passes_nothing_still_moves_the_cursor(buffer: Buffer) -> None:
    await buffer.records.patch_all([(f"file/{number}", RecordPatch()) for number in range(250)])
    [mark] = await lines(buffer, kind="other")
    assert mark == {"seq": (await buffer.records.get("file/249")).seq}
    assert await lines(buffer, mark["seq"], kind="other") == []


async def test_a_continuous_feed_tells_what_changes_and_that_it_lives(buffer: Buffer) -> None:
    await buffer.records.put("file/a", RecordContent())
    async with aclosing(feed(buffer, kind="file", heartbeat=1, once=False)) as parts:  # type: ignore[type-var]
        assert json.loads((await anext(parts)).splitlines()[0])["id"] == "file/a"
        assert await anext(parts) == b"\n"
        following = asyncio.ensure_future(anext(parts))
        await asyncio.sleep(0.1)
        assert not following.done()
        await buffer.records.put("file/b", RecordContent())
        assert json.loads((await asyncio.wait_for(following, 5)).splitlines()[0])["id"] == "file/b"
        following = asyncio.ensure_future(anext(parts))
        await asyncio.sleep(0.1)
        buffer.records.stop_waiting()
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(following, 5)
    assert await lines(buffer, kind="file")
