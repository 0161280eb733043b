"""Steps: claimed, renewed, ended, failed, done again, by workers of which some disappear."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from databuffer.buffer import Buffer
from databuffer.errors import NotFound, StepRunning, StepSuperseded
from databuffer.records import scan, steps, table
from databuffer.records.backlog import Backlog, declaration_of
from databuffer.records.declaration import Declaration
from databuffer.records.overview import overview
from databuffer.records.selection import Selection
from databuffer.storage.catalog import Catalog, Database
from databuffer.storage.clock import steady_ns
from gwwire.datastore import FreezeOrder
from gwwire.decoding import InvalidRequest
from gwwire.public import ThawOrder
from gwwire.query import Comparison, Query
from gwwire.records import RecordContent, RecordPatch, Step, StepClaim, StepEnd, StepOverview, StepState
from tests.support.segments import segment_body

pytestmark = pytest.mark.anyio

OpenBuffer = Callable[[], Awaitable[Buffer]]
SECOND = 10**9
DONE, FAILED, RUNNING, WAITING = StepState.DONE, StepState.FAILED, StepState.RUNNING, StepState.WAITING


def order(*after: str, **values: Any) -> StepClaim:
    return StepClaim(**{"worker": "w", "kind": "file", "after": list(after), **values})


async def make(buffer: Buffer, *names: str, **content: Any) -> None:
    for name in names:
        await buffer.records.put(f"file/{name}", RecordContent(**content))


async def claimed(buffer: Buffer, step: str, *after: str, **values: Any) -> list[str]:
    found = await buffer.records.claim(step, order(*after, **values))
    return [record.id.removeprefix("file/") for record in found]


async def do(buffer: Buffer, step: str, *after: str, **values: Any) -> list[str]:
    """Perform a step on every record that waits for it."""
    performed = []
    for record in await buffer.records.claim(step, order(*after, limit=100, **values)):
        attempt = next(each.attempt for each in record.steps if each.name == step)
        await buffer.records.end(record.id, step, StepEnd(attempt, DONE, {"by": step}))
        performed.append(record.id.removeprefix("file/"))
    return performed


async def step_of(buffer: Buffer, name: str, step: str) -> Step:
    return next(each for each in (await buffer.records.get(f"file/{name}")).steps if each.name == step)


async def overview_of(buffer: Buffer, step: str) -> StepOverview:
    return next(each for each in (await buffer.records.steps()).steps if each.name == step)


# ---- what waits


async def test_what_was_there_before_the_listener_waits_for_it_and_is_done_once(buffer: Buffer) -> None:
    await make(buffer, "a", "b", "c")
    assert await claimed(buffer, "copy") == ["a"]
    assert await claimed(buffer, "copy", limit=5) == ["b", "c"]
    assert await claimed(buffer, "copy") == []
    await make(buffer, "d")
    assert await claimed(buffer, "copy") == ["d"]


async def test_steps_follow_each_other_and_several_may_follow_one(buffer: Buffer) -> None:
    await make(buffer, "a", "b")
    assert await do(buffer, "filter", "copy") == []
    assert await do(buffer, "copy") == ["a", "b"]
    assert await do(buffer, "filter", "copy") == ["a", "b"]
    assert await claimed(buffer, "merge", "filter", "veto") == []
    assert await do(buffer, "veto", "copy") == ["a", "b"]
    assert await do(buffer, "merge", "filter", "veto") == ["a", "b"]
    done = await buffer.records.get("file/a")
    assert (done.last, [step.name for step in done.steps]) == ("merge", ["copy", "filter", "veto", "merge"])
    assert (await step_of(buffer, "a", "merge")).after == ["filter", "veto"]
    assert (await step_of(buffer, "a", "merge")).result == {"by": "merge"}


async def test_a_step_may_have_to_come_before_another(buffer: Buffer) -> None:
    await make(buffer, "a", "b")
    assert await claimed(buffer, "copy", before=["remove"]) == ["a"]
    assert sorted(await do(buffer, "remove")) == ["a", "b"]
    assert await claimed(buffer, "copy", before=["remove"]) == []
    assert (await overview_of(buffer, "copy")).waiting == 0
    await buffer.records.redo("file/b", "remove")
    assert await claimed(buffer, "copy", before=["remove"]) == ["b"]


async def test_a_batch_that_is_archived_is_not_offered_before_the_archiving(buffer: Buffer) -> None:
    for number in range(2):
        await buffer.ingest.append(segment_body(number))
        batch = (await buffer.batches.freeze(FreezeOrder("alice", "secret"))).batch
        if not number:
            await buffer.batches.flush()
    wanted = order("sealed", kind="batch", before=["archived"], limit=9)
    assert [record.id for record in await buffer.records.claim("copy", wanted)] == [f"batch/{batch}"]


async def test_a_failure_without_a_retry_is_final(buffer: Buffer) -> None:
    await make(buffer, "a")
    assert await claimed(buffer, "copy") == ["a"]
    await buffer.records.end("file/a", "copy", StepEnd(1, FAILED, reason="no strain", retry=False))
    assert (await step_of(buffer, "a", "copy")).state is FAILED


async def test_a_record_that_is_not_good_leaves_every_backlog_until_it_is_good_again(buffer: Buffer) -> None:
    await make(buffer, "a", "b")
    await do(buffer, "copy")
    await buffer.records.patch("file/a", RecordPatch(status="detector was warm"))
    assert await claimed(buffer, "filter", "copy", limit=9) == ["b"]
    await buffer.records.patch("file/a", RecordPatch(status="good"))
    assert await claimed(buffer, "filter", "copy", limit=9) == ["a"]


async def test_a_query_and_a_seq_limit_what_is_offered(buffer: Buffer) -> None:
    await make(buffer, "cold", conditions={"t": 0.01})
    await make(buffer, "warm", conditions={"t": 4.2})
    cold = Query(conditions={"t": Comparison(lt=1)})
    seq = (await buffer.records.get("file/cold")).seq
    assert await claimed(buffer, "late", since=seq, limit=9) == ["warm"]
    assert await claimed(buffer, "cool", query=cold, limit=9) == ["cold"]
    await buffer.records.patch("file/warm", RecordPatch(conditions={"t": 0.02}))
    assert await claimed(buffer, "cool", query=cold, limit=9) == ["warm"]


async def test_a_step_declared_anew_looks_at_everything_again(buffer: Buffer) -> None:
    await make(buffer, "a", run="one")
    await make(buffer, "b", run="two")
    assert await claimed(buffer, "copy", query=Query(run="three")) == []
    assert await claimed(buffer, "copy", query=Query(run="two")) == ["b"]
    assert await claimed(buffer, "copy", limit=9) == ["a"]


async def test_a_long_stretch_that_does_not_match_hides_nothing_behind_it(
    buffer: Buffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "_SEQS", 50)
    await buffer.records.patch_all([(f"file/{number}", RecordPatch(status="noisy")) for number in range(300)])
    await make(buffer, "good")
    assert await claimed(buffer, "copy", limit=9) == ["good"]
    await buffer.records.patch("file/17", RecordPatch(status="good"))
    assert await claimed(buffer, "copy", limit=9) == ["17"]


@pytest.mark.parametrize(("step", "after"), [("a", "a"), ("a", "c")])
async def test_a_step_that_would_wait_for_itself_is_refused(buffer: Buffer, step: str, after: str) -> None:
    await claimed(buffer, "b", "a")
    await claimed(buffer, "c", "b")
    with pytest.raises(InvalidRequest, match="would wait for itself"):
        await claimed(buffer, step, after)
    assert "a" not in [each.name for each in (await buffer.records.steps()).steps]


@pytest.mark.parametrize(
    ("step", "after", "before"),
    [("a", ["b"], ["b"]), ("a", [], ["a"]), ("a", ["c"], ["b"]), ("b", ["a"], ["a"]), ("d", ["c"], ["a"])],
)
async def test_a_step_that_would_have_to_come_before_itself_is_refused(
    buffer: Buffer, step: str, after: list[str], before: list[str]
) -> None:
    await claimed(buffer, "c", "b")
    await claimed(buffer, "b", "a")
    with pytest.raises(InvalidRequest, match="would wait for itself"):
        await claimed(buffer, step, *after, before=before)
    assert await claimed(buffer, "d", "b", before=["c"]) == [], "b comes before d, and d before c"


async def test_segments_and_batches_wait_before_anybody_wrote_to_them(buffer: Buffer) -> None:
    await buffer.ingest.append(segment_body(1))
    [name] = await buffer.queries.names()
    batch = "batch/" + (await buffer.queries.batches())[0].id
    assert await claimed(buffer, "look", kind="segment", limit=9) == [f"segment/{name}"]
    spectrograms = order("sealed", kind="batch")
    assert await buffer.records.claim("spectrograms", spectrograms) == []
    await buffer.batches.freeze(FreezeOrder("alice", "secret"))
    [record] = await buffer.records.claim("spectrograms", spectrograms)
    assert (record.id, [step.state for step in record.steps]) == (batch, [DONE, RUNNING])
    await buffer.records.end(batch, "spectrograms", StepEnd(1, DONE))
    # Thawed, the batch is another one: what was made of it is made again.
    await buffer.batches.thaw(ThawOrder("alice", "secret"))
    assert (await buffer.records.get(batch)).last is None
    assert await buffer.records.claim("spectrograms", spectrograms) == []
    await buffer.batches.freeze(FreezeOrder("alice", "secret"))
    [record] = await buffer.records.claim("spectrograms", spectrograms)
    assert (record.id, record.steps[-1].attempt) == (batch, 2)


async def test_one_claim_leases_records_with_and_without_a_row(buffer: Buffer) -> None:
    for number in range(3):
        await buffer.ingest.append(segment_body(number))
    first, second, third = [f"segment/{name}" for name in await buffer.queries.names()]
    await buffer.records.patch(second, RecordPatch(run="O4"))
    found = await buffer.records.claim("look", order(kind="segment", limit=9))
    assert sorted((record.id, record.rev, record.run) for record in found) == [
        (first, 1, None),
        (second, 2, "O4"),
        (third, 1, None),
    ]
    seqs = [record.seq for record in found]
    assert len(set(seqs)) == 3
    assert {step.state for record in found for step in record.steps} == {RUNNING}
    assert [record.id for record in await buffer.records.find(Selection("segment"), min(seqs) - 1, 9)] == [
        record.id for record in sorted(found, key=lambda record: record.seq)
    ]


async def test_a_claim_whose_transaction_fails_leases_nothing_and_hides_nothing(
    buffer: Buffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make(buffer, "a", "b", "c")
    assert await claimed(buffer, "copy") == ["a"]

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as failing:
        failing.setattr(steps, "in_order", fail)
        with pytest.raises(ZeroDivisionError):
            await claimed(buffer, "copy")
    assert await claimed(buffer, "copy", limit=9) == ["b", "c"]


# ---- who works


async def test_equal_workers_never_get_the_same_record(buffer: Buffer) -> None:
    await buffer.records.patch_all([(f"file/{number}", RecordPatch()) for number in range(60)])
    seen: list[str] = []

    async def work(name: str) -> None:
        while found := await claimed(buffer, "copy", worker=name, limit=2):
            seen.extend(found)

    await asyncio.gather(*(work(f"w{number}") for number in range(8)))
    assert sorted(seen) == sorted(map(str, range(60)))


async def test_a_worker_that_was_replaced_gets_an_error(buffer: Buffer) -> None:
    await make(buffer, "a")
    await buffer.records.claim("copy", order(worker="slow", lease=1))
    [again] = await buffer.records.claim("copy", order(worker="fast", wait=60))
    assert (again.steps[0].worker, again.steps[0].attempt) == ("fast", 2)
    for state in (RUNNING, DONE, FAILED, WAITING):
        with pytest.raises(StepSuperseded, match="attempt 1 of step 'copy' ended; the last one is 2"):
            await buffer.records.end("file/a", "copy", StepEnd(1, state))
    await buffer.records.end("file/a", "copy", StepEnd(2, DONE))


async def test_a_renewal_keeps_the_record_and_is_no_change_of_it(buffer: Buffer) -> None:
    await make(buffer, "a")
    [record] = await buffer.records.claim("copy", order(lease=1))
    renewed = await buffer.records.end("file/a", "copy", StepEnd(1, RUNNING, lease=1000))
    assert (renewed.seq, renewed.rev) == (record.seq, record.rev)
    assert (renewed.steps[0].expires or 0) > time.time() + 900
    await asyncio.sleep(1.1)
    assert await claimed(buffer, "copy") == []


async def test_an_end_that_is_sent_again_changes_nothing(buffer: Buffer) -> None:
    await make(buffer, "a", "b")
    await claimed(buffer, "copy", limit=2)
    first = await buffer.records.end("file/a", "copy", StepEnd(1, DONE, 5))
    assert await buffer.records.end("file/a", "copy", StepEnd(1, DONE, 5)) == first
    failed = await buffer.records.end("file/b", "copy", StepEnd(1, FAILED, reason="disk"))
    assert await buffer.records.end("file/b", "copy", StepEnd(1, FAILED, reason="disk")) == failed
    with pytest.raises(StepSuperseded, match="ended: it is DONE"):
        await buffer.records.end("file/a", "copy", StepEnd(1, FAILED))
    with pytest.raises(NotFound, match="never claimed"):
        await buffer.records.end("file/a", "other", StepEnd(1, DONE))


async def test_a_record_that_is_given_back_waits_at_once(buffer: Buffer) -> None:
    await make(buffer, "a")
    for attempt in (1, 2, 3, 4, 5, 6, 7):
        assert await claimed(buffer, "copy") == ["a"]
        await buffer.records.end("file/a", "copy", StepEnd(attempt, WAITING))
    assert (await overview_of(buffer, "copy")).waiting == 1


async def test_a_waiting_claim_is_answered_when_something_arrives(buffer: Buffer) -> None:
    waiting = asyncio.create_task(claimed(buffer, "copy", wait=60))
    on_segments = asyncio.create_task(claimed(buffer, "look", kind="segment", wait=60))
    await asyncio.sleep(0.2)
    began = time.monotonic()
    await make(buffer, "a")
    assert await waiting == ["a"]
    assert not on_segments.done()
    await buffer.ingest.append(segment_body(1))
    assert len(await on_segments) == 1
    assert time.monotonic() - began < 55  # they wait for 60
    assert await claimed(buffer, "copy", wait=0.2) == []


async def test_nothing_is_leased_to_a_caller_that_left(buffer: Buffer) -> None:
    async def gone() -> bool:
        return True

    await make(buffer, "a")
    assert await buffer.records.claim("copy", order(), gone) == []
    assert await claimed(buffer, "copy") == ["a"]


# ---- removed


async def test_a_removed_step_is_gone_until_it_is_claimed_again_and_its_work_stays(buffer: Buffer) -> None:
    await make(buffer, "a", "b")
    assert await claimed(buffer, "copy") == ["a"]
    await buffer.records.end("file/a", "copy", StepEnd(1, DONE))
    await claimed(buffer, "filter", "copy", attempts=1)
    await buffer.records.end("file/a", "filter", StepEnd(1, FAILED, reason="broken"))
    assert [step.name for step in (await buffer.records.forget("filter")).steps] == ["copy"]
    assert (await step_of(buffer, "a", "filter")).reason == "broken"
    await buffer.records.forget("copy")
    with pytest.raises(NotFound, match="there is no step 'copy'"):
        await buffer.records.forget("copy")
    assert await claimed(buffer, "copy") == ["b"], "a is done"


async def test_a_step_is_removed_only_when_no_worker_has_a_lease(
    open_buffer: OpenBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = await open_buffer()
    await make(buffer, "a")
    await claimed(buffer, "copy", lease=10)
    with pytest.raises(StepRunning, match="worker 'w' performs step 'copy' on record 'file/a'"):
        await buffer.records.forget("copy")
    now = steady_ns()
    monkeypatch.setattr("databuffer.records.records.steady_ns", lambda: now + 11 * SECOND)
    await buffer.records.forget("copy")
    with pytest.raises(StepSuperseded):
        await buffer.records.end("file/a", "copy", StepEnd(1, FAILED, reason="late"))
    assert await claimed(buffer, "copy") == ["a"]


# ---- done again


async def test_redo_opens_a_step_and_exactly_those_that_depend_on_it(buffer: Buffer) -> None:
    await make(buffer, "a")
    for step, after in (("copy", []), ("filter", ["copy"]), ("veto", ["copy"]), ("merge", ["filter", "veto"])):
        await do(buffer, step, *after)
    redone = await buffer.records.redo("file/a", "filter")
    assert {step.name: step.state for step in redone.steps} == {
        "copy": DONE,
        "veto": DONE,
        "filter": WAITING,
        "merge": WAITING,
    }
    assert redone.last == "veto"
    assert await do(buffer, "merge", "filter", "veto") == []
    assert await do(buffer, "filter", "copy") == ["a"]
    assert await do(buffer, "merge", "filter", "veto") == ["a"]
    assert await do(buffer, "copy") == await do(buffer, "veto", "copy") == []
    with pytest.raises(NotFound, match="never claimed"):
        await buffer.records.redo("file/a", "other")


async def test_a_redo_ends_the_attempt_that_is_running(buffer: Buffer) -> None:
    await make(buffer, "a")
    await claimed(buffer, "copy")
    await buffer.records.redo("file/a", "copy")
    with pytest.raises(StepSuperseded, match="ended: it is WAITING"):
        await buffer.records.end("file/a", "copy", StepEnd(1, DONE))
    assert await claimed(buffer, "copy") == ["a"]
    with pytest.raises(StepSuperseded, match="the last one is 2"):
        await buffer.records.end("file/a", "copy", StepEnd(1, DONE))


async def test_steps_and_their_leases_outlive_a_restart(open_buffer: OpenBuffer) -> None:
    buffer = await open_buffer()
    await make(buffer, "a", "b", "c")
    await claimed(buffer, "copy", limit=2)
    await buffer.records.end("file/a", "copy", StepEnd(1, DONE))
    await buffer.close()
    buffer = await open_buffer()
    seen = await overview_of(buffer, "copy")
    assert (seen.waiting, seen.running, seen.done, seen.failed, seen.workers) == (1, 1, 1, 0, ["w"])
    assert seen.oldest
    assert await claimed(buffer, "copy", limit=9) == ["c"]
    await buffer.records.end("file/b", "copy", StepEnd(1, DONE))


# ---- failures, by a clock of their own


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sa.Connection]:
    catalog = Catalog(Database(tmp_path / "catalog.sqlite"), tmp_path / ".ledger")
    catalog.open()
    with catalog.database.writing_synced() as connection:
        table.write(connection, "file/a", lambda _: ("good", None, {}), 0)
        yield connection
    catalog.close()


def claim(connection: sa.Connection, now: float, **values: Any) -> list[Step]:
    wanted = order(**values)
    backlog = Backlog("copy", steps.declare(connection, "copy", wanted))
    found, _ = steps.claim(connection, wanted, backlog, int(now * SECOND))
    return [step for record in found for step in record.steps]


def only_step(connection: sa.Connection) -> Step:
    return table.load(connection, ["file/a"])["file/a"].steps[0]


def test_a_failure_is_tried_again_later_and_later_and_then_given_up(connection: sa.Connection) -> None:
    now = 1000
    for attempt, pause in enumerate((5, 10, 20, 40), start=1):
        assert [step.attempt for step in claim(connection, now)] == [attempt]
        order_ = StepEnd(attempt, FAILED, reason=f"error {attempt}")
        steps.end(connection, "file/a", "copy", order_, now * SECOND)
        assert (only_step(connection).state, only_step(connection).reason) == (WAITING, f"error {attempt}")
        assert claim(connection, now + pause - 1) == []
        now += pause
    assert claim(connection, now)
    steps.end(connection, "file/a", "copy", StepEnd(5, FAILED, reason="the end"), now * SECOND)
    assert (only_step(connection).state, only_step(connection).reason) == (FAILED, "the end")
    assert claim(connection, now + 10**6) == []
    steps.redo(connection, "file/a", "copy", now * SECOND)
    assert [step.attempt for step in claim(connection, now)] == [6]


def seen_at(connection: sa.Connection, now: float) -> StepOverview:
    [found] = overview(connection, Backlog, int(now * SECOND)).steps
    return found


def test_a_step_that_fails_waits_since_its_first_attempt_also_while_it_is_tried_again(
    connection: sa.Connection,
) -> None:
    claim(connection, 1000)
    assert seen_at(connection, 1001).oldest is None
    steps.end(connection, "file/a", "copy", StepEnd(1, FAILED), 1002 * SECOND)
    assert seen_at(connection, 1003).oldest == 1000
    claim(connection, 1010)
    assert seen_at(connection, 1011).oldest == 1000
    steps.end(connection, "file/a", "copy", StepEnd(2, WAITING), 1012 * SECOND)
    assert seen_at(connection, 1013).oldest == 1000
    claim(connection, 1014)
    steps.end(connection, "file/a", "copy", StepEnd(3, DONE), 1015 * SECOND)
    steps.redo(connection, "file/a", "copy", 1016 * SECOND)
    assert seen_at(connection, 1017).oldest == 1016


def test_a_step_on_request_waits_since_its_first_request_until_it_is_done(connection: sa.Connection) -> None:
    declared = Declaration("w", kind="file", attempts=2, on_request=True)

    def attempt(now: int, number: int, outcome: StepState) -> None:
        backlog = Backlog("copy", steps.declare(connection, "copy", declared))
        assert steps.claim(connection, declared, backlog, now * SECOND)[0]
        steps.end(connection, "file/a", "copy", StepEnd(number, outcome), (now + 1) * SECOND)

    steps.request(connection, "file/a", "copy", 1000 * SECOND)
    attempt(1010, 1, FAILED)
    assert seen_at(connection, 1012).oldest == 1000
    attempt(1020, 2, FAILED)
    assert seen_at(connection, 1022).oldest is None
    steps.request(connection, "file/a", "copy", 5000 * SECOND)
    assert seen_at(connection, 5001).oldest == 1000
    attempt(5010, 3, DONE)
    steps.request(connection, "file/a", "copy", 6000 * SECOND)
    assert seen_at(connection, 6001).oldest == 6000


def test_the_overview_has_what_was_done_in_the_last_hour_and_the_newest_failures(connection: sa.Connection) -> None:
    for number in range(30):
        table.write(connection, f"file/{number:02}", lambda _: ("good", None, {}), 0)
    for number in range(31):  # the first is file/a
        assert claim(connection, number, attempts=1)
        record = f"file/{number - 1:02}" if number else "file/a"
        outcome = StepEnd(1, FAILED, reason=f"{number:0600}") if number > 5 else StepEnd(1, DONE)
        steps.end(connection, record, "copy", outcome, number * SECOND)
    seen = seen_at(connection, 31)
    assert (seen.done, seen.throughput, seen.failed, len(seen.failures)) == (6, 6, 25, 20)
    assert [each.record for each in seen.failures] == [f"file/{number:02}" for number in range(29, 9, -1)]
    assert (seen.failures[0].attempt, seen.failures[0].ended) == (1, 30)
    assert seen.failures[0].reason == "… " + "30".rjust(500, "0")
    assert seen_at(connection, 3600 + 2.5).throughput == 3


def test_workers_that_disappear_count_as_failures(connection: sa.Connection) -> None:
    assert claim(connection, 0, attempts=2, lease=10)
    assert claim(connection, 9, attempts=2) == []
    assert [step.attempt for step in claim(connection, 10, attempts=2, lease=10)] == [2]
    assert claim(connection, 20, attempts=2) == []
    assert (only_step(connection).state, only_step(connection).reason) == (
        FAILED,
        "the lease of w ended before the step did",
    )


def test_a_failure_of_a_record_that_is_not_good_waits_until_it_is(connection: sa.Connection) -> None:
    claim(connection, 0)
    steps.end(connection, "file/a", "copy", StepEnd(1, FAILED), 0)
    table.write(connection, "file/a", lambda _: ("noisy", None, {}), 0)
    assert claim(connection, 100) == []
    table.write(connection, "file/a", lambda _: ("good", None, {}), 0)
    assert [step.attempt for step in claim(connection, 100)] == [2]


def test_a_lease_that_a_wrong_clock_made_too_long_has_ended(connection: sa.Connection) -> None:
    claim(connection, 10**9, lease=86_400)
    assert claim(connection, 10**9 + 86_399) == []
    assert [step.attempt for step in claim(connection, 1000)] == [2]


def test_the_declaration_of_a_claim_is_what_other_workers_share() -> None:
    one, two = order("x", worker="one", lease=5, wait=3, limit=7), order("x", worker="two")
    assert declaration_of(one) == declaration_of(two) != declaration_of(order("y"))
    assert Selection() == Selection(None)
