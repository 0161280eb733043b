"""Records: written, patched, listed, searched, and those of segments and batches that nobody wrote about."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from databuffer.buffer import Buffer
from databuffer.errors import NotFound, RecordChanged
from databuffer.records.preconditions import Preconditions, etag
from databuffer.records.selection import Selection
from databuffer.settings import BufferSettings
from gwwire.datastore import FreezeOrder
from gwwire.decoding import InvalidRequest, TooDeep
from gwwire.problems import ProblemError
from gwwire.public import ThawOrder
from gwwire.query import Query, parse_conditions
from gwwire.records import Record, RecordContent, RecordPatch, StepClaim, StepEnd, StepState
from tests.support.segments import segment_body

pytestmark = pytest.mark.anyio

OpenBuffer = Callable[[], Awaitable[Buffer]]
RUN = {"temperature": 0.018, "volts": {"detector_a": [8, 2.5]}, "site": "LSM", "veto": True}


def patch(**changes: Any) -> RecordPatch:
    return msgspec.convert(changes, RecordPatch)


def nested(depth: int) -> Any:
    return {"a": nested(depth - 1)} if depth else {}


async def ids(buffer: Buffer, *conditions: str, limit: int = 100, after: int = 0, **wanted: Any) -> list[str]:
    query: dict[str, Any] = {name: wanted.pop(name) for name in ("run", "last", "status") if name in wanted}
    query["conditions"] = parse_conditions(conditions)
    found = await buffer.records.find(Selection(**wanted, query=Query(**query)), after, limit)
    return [record.id for record in found]


async def test_a_record_is_made_by_writing_to_it_and_stays_over_a_restart(open_buffer: OpenBuffer) -> None:
    buffer = await open_buffer()
    written = await buffer.records.put("file/ma22a/000", RecordContent("good", "ma22a", RUN))
    assert (written.kind, written.rev, written.conditions, written.steps) == ("file", 1, RUN, [])
    await buffer.close()
    buffer = await open_buffer()
    assert await buffer.records.get("file/ma22a/000") == written
    with pytest.raises(NotFound, match="there is no record 'file/other'"):
        await buffer.records.get("file/other")


async def test_a_patch_changes_only_what_it_names(buffer: Buffer) -> None:
    await buffer.records.put("file/one", RecordContent("good", "ma22a", RUN))
    changed = await buffer.records.patch(
        "file/one", patch(conditions={"volts": {"detector_a": None, "detector_b": 3}, "veto": None}, run=None)
    )
    assert (changed.status, changed.run, changed.rev) == ("good", None, 2)
    assert changed.conditions == {"temperature": 0.018, "volts": {"detector_b": 3}, "site": "LSM"}
    assert await ids(buffer, "volts.detector_a.0>=8") == []
    assert (await buffer.records.patch("file/one", patch(conditions=None))).conditions == {}


async def test_the_second_of_two_writers_is_refused(buffer: Buffer) -> None:
    first = await buffer.records.put("file/one", RecordContent())
    await buffer.records.put("file/one", RecordContent("noisy"), Preconditions(etag(first)))
    with pytest.raises(RecordChanged, match="its ETag is"):
        await buffer.records.put("file/one", RecordContent("good"), Preconditions(etag(first)))
    with pytest.raises(RecordChanged, match="it does not exist"):
        await buffer.records.patch("file/two", patch(status="x"), Preconditions("*"))
    assert (await buffer.records.get("file/one")).status == "noisy"


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("temperature<0.02", ["file/cold"]),
        ("temperature>=0.02", ["file/warm"]),
        ("temperature<=0.018", ["file/cold"]),
        ("temperature>1", []),
        ("volts.detector_a.0>=8", ["file/cold"]),
        ("site=LSM", ["file/cold", "file/warm"]),
        ("site!=LSM", []),
        ("veto=true", ["file/cold"]),
        ("temperature!=0.018", ["file/warm"]),
        ("volts.detector_a=8", []),
    ],
)
async def test_conditions_are_searched_by_dotted_name(buffer: Buffer, condition: str, expected: list[str]) -> None:
    await buffer.records.put("file/cold", RecordContent(conditions=RUN))
    await buffer.records.put("file/warm", RecordContent(conditions={"temperature": 0.5, "site": "LSM"}))
    assert await ids(buffer, condition) == expected
    assert await ids(buffer, condition, "volts.detector_a.1<3") == [each for each in expected if each == "file/cold"]


async def test_pages_follow_the_order_of_changes_and_repeat_nothing(buffer: Buffer) -> None:
    for number in range(5):
        await buffer.records.put(f"file/{number}", RecordContent("good" if number % 2 else "noisy", f"run{number % 2}"))
    await buffer.ingest.append(segment_body(1))
    everything = await buffer.records.find(Selection(), 0, 100)
    assert [record.seq for record in everything] == sorted({record.seq for record in everything})
    assert [record.id for record in everything][1:6] == [f"file/{number}" for number in range(5)]
    paged: list[Record] = []
    while page := await buffer.records.find(Selection(), paged[-1].seq if paged else 0, 2):
        paged += page
    assert paged == everything
    assert await ids(buffer, kind="file", status="noisy") == ["file/0", "file/2", "file/4"]
    assert await ids(buffer, run="run1") == ["file/1", "file/3"]
    await buffer.records.patch("file/0", patch(run="late"))
    assert (await ids(buffer, kind="file"))[-1] == "file/0"


async def test_a_segment_has_a_record_with_its_meta_before_anybody_writes_to_it(buffer: Buffer) -> None:
    await buffer.ingest.append(
        json.dumps({"h": [1.0], "t": [10.0, 1.0], "meta": {"channel": "L1:A", "snr": 8}}).encode()
    )
    name = (await buffer.queries.names())[0]
    [listed] = await buffer.records.find(Selection("segment"), 0, 10)
    assert (listed.id, listed.rev, listed.conditions) == (f"segment/{name}", 0, None)
    assert (await buffer.records.get(listed.id)).conditions == {"channel": "L1:A", "snr": 8}
    assert await ids(buffer, "snr=8") == [listed.id] == await ids(buffer, "channel=L1:A")
    assert (await buffer.records.patch(listed.id, patch(status="glitch"))).conditions is None
    changed = await buffer.records.patch(listed.id, patch(conditions={"channel": None, "seen": "by eye"}))
    assert (changed.status, changed.conditions) == ("glitch", {"snr": 8, "seen": "by eye"})
    assert await ids(buffer, "snr=8") == [listed.id]
    with pytest.raises(NotFound, match="there is no segment"):
        await buffer.records.put("segment/gwb1.json", RecordContent())


async def test_a_batch_shows_what_the_datastore_did_to_it(buffer: Buffer) -> None:
    await buffer.ingest.append(segment_body(1))
    record = "batch/" + (await buffer.queries.batches())[0].id
    opened = await buffer.records.get(record)
    assert (opened.last, opened.steps) == (None, [])
    await buffer.batches.freeze(FreezeOrder("alice", "secret"))
    sealed = await buffer.records.get(record)
    assert (sealed.last, sealed.rev, [step.name for step in sealed.steps]) == ("sealed", 0, ["sealed"])
    assert sealed.seq > opened.seq
    assert await ids(buffer, last="sealed") == [record]
    await buffer.records.patch(record, patch(run="O4"))
    await buffer.batches.thaw(ThawOrder("alice", "secret"))
    assert (await buffer.records.get(record)).last is None
    await buffer.batches.flush()
    archived = await buffer.records.get(record)
    assert (archived.last, archived.run, archived.rev) == ("archived", "O4", 4)
    assert [(step.name, step.state) for step in archived.steps] == [
        ("sealed", StepState.DONE),
        ("archived", StepState.DONE),
    ]


async def test_the_last_step_is_the_one_that_ended_last_also_after_a_thaw_or_a_redo(buffer: Buffer) -> None:
    await buffer.ingest.append(segment_body(1))
    record = "batch/" + (await buffer.queries.batches())[0].id

    async def last() -> str | None:
        return (await buffer.records.get(record)).last

    for step in ("look", "note"):
        await buffer.records.claim(step, StepClaim("w", kind="batch"))
        await buffer.records.end(record, step, StepEnd(1, StepState.DONE))
    await buffer.batches.freeze(FreezeOrder("alice", "secret"))
    assert await last() == "sealed"
    await buffer.batches.thaw(ThawOrder("alice", "secret"))
    assert await last() == "note"
    await buffer.batches.flush()
    await buffer.records.redo(record, "note")
    assert await last() == "archived"


@pytest.mark.parametrize(
    "record",
    ["", "file", "file/", "/x", "File/x", "file//x", "file/../x", "file/a/steps/b", "file/a\nb", "file/" + "x" * 10**6],
)
async def test_a_name_that_is_no_id_is_refused(buffer: Buffer, record: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^id: "):
        await buffer.records.put(record, RecordContent())
    assert await ids(buffer, kind="file") == []


@pytest.mark.parametrize(
    ("conditions", "error"),
    [
        ({"a": "x" * 70_000}, "conditions: 70008 bytes; the limit is 65536"),
        ({"a": list(range(1001))}, "more than 1000 values"),
        (nested(17), "nested more than 16 levels"),
    ],
)
async def test_conditions_beyond_a_limit_are_refused_and_change_nothing(
    buffer: Buffer, conditions: dict[str, Any], error: str
) -> None:
    before = await buffer.records.put("file/one", RecordContent(conditions={"a": 1}))
    with pytest.raises((InvalidRequest, TooDeep), match=error):
        await buffer.records.put("file/one", RecordContent(conditions=conditions))
    assert await buffer.records.get("file/one") == before


async def test_each_of_many_is_answered_and_a_bad_one_stops_no_other(buffer: Buffer) -> None:
    patches = [(f"file/{number}", patch(conditions={"n": number})) for number in range(300)]
    patches[7] = ("batch/none", patch(status="x"))
    patches[9] = ("file/9", patch(conditions=nested(20)))
    outcomes = await buffer.records.patch_all(patches)
    assert [number for number, each in enumerate(outcomes) if isinstance(each, ProblemError)] == [7, 9]
    assert len(await ids(buffer, kind="file", limit=1000)) == 298


async def test_records_outlive_the_loss_of_the_catalog_and_no_seq_is_given_twice(
    open_buffer: OpenBuffer, settings: BufferSettings
) -> None:
    buffer = await open_buffer()
    await buffer.ingest.append(segment_body(1))
    await buffer.records.put("file/one", RecordContent("good", "ma22a", RUN))
    await buffer.batches.flush()
    after = await buffer.records.put("file/two", RecordContent())
    await buffer.close()
    for file in settings.ADMROOT.glob("catalog.sqlite*"):
        file.unlink()
    buffer = await open_buffer()
    assert (await buffer.records.get("file/one")).conditions == RUN
    assert await ids(buffer, "temperature<0.02") == ["file/one"]
    assert (await buffer.records.put("file/three", RecordContent())).seq > after.seq
