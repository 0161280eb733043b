"""The change feed: complete, in order, resumable, and quiet while nothing matches."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import aclosing, closing
from typing import Any

import pytest

from databuffer.buffer import Buffer
from databuffer.errors import SeqAhead
from databuffer.records import scan
from databuffer.records.records import Records
from databuffer.records.scan import Look, Scan
from databuffer.records.selection import Selection
from databuffer.settings import BufferSettings
from gwwire.datastore import FreezeOrder
from gwwire.records import Feed, Record, RecordContent, RecordPatch, StepClaim
from tests.support.segments import segment_body

pytestmark = pytest.mark.anyio


def feed(
    buffer: Buffer, since: int = 0, *, kind: str | None = None, heartbeat: float = 30, once: bool = True
) -> AsyncIterator[bytes]:
    how = Feed.ONCE if once else Feed.CONTINUOUS
    return buffer.feed.read(Selection(kind), since, how, heartbeat)


async def lines(buffer: Buffer, since: int = 0, kind: str | None = None) -> list[dict[str, Any]]:
    parts = [part async for part in feed(buffer, since, kind=kind)]
    return [json.loads(line) for line in b"".join(parts).splitlines()]


async def test_each_thing_is_reported_once_in_its_latest_version_and_in_order(buffer: Buffer) -> None:
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


async def test_a_long_stretch_that_passes_nothing_is_looked_at_in_bounded_portions(
    buffer: Buffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "_SEQS", 50)
    start = (await lines(buffer))[-1]["seq"]
    await buffer.records.patch_all([(f"file/{number}", RecordPatch()) for number in range(230)])
    await buffer.records.put("other/a", RecordContent())
    *marks, found = await lines(buffer, start, kind="other")
    assert [mark["seq"] - start for mark in marks] == [50, 100, 150, 200]
    assert found["id"] == "other/a"


async def test_seqs_that_a_restored_backup_left_out_are_passed_in_one_look(
    buffer: Buffer, settings: BufferSettings
) -> None:
    await buffer.records.put("file/a", RecordContent())
    with closing(sqlite3.connect(settings.ADMROOT / "catalog.sqlite", isolation_level=None)) as database:
        database.execute("UPDATE counter SET seq = seq + 4294967296")
    await buffer.records.put("file/b", RecordContent())
    told = await lines(buffer, kind="file")
    assert [line["id"] for line in told if "id" in line] == ["file/a", "file/b"]
    assert len(told) < 5


async def test_a_listener_that_was_off_gets_every_change_made_before_and_while_it_catches_up(buffer: Buffer) -> None:
    names = [f"file/{number}" for number in range(400)]
    await buffer.records.patch_all([(name, RecordPatch()) for name in names])
    seen: dict[str, int] = {}

    async def write() -> None:
        for start in range(0, len(names), 40):
            await buffer.records.patch_all([(name, RecordPatch(run="O4")) for name in names[start : start + 40]])

    async def read() -> int:
        since = 0
        async for part in feed(buffer, kind="file"):
            told = [json.loads(line) for line in part.splitlines()]
            seen.update({line["id"]: line["rev"] for line in told if "id" in line})
            since = told[-1]["seq"]
            await asyncio.sleep(0)
        return since

    since, _ = await asyncio.gather(read(), write())
    seen |= {line["id"]: line["rev"] for line in await lines(buffer, since, kind="file") if "id" in line}
    assert seen == dict.fromkeys(names, 2)


async def test_a_seq_that_nothing_has_reached_is_refused(buffer: Buffer) -> None:
    last = (await buffer.records.put("file/a", RecordContent())).seq
    assert await lines(buffer, last) == []
    with pytest.raises(SeqAhead, match=f"since={last + 1}: the last seq is {last};"):
        await lines(buffer, last + 1)
    with pytest.raises(SeqAhead, match="the last seq is"):
        await buffer.records.claim("copy", StepClaim("w", since=last + 1))


async def test_a_feed_ends_when_an_older_catalog_is_restored_under_it(buffer: Buffer, settings: BufferSettings) -> None:
    await buffer.records.put("file/a", RecordContent())
    async with aclosing(feed(buffer, once=False)) as parts:  # type: ignore[type-var]
        await anext(parts)
        with closing(sqlite3.connect(settings.ADMROOT / "catalog.sqlite", isolation_level=None)) as database:
            database.execute("UPDATE counter SET seq = 0")
        following = asyncio.ensure_future(anext(parts))
        buffer.ingest.announce_change(segments=True)
        with pytest.raises(SeqAhead):
            await asyncio.wait_for(following, 60)


async def test_readers_with_one_filter_share_the_looks_of_the_feed(
    buffer: Buffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    look = Records.changes

    async def counted(self: Records, scan: Scan, since: int, limit: int) -> tuple[list[Record], Look]:
        looks.append(since)
        return await look(self, scan, since, limit)

    monkeypatch.setattr(Records, "changes", counted)
    written = [await buffer.records.put(f"file/{number}", RecordContent()) for number in range(3)]
    told: list[list[str]] = [[] for _ in range(50)]

    async def read(number: int) -> None:
        # They begin at different changes.
        async with aclosing(feed(buffer, written[number % 3].seq, kind="file", once=False)) as parts:  # type: ignore[type-var]
            async for part in parts:
                told[number] += [json.loads(line)["id"] for line in part.splitlines() if b'"id"' in line]
                if "file/last" in told[number]:
                    return

    readers = [asyncio.create_task(read(number)) for number in range(50)]
    await asyncio.sleep(0.1)
    changes = [f"file/new{number}" for number in range(10)]
    for name in changes:
        await buffer.records.put(name, RecordContent())
        await asyncio.sleep(0.02)
    await buffer.records.put("file/last", RecordContent())
    await asyncio.wait_for(asyncio.gather(*readers), 60)
    for number, ids in enumerate(told):
        assert ids == [*["file/1", "file/2"][number % 3 :], *changes, "file/last"]
    assert len(looks) < 30, "50 readers look as one does"


async def test_a_continuous_feed_reports_what_changes_and_that_it_lives(buffer: Buffer) -> None:
    async def told(parts: AsyncIterator[bytes]) -> bytes:
        """Return the next part that is no heartbeat."""
        while (part := await anext(parts)) == b"\n":
            pass
        return part

    await buffer.records.put("file/a", RecordContent())
    async with aclosing(feed(buffer, kind="file", heartbeat=1, once=False)) as parts:  # type: ignore[type-var]
        assert json.loads((await anext(parts)).splitlines()[0])["id"] == "file/a"
        assert await anext(parts) == b"\n"
        following = asyncio.ensure_future(told(parts))
        await asyncio.sleep(0.1)
        assert not following.done()
        await buffer.records.put("file/b", RecordContent())
        assert json.loads((await asyncio.wait_for(following, 60)).splitlines()[0])["id"] == "file/b"
        following = asyncio.ensure_future(told(parts))
        await asyncio.sleep(0.1)
        buffer.records.stop_waiting()
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(following, 60)
    assert await lines(buffer, kind="file")
