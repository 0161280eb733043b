"""A query selects segments by their fields and by their `meta`, and batches by their content."""

import asyncio
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from fnmatch import fnmatchcase
from functools import partial
from random import Random
from typing import Any

import msgspec
import pytest

from databuffer.app import create_buffer
from databuffer.buffer import Buffer
from databuffer.records.selection import Selection
from databuffer.search import facet_counts, facets, meta_reader, plan
from databuffer.settings import BufferSettings, OnFrozen
from databuffer.storage.catalog import CataloguedSegment
from gwwire.datastore import FreezeOrder
from gwwire.detectors import describe, detector_of
from gwwire.facets import Facets
from gwwire.public import ThawOrder
from gwwire.query import LISTS, Query, parse_words
from gwwire.records import RecordContent, RecordPatch, StepClaim, StepEnd, StepState
from tests.support.segments import segment_body

pytestmark = pytest.mark.anyio

OpenBuffer = Callable[[], Awaitable[Buffer]]
CHANNELS = ["L1:GDS-STRAIN", "L1:GDS-AUX", "H1:GDS-STRAIN", "V1:Hrec", "X9:LAB", "TEMP", "L1:gds-strain", None]


def body(t0: float, channel: str | None = None, seconds: int = 8, **meta: Any) -> bytes:
    meta |= {"channel": channel} if channel else {}
    return json.dumps({"h": [0.5] * seconds, "t": [t0, 1], **({"meta": meta} if meta else {})}).encode()


async def store(buffer: Buffer, *bodies: bytes) -> list[str]:
    """Store segments one after the other; return their names."""
    return [(await buffer.ingest.append(each)).name for each in bodies]


async def listed(buffer: Buffer, *words: str) -> list[CataloguedSegment]:
    return await buffer.search.segments(parse_words(words))


async def times(buffer: Buffer, *words: str) -> list[float]:
    return [row.t0 for row in await listed(buffer, *words)]


async def ids(buffer: Buffer, kind: str | None, *words: str) -> list[str]:
    return [record.id for record in await buffer.records.find(Selection(kind, parse_words(words)), 0, 1000)]


async def claimed(buffer: Buffer, step: str, *words: str, kind: str | None = None) -> list[str]:
    order = StepClaim("worker", kind=kind, query=parse_words(words), limit=100)
    return [record.id for record in await buffer.records.claim(step, order)]


async def done(buffer: Buffer, step: str, name: str) -> None:
    """Perform a step on one segment."""
    order = StepClaim("worker", kind="segment", query=parse_words(["conditions.snr=6"]))
    [record] = await buffer.records.claim(step, order)
    assert record.id == f"segment/{name}"
    await buffer.records.end(record.id, step, StepEnd(record.steps[-1].attempt, StepState.DONE))


# ---- segments


def is_selected(query: Query, segment: CataloguedSegment, snr: float | None) -> bool:
    """Return whether a query of fields and of a lower bound of the snr selects a segment."""
    detector = detector_of(segment.channel)
    derived = describe(detector)._asdict() if detector else {}
    has = {**derived, "detector": detector, "batch": segment.batch, "channel": segment.channel}
    return (
        all(
            any(fnmatchcase(has.get(name) or "", value) for value in values) and has.get(name)
            for name in LISTS
            if (values := getattr(query, name))
        )
        and (query.start is None or segment.t0 + segment.n > query.start)
        and (query.stop is None or segment.t0 < query.stop)
        and all(snr is not None and bounds.gt is not None and snr > bounds.gt for bounds in query.conditions.values())
    )


def random_queries(chance: Random, batches: list[str]) -> Iterator[Query]:
    values = {
        "facility": ["LIGO", "Virgo", "X9"],
        "site": ["Hanford", "Livingston", "X9"],
        "instrument": ["Advanced LIGO"],
        "detector": ["L1", "H1", "X9", "TEMP"],
        "channel": ["L1:GDS-STRAIN", "L1:*", "*STRAIN", "*S*N", "L1:GDS*STRAIN", "*", "GDS-STRAIN"],
        "batch": [*batches, "b0"],
    }
    for _ in range(150):
        names = chance.sample(list(values), chance.choice([0, 1, 1, 2]))
        words = [f"{name}={each}" for name in names for each in chance.choices(values[name], k=chance.choice([1, 2]))]
        start = chance.choice([None, None, *range(90, 190, 9)])
        words += [] if start is None else [f"start={start}"]
        words += chance.choice([[], [], [f"stop={(start or 90) + chance.randrange(60)}"]])
        yield parse_words([*words, *chance.choice([[], [], ["snr>5"]])])


