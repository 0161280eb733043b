import time
from collections.abc import Awaitable, Callable

import pytest
from prometheus_client import REGISTRY
from prometheus_client.core import Metric

from databuffer.buffer import Buffer
from databuffer.metrics import count_failure, gauges, step_gauges
from databuffer.records import records
from databuffer.records.declaration import Declaration
from databuffer.settings import BufferSettings
from databuffer.storage.clock import steady_ns
from gwwire.datastore import FreezeOrder
from gwwire.problems import ProblemError
from gwwire.records import RecordContent, StepClaim, StepEnd, StepOverview, StepState
from gwwire.segment import decode_segment
from tests.support.segments import segment_body

pytestmark = pytest.mark.anyio

ALICE = FreezeOrder("alice", "secret")


def counted(metric: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(metric, labels) or 0


class Growth:
    """The growth of counters since this was created."""

    def __init__(self, *names: str) -> None:
        self._before = {name: counted(name) for name in names}

    def __getitem__(self, name: str) -> float:
        return counted(name) - self._before[name]


async def told(buffer: Buffer) -> dict[str, Metric]:
    return {metric.name: metric for metric in gauges(await buffer.queries.overview())}


def value(metric: Metric, *labels: str) -> float:
    (sample,) = (sample for sample in metric.samples if tuple(sample.labels.values()) == labels)
    return sample.value


async def test_stored_segments_are_counted_with_bytes_groups_and_syncs(buffer: Buffer) -> None:
    growth = Growth(
        "glitchflow_stored_segments_total", "glitchflow_stored_bytes_total", "glitchflow_commit_group_segments_sum"
    )
    synced = counted("glitchflow_fsync_duration_seconds_count", what="segment")
    for number in range(5):
        await buffer.ingest.append(segment_body(number))
    assert growth["glitchflow_stored_segments_total"] == growth["glitchflow_commit_group_segments_sum"] == 5
    assert growth["glitchflow_stored_bytes_total"] == buffer.queries.stats.buff_size
    assert counted("glitchflow_fsync_duration_seconds_count", what="segment") - synced == 5


@pytest.mark.parametrize(("body", "code"), [(b"{}", "invalid-segment"), (b"{", "invalid-json")])
async def test_refused_segments_are_counted_by_problem(buffer: Buffer, body: bytes, code: str) -> None:
    before = counted("glitchflow_refused_segments_total", code=code)
    stored = Growth("glitchflow_stored_segments_total")
    with pytest.raises(ProblemError):
        await buffer.ingest.append(body)
    assert counted("glitchflow_refused_segments_total", code=code) - before == 1
    assert stored["glitchflow_stored_segments_total"] == 0


async def test_a_segment_that_meets_a_frozen_batch_is_counted_as_refused(buffer: Buffer) -> None:
    await buffer.ingest.append(segment_body(1))
    await buffer.batches.freeze(ALICE)
    before = counted("glitchflow_refused_segments_total", code="buffer-frozen")
    with pytest.raises(ProblemError):
        await buffer.ingest.append(segment_body(2))
    assert counted("glitchflow_refused_segments_total", code="buffer-frozen") - before == 1


async def test_state_and_frozen_time_are_exported(buffer: Buffer) -> None:
    await buffer.ingest.append(segment_body(1))
    before = await told(buffer)
    assert value(before["glitchflow_state"], "OPERATIONAL") == 1
    assert value(before["glitchflow_state"], "FROZEN") == 0
    assert value(before["glitchflow_frozen_seconds"]) == 0
    await buffer.batches.freeze(ALICE)
    after = await told(buffer)
    assert value(after["glitchflow_state"], "OPERATIONAL") == 0
    assert value(after["glitchflow_state"], "FROZEN") == 1
    assert 0 < value(after["glitchflow_frozen_seconds"]) < 60
    assert value(after["glitchflow_batch_segments"], "hand") == 1
    assert value(after["glitchflow_batch_bytes"], "hand") == buffer.queries.stats.buff_size
    assert value(after["glitchflow_ready"]) == 1
    assert 0 < value(after["glitchflow_volume_free_bytes"]) <= value(after["glitchflow_volume_size_bytes"])


async def test_the_lag_of_a_channel_is_how_old_its_newest_sample_is(buffer: Buffer) -> None:
    now_gps = time.time() - 315_964_800 + 18
    body = segment_body(int(now_gps) - 100)
    segment = decode_segment(body)
    await buffer.ingest.append(body)
    lag = value((await told(buffer))["glitchflow_channel_lag_seconds"], segment.channel or "")
    age = time.time() - 315_964_800 + 18 - segment.t0
    assert lag == pytest.approx(age, abs=len(segment.h) * segment.dt + 5)


async def test_the_lag_is_exported_for_the_last_64_of_many_channels(buffer: Buffer) -> None:
    for number in range(70):
        body = b'{"h":[1.0],"t":[%d,1.0],"meta":{"channel":"L1:CHANNEL-%02d"}}' % (number, number)
        await buffer.ingest.append(body)
    told_of = {sample.labels["channel"] for sample in (await told(buffer))["glitchflow_channel_lag_seconds"].samples}
    assert told_of == {f"L1:CHANNEL-{number:02}" for number in range(6, 70)}


async def test_a_repair_at_the_start_is_counted(
    settings: BufferSettings, open_buffer: Callable[[], Awaitable[Buffer]]
) -> None:
    growth = Growth("glitchflow_recoveries_total", "glitchflow_recovery_repairs_total")
    settings.DATAROOT.mkdir(parents=True)
    (settings.DATAROOT / "gwb1.json").write_text("{ no segment")
    buffer = await open_buffer()
    assert growth["glitchflow_recoveries_total"] == 1
    assert growth["glitchflow_recovery_repairs_total"] >= 1
    assert value((await told(buffer))["glitchflow_quarantined_files"]) == 1


async def test_the_steps_are_counted_by_state_and_their_attempts_and_failures(
    buffer: Buffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_COUNT_AGAIN", 0)  # else the second count may be the first one

    async def told() -> tuple[dict[str, float], float]:
        metrics = {metric.name: metric for metric in step_gauges((await buffer.records.steps()).steps, time.time())}
        samples = metrics["glitchflow_steps"].samples
        states = {sample.labels["state"]: sample.value for sample in samples if sample.labels["name"] == "counted"}
        return states, value(metrics["glitchflow_step_oldest_waiting_seconds"], "counted")

    growth = counted("glitchflow_step_attempts_total", name="counted")
    for name in "abcd":
        await buffer.records.put(f"file/{name}", RecordContent())
    before = time.time()
    claim = StepClaim("w", kind="file", attempts=1, limit=3)
    first, second, third = await buffer.records.claim("counted", claim)
    await buffer.records.end(first.id, "counted", StepEnd(1, StepState.DONE))
    await buffer.records.end(second.id, "counted", StepEnd(1, StepState.FAILED, reason="broken"))
    states, age = await told()
    assert states == {"waiting": 1, "running": 1, "failed": 1, "done": 1}
    assert 0 < age < time.time() - before + 1
    assert counted("glitchflow_step_attempts_total", name="counted") - growth == 3
    assert counted("glitchflow_step_failures_total", name="counted") == 1
    [fourth] = await buffer.records.claim("counted", claim)
    assert (await told())[1] == 0
    await buffer.records.end(fourth.id, "counted", StepEnd(1, StepState.WAITING))
    await buffer.records.end(third.id, "counted", StepEnd(1, StepState.WAITING))
    await buffer.records.forget("counted")
    series = {
        sample.labels["name"]
        for each in step_gauges((await buffer.records.steps()).steps, 0)
        for sample in each.samples
    }
    assert "counted" not in series
    assert REGISTRY.get_sample_value("glitchflow_step_attempts_total", {"name": "counted"}) is None
    assert REGISTRY.get_sample_value("glitchflow_step_failures_total", {"name": "counted"}) is None


async def test_a_recall_that_keeps_failing_is_as_old_as_its_first_request(
    buffer: Buffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_COUNT_AGAIN", 0)
    later = 0
    monkeypatch.setattr(records, "steady_ns", lambda: steady_ns() + later * 10**9)
    order = Declaration("w", kind="file", attempts=50, on_request=True)
    await buffer.records.take_over("recall", order)
    await buffer.records.put("file/a", RecordContent())
    await buffer.records.request("file/a", "recall")
    for attempt in range(1, 10):
        later += 3600
        assert await buffer.records.claim("recall", order)
        await buffer.records.end("file/a", "recall", StepEnd(attempt, StepState.FAILED, reason="no drive"))
    metrics = {each.name: each for each in step_gauges((await buffer.records.steps()).steps, time.time() + later)}
    age = value(metrics["glitchflow_step_oldest_waiting_seconds"], "recall")
    assert age == pytest.approx(9 * 3600, abs=600)


async def test_names_of_steps_make_a_bounded_number_of_series() -> None:
    many = [StepOverview(f"s{n:03}", [], None, 0, 0, 0, 0, None, []) for n in range(100)]
    own = StepOverview("verify", [], "batch", 3, 0, 0, 0, None, [])
    steps, ages = step_gauges([*many, own], 0)
    assert len(steps.samples) == 4 * 64
    assert len(ages.samples) == 64
    assert value(steps, "verify", "waiting") == 3
    for step in many:
        count_failure(step.name)
    assert counted("glitchflow_step_failures_total", name="other") >= 100 - 64


async def test_counts_that_cost_much_are_returned_again(buffer: Buffer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "_LONG_COUNT_SECONDS", 0)
    monkeypatch.setattr(records, "_COUNT_AGAIN", 10**6)
    before = await buffer.records.steps()
    await buffer.records.claim("counted-later", StepClaim("w", kind="file"))
    assert await buffer.records.steps() == before