@pytest.mark.parametrize("few", [0, 1000])
async def test_segments_are_selected_as_by_comparing_each_of_them(
    buffer: Buffer, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """`few` decides whether matching segments are looked up, or found by reading on."""
    monkeypatch.setattr(plan, "_FEW", few)
    chance = Random(5)
    snrs: dict[str, float | None] = {}
    for number in range(60):
        snr = chance.choice([None, None, 4.0, 8.0])
        meta: dict[str, Any] = {"snr": snr} if snr else {}
        t0 = 100.0 + (number if number % 7 else 60 - number)
        [name] = await store(buffer, body(t0, chance.choice(CHANNELS), **meta))
        snrs[name] = snr
        if number == 30:
            await buffer.batches.flush()
    everything = await listed(buffer)
    assert len(everything) == 60
    batches = [batch.id for batch in await buffer.queries.batches()]
    for query in random_queries(chance, batches):
        expected = [row.name for row in everything if is_selected(query, row, snrs[row.name])]
        assert [row.name for row in await buffer.search.segments(query)] == expected, query
        assert [row.name for row in await buffer.search.segments(query, before=2**62)] == expected[::-1], query
        records = await buffer.records.find(Selection("segment", query), 0, 1000)
        assert [record.id for record in records] == [f"segment/{name}" for name in expected], query


async def test_segments_are_selected_by_their_records_too(buffer: Buffer) -> None:
    one, two, _ = await store(buffer, body(1, snr=8), body(2, snr=8), body(3))
    await buffer.records.patch(f"segment/{one}", RecordPatch(status="glitch", run="O4"))
    await buffer.records.put(f"segment/{two}", RecordContent("good", None, {"seen": "by eye"}))
    assert await times(buffer, "status=good") == [2, 3]
    assert await times(buffer, "status=glitch") == [1] == await times(buffer, "run=O4")
    assert await times(buffer, "run=O4", "status=good") == [] == await times(buffer, "last=check")
    assert await times(buffer, "snr=8") == [1]
    assert await times(buffer, "seen=by eye") == [2]
    assert await ids(buffer, None, "snr=8") == [f"segment/{one}"]
    assert (await claimed(buffer, "check", "seen=by eye"))[0] == f"segment/{two}"


async def test_the_meta_of_a_segment_is_searched_by_dotted_name_and_the_channel_is_a_condition_too(
    buffer: Buffer,
) -> None:
    await store(
        buffer,
        body(1, "L1:A", source={"mass": [30, 36.2], "name": "GW150914"}, veto=True, huge=10**400),
        body(2, "L1:A", **{f"n{number}": number for number in range(300)}),
    )
    assert await times(buffer, "source.mass.1>=36") == [1]
    assert await times(buffer, "source.name=GW150914", "veto=true") == [1]
    assert await times(buffer, "veto!=true") == [] == await times(buffer, "huge>0")
    assert await times(buffer, "n99=99") == [2]
    assert await times(buffer, "n100=100") == []
    assert await times(buffer, "conditions.channel=L1:A") == [1, 2]
    assert await times(buffer, "conditions.channel!=L1:A") == []


@pytest.mark.parametrize("rebuilt", ["the open batch", "an archive"])
async def test_a_rebuild_of_the_index_reads_the_meta_from_the_files(
    open_buffer: OpenBuffer, settings: BufferSettings, rebuilt: str
) -> None:
    buffer = await open_buffer()
    await store(buffer, body(1, "L1:A", snr=8), body(2, "L1:A"))
    if rebuilt == "an archive":
        await buffer.batches.flush()
    await buffer.close()
    for file in settings.ADMROOT.glob("catalog.sqlite*"):
        file.unlink()
    buffer = await open_buffer()
    assert await times(buffer, "snr=8") == [1]


async def until_read(buffer: Buffer, left: int = 0) -> None:
    async with asyncio.timeout(60):
        while (await buffer.queries.overview()).unread_meta > left:  # noqa: ASYNC110 (as clients of /overview do)
            await asyncio.sleep(0.01)


async def test_the_meta_of_segments_of_an_earlier_version_is_read_in_the_background_and_after_a_stop(
    open_buffer: OpenBuffer, settings: BufferSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meta_reader, "_PORTION", 2)
    buffer = await open_buffer()
    names = await store(buffer, *(body(t0, "L1:A", snr=t0) for t0 in range(5)))
    await buffer.batches.flush()
    await store(buffer, *(body(t0, "L1:A", snr=t0) for t0 in range(5, 9)))
    await buffer.close()
    with closing(sqlite3.connect(settings.ADMROOT / "catalog.sqlite")) as connection:
        connection.executescript("""
            DROP TABLE unread_meta; ALTER TABLE bundles DROP COLUMN held; ALTER TABLE bundles DROP COLUMN "group";
            ALTER TABLE bundles DROP COLUMN reason; ALTER TABLE steps DROP COLUMN asked;
            DROP TABLE holdings; DROP TABLE holding_tags; DROP TABLE holding_files; DROP TABLE transactions;
            DROP TABLE file_packs;
            DELETE FROM segment_conditions; UPDATE schema SET version = 4
        """)
    next(settings.DTVOLROOT.glob(f"*/{names[1]}")).write_bytes(b"damaged")

    real = meta_reader.MetaReader._read_some  # noqa: SLF001 (to stop after two of them)

    async def read_two_portions(reader: meta_reader.MetaReader) -> bool:
        if reader._state.unread_meta <= 5:  # noqa: SLF001 (what is left)
            await asyncio.Event().wait()
        return await real(reader)

    with monkeypatch.context() as patch:
        patch.setattr(meta_reader.MetaReader, "_read_some", read_two_portions)
        buffer = await open_buffer()
        await until_read(buffer, left=5)
        await buffer.close()
    with closing(sqlite3.connect(settings.ADMROOT / "catalog.sqlite")) as connection:
        [(after, last)] = connection.execute("SELECT * FROM unread_meta").fetchall()
    assert 0 < after < last
    buffer = await open_buffer()
    await until_read(buffer)
    assert await times(buffer, "snr>=0") == [0, 2, 3, 4, 5, 6, 7, 8]
    async with asyncio.timeout(60):
        while len(details := await told_of_meta(buffer)) < 2:  # noqa: ASYNC110 (the last is logged a moment later)
            await asyncio.sleep(0.01)
    assert details[0].endswith(" segments of an earlier version is being read")
    assert details[1].endswith(" segments of an earlier version can be searched")
    await buffer.close()
    with closing(sqlite3.connect(settings.ADMROOT / "catalog.sqlite")) as connection:
        assert connection.execute("SELECT * FROM unread_meta").fetchall() == []


async def told_of_meta(buffer: Buffer) -> list[str]:
    return [event.detail for event in (await buffer.queries.overview()).events if event.event == "meta"]


async def test_what_was_found_of_the_meta_of_a_segment_stays_if_its_file_is_not_on_the_disk(
    open_buffer: OpenBuffer, settings: BufferSettings
) -> None:
    buffer = await open_buffer()
    names = await store(buffer, body(1, "L1:A", snr=1), body(2, "L1:A", snr=2))
    await buffer.batches.flush()
    await buffer.close()
    with closing(sqlite3.connect(settings.ADMROOT / "catalog.sqlite")) as connection:
        connection.executescript("INSERT INTO unread_meta SELECT 0, max(seq) FROM segments")
    next(settings.DTVOLROOT.glob(f"*/{names[0]}")).unlink()
    buffer = await open_buffer()
    await until_read(buffer)
    assert await times(buffer, "snr>=0") == [1, 2]


async def test_what_is_removed_leaves_no_conditions(buffer: Buffer, settings: BufferSettings) -> None:
    name, _ = await store(buffer, body(1, snr=8), body(2, snr=8))
    (settings.DATAROOT / name).unlink()
    await buffer.ingest.perform(buffer.state.recover)
    with closing(sqlite3.connect(settings.ADMROOT / "catalog.sqlite")) as connection:
        assert connection.execute("SELECT count(*) FROM segment_conditions").fetchone() == (1,)
    assert await times(buffer, "snr=8") == [2]


# ---- facets


def facet(found: Facets, name: str) -> dict[str, int]:
    return {value.value: value.segments for each in found.facets if each.name == name for value in each.values}


async def test_facets_count_what_the_query_selects(buffer: Buffer) -> None:
    chance = Random(7)
    for number in range(40):
        meta: dict[str, Any] = {"snr": float(number), "event": f"e{number % 3}"} if number % 4 == 0 else {}
        await store(buffer, body(100.0 + number, chance.choice(CHANNELS), **meta))
        if number == 20:
            await buffer.batches.flush()
    snrs = {row.name: row.t0 - 100 if row.t0 % 4 == 0 else None for row in await listed(buffer)}
    batches = [batch.id for batch in await buffer.queries.batches()]
    for query in [Query(), *random_queries(chance, batches)]:
        rows = [row for row in await listed(buffer) if is_selected(query, row, snrs[row.name])]
        found = await buffer.search.facets(query)
        assert found.segments == len(rows), query
        assert found.bytes == sum(row.bytes for row in rows), query
        assert (found.after, {each.after for each in found.facets} - {0}) == (0, set())
        assert facet(found, "status") == ({"good": len(rows)} if rows else {}), query
        assert facet(found, "channel") == Counter(row.channel for row in rows if row.channel), query
        assert facet(found, "batch") == Counter(row.batch for row in rows), query
        detectors = [detector for row in rows if (detector := detector_of(row.channel))]
        assert facet(found, "detector") == Counter(detectors), query
        assert facet(found, "facility") == Counter(describe(detector).facility for detector in detectors), query
        ranges = {each.name: (each.segments, each.low, each.high) for each in found.facets}
        values = [snr for row in rows if (snr := snrs[row.name]) is not None]
        if len(query.facility) < 2 and values:
            assert ranges["conditions.snr"] == (len(values), min(values), max(values)), query
        if rows:
            _, low, high = ranges["time"]
            assert low is not None
            assert high is not None
            assert low <= max(min(row.t0 for row in rows), query.start or 0)
            assert high >= min(max(row.t0 + row.n for row in rows), query.stop or 1e9)


@pytest.mark.parametrize("few", [0, 1000])
async def test_facets_count_segments_by_their_records_however_many_there_are(
    buffer: Buffer, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """`few` decides whether records are counted at once, or in ranges of segments."""
    monkeypatch.setattr(facet_counts, "_FEW", few)
    names = await store(buffer, *(body(t0, "L1:A" if t0 % 2 else "H1:A", snr=t0) for t0 in range(12)))
    await buffer.batches.flush()
    for name in names[:3]:
        await buffer.records.patch(f"segment/{name}", RecordPatch(status="glitch", run="O4"))
    await buffer.records.patch(f"segment/{names[5]}", RecordPatch(run="O5", conditions={"seen": "by eye", "snr": 99}))
    await done(buffer, "check", names[6])

    async def counted(*words: str) -> dict[str, dict[str, int]]:
        found = await buffer.search.facets(parse_words(words))
        assert found.segments == len(await listed(buffer, *words)), words
        assert found.bytes == sum(row.bytes for row in await listed(buffer, *words)), words
        return {each.name: {value.value: value.segments for value in each.values} for each in found.facets}

    everything = await counted()
    assert (everything["status"], everything["run"]) == ({"good": 9, "glitch": 3}, {"O4": 3, "O5": 1})
    assert (everything["last"], everything["conditions.seen"]) == ({"check": 1}, {"by eye": 1})
    assert (await counted("status=good"))["detector"] == {"H1": 4, "L1": 5}
    assert (await counted("status=good", "run=O5"))["status"] == {"good": 1}
    assert (await counted("run=O4", "detector=H1"))["status"] == {"glitch": 2}
    assert (await counted("last=check"))["channel"] == {"H1:A": 1}
    assert (await counted("seen=by eye", "start=2"))["channel"] == {"L1:A": 1}
    assert (await counted("status=glitch", "stop=1"))["status"] == {"glitch": 1}
    assert (await counted("facility=LIGO", "status=good"))["facility"] == {"LIGO": 9}
    [snr] = [each for each in (await buffer.search.facets(Query())).facets if each.name == "conditions.snr"]
    assert (snr.segments, snr.low, snr.high) == (12, 0, 99)
    rewritten = (await buffer.search.facets(parse_words(["seen=by eye"]))).facets[-1]
    assert (rewritten.name, rewritten.low, rewritten.high) == ("conditions.snr", 99, 99)


async def test_facets_that_take_too_long_are_cut_and_say_so(buffer: Buffer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facet_counts, "_FEW", 0)
    monkeypatch.setattr(facet_counts, "_FIRST_WIDTH", 3)
    names = await store(buffer, *(body(t0, "L1:A", snr=t0) for t0 in range(12)))
    await buffer.records.patch(f"segment/{names[1]}", RecordPatch(status="glitch"))
    query = parse_words(["status=good"])
    whole = await buffer.queries.read(lambda connection: facet_counts.count(connection, query, seconds=1000))
    assert (sum(part.segments for part in whole.parts.values()), whole.parts_after) == (11, 0)
    cut = await buffer.queries.read(lambda connection: facet_counts.count(connection, query, seconds=0))
    last = (await listed(buffer))[-1].seq
    assert (cut.parts_after, cut.records_after, cut.conditions_after) == (last - 3, last - 3, last - 3)
    assert sum(part.segments for part in cut.parts.values()) == 3 == cut.conditions["snr"].segments
    of_all = await buffer.queries.read(lambda connection: facet_counts.count(connection, Query(), seconds=0))
    assert (sum(part.segments for part in of_all.parts.values()), of_all.parts_after) == (12, 0)
    assert (of_all.conditions["snr"].segments, of_all.conditions_after) == (3, last - 3)
    assert (of_all.records, of_all.records_after) == ({("good", None, None): 3}, last - 3)

    async def cut_off(*words: str) -> Facets:
        return await buffer.queries.read(lambda connection: facets.facets(connection, parse_words(words), seconds=0))

    statuses = [each for each in (await cut_off()).facets if each.name == "status"]
    assert [(each.segments, each.after) for each in statuses] == [(3, last - 3)]
    monkeypatch.setattr(facet_counts, "_FEW", 1)
    bounded = await cut_off("snr>=0")
    assert (bounded.segments, bounded.after) == (3, last - 3)
    assert "status" not in {each.name for each in bounded.facets}, "few records are counted, but not all segments"


async def test_several_facilities_have_only_the_conditions_that_all_of_them_have(buffer: Buffer) -> None:
    await store(
        buffer,
        body(1, "L1:A", snr=8, event="GW150914", ligo=1),
        body(2, "V1:A", snr=5, virgo=1),
        body(3, "K1:A"),
        body(4, "H1:A", event="GW150914"),
    )
    conditions = [
        [each.name for each in (await buffer.search.facets(parse_words(words))).facets if "." in each.name]
        for words in (["facility=LIGO"], ["facility=LIGO", "facility=Virgo"], ["facility=LIGO", "facility=KAGRA"])
    ]
    assert conditions == [["conditions.event", "conditions.ligo", "conditions.snr"], ["conditions.snr"], []]
    found = await buffer.search.facets(parse_words(["facility=LIGO"]))
    assert facet(found, "conditions.event") == {"GW150914": 2}


async def test_what_a_facet_leaves_out_is_counted(buffer: Buffer) -> None:
    many: dict[str, Any] = {f"n{number}": number for number in range(99)}
    await store(
        buffer, *(body(number, f"L1:{number}") for number in range(103)), body(0, **many), body(0, x=1, y=2, z=3)
    )
    found = await buffer.search.facets(Query())
    [listed_ones] = [each for each in found.facets if each.name == "channel"]
    assert (len(listed_ones.values), listed_ones.more, listed_ones.segments) == (100, 3, 103)
    assert (len([each for each in found.facets if "." in each.name]), found.more) == (100, 2)


# ---- batches and other records


async def test_a_sealed_batch_matches_by_the_segments_it_contains(buffer: Buffer) -> None:
    await store(buffer, body(1, "L1:A"), body(20, "H1:A"))
    record = "batch/" + (await buffer.queries.batches())[0].id
    assert await ids(buffer, "batch", f"batch={record[6:]}") == [record]
    assert await ids(buffer, "batch", "detector=L1") == []
    assert await claimed(buffer, "plot", "detector=L1", kind="batch") == []
    await buffer.batches.freeze(FreezeOrder("alice", "secret"))
    assert await ids(buffer, "batch", "detector=L1", "start=10") == []
    assert await ids(buffer, "batch", "detector=L1", "stop=5") == [record]
    assert await ids(buffer, "batch", "detector=L1", "temperature<1") == []
    await buffer.records.patch(record, RecordPatch(conditions={"temperature": 0.5}))
    assert await ids(buffer, "batch", "detector=L1", "temperature<1") == [record]
    assert await ids(buffer, "batch", "detector=V1", "temperature<1") == []
    assert await claimed(buffer, "plot", "detector=L1", kind="batch") == [record]
    await buffer.batches.thaw(ThawOrder("alice", "secret"))
    assert await ids(buffer, "batch", "detector=L1") == []


async def test_other_records_match_by_conditions_with_the_names_of_fields(buffer: Buffer) -> None:
    await buffer.records.put(
        "file/a", RecordContent(conditions={"detector": "L1", "start": 10, "stop": 20, "site": "x"})
    )
    await buffer.records.put("file/b", RecordContent(conditions={"detector": "H1", "start": 15, "channel": "H1:AUX"}))
    await buffer.records.put("file/c", RecordContent())
    assert await ids(buffer, None, "detector=L1") == ["file/a"] == await ids(buffer, None, "site=x")
    assert await ids(buffer, None, "detector=L1", "detector=H1") == ["file/a", "file/b"]
    assert await ids(buffer, None, "channel=H1:*") == ["file/b"]
    assert await ids(buffer, None, "start=20") == ["file/b"]
    assert await ids(buffer, None, "stop=15") == ["file/a"]
    assert await ids(buffer, None, "start=14", "stop=16") == ["file/a", "file/b"]


# ---- claims: every change that makes a record wait is seen


async def test_segments_that_a_thaw_moves_to_a_batch_are_offered_for_it(
    settings: BufferSettings,
) -> None:
    buffer = create_buffer(settings.model_copy(update={"ON_FROZEN": OnFrozen.ROTATE}))
    await buffer.open()
    await store(buffer, segment_body(1))
    batch = (await buffer.queries.batches())[0].id
    assert len(await claimed(buffer, "plot", f"batch={batch}", kind="segment")) == 1
    await buffer.batches.freeze(FreezeOrder("alice", "secret"))
    [moved] = await store(buffer, segment_body(2))
    assert await claimed(buffer, "plot", f"batch={batch}", kind="segment") == []
    await buffer.batches.thaw(ThawOrder("alice", "secret"))
    assert await claimed(buffer, "plot", f"batch={batch}", kind="segment") == [f"segment/{moved}"]
    await buffer.close()


async def test_a_waiting_claim_gets_the_first_segment_that_matches(buffer: Buffer) -> None:
    order = msgspec.structs.replace(StepClaim("worker", query=parse_words(["detector=L1", "snr>5"])), wait=30)
    waiting = asyncio.create_task(buffer.records.claim("plot", order))
    await store(buffer, body(1, "H1:A", snr=8), body(2, "L1:A", snr=4))
    [name] = await store(buffer, body(3, "L1:A", snr=6))
    assert [record.id for record in await waiting] == [f"segment/{name}"]


async def test_a_wildcard_stands_for_any_text_and_every_other_character_for_itself(buffer: Buffer) -> None:
    names = ["H1:A?B", "H1:A[x]B", "H1:AxB", "H1:axb", "H1:A%B", "H1:A_B", "H1:A/B", "H1:A\\B", "H1:Aü*B", "L1:AB"]
    await store(buffer, *(body(number, name) for number, name in enumerate(names)))
    patterns = ["H1:A?*", "*[x]*", "*A[*", "H1:a*", "*%*", "H1:A_*", "*/*", "*\\B", "*ü*", "*A*B", "L1:A*AB", "*"]
    for pattern in patterns:
        whole = re.compile(".*".join(map(re.escape, pattern.split("*"))))
        expected = [name for name in names if whole.fullmatch(name)]
        query = Query(channel=(pattern,))
        assert [row.channel for row in await buffer.search.segments(query)] == expected, pattern
        totals = await buffer.queries.read(partial(plan.totals_of, query=query))
        assert sorted(row.channel for row in totals) == sorted(expected), pattern
