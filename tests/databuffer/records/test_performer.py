"""The datastore's own steps: performed by the buffer itself, with the retries, fencing and redo of every step."""

import asyncio
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from databuffer.app import create_buffer
from databuffer.buffer import Buffer
from databuffer.errors import VolumeFailed
from databuffer.records import performer, records, steps
from databuffer.records.performer import Attempt, OwnStep
from databuffer.records.scan import Scan
from databuffer.settings import BufferSettings
from databuffer.storage.clock import steady_ns
from gwwire.records import Record, RecordContent, Step, StepState

pytestmark = pytest.mark.anyio
DONE, FAILED, WAITING = StepState.DONE, StepState.FAILED, StepState.WAITING


async def opened(settings: BufferSettings, perform: Callable[[Record, Attempt], Any], **values: Any) -> Buffer:
    """Open a buffer that performs the step `copy:tape` on files."""
    buffer = create_buffer(settings)
    buffer.performer.add(OwnStep("copy:tape", perform, kind="file", **values))
    await buffer.open()
    return buffer


async def step_in(buffer: Buffer, state: StepState, name: str = "a", reason: str | None = None) -> Step:
    """Return the step when it has reached a state, for this reason if one is given."""
    while True:
        change = buffer.records.next_change(Scan(()))
        step = (await buffer.records.steps_named("copy:tape")).get(f"file/{name}")
        if step and step.state is state and reason in {None, step.reason}:
            return step
        await asyncio.wait([change])


async def test_what_waits_is_performed_and_what_it_returns_is_the_result(settings: BufferSettings) -> None:
    buffer = await opened(settings, lambda record, _: {"of": record.id, "bytes": 7})
    await buffer.records.put("file/a", RecordContent())
    await buffer.records.put("other/a", RecordContent())
    step = await step_in(buffer, DONE)
    assert (step.result, step.attempt) == ({"of": "file/a", "bytes": 7}, 1)
    assert re.fullmatch(r"databuffer@\S+-\d+-[0-9a-f]{6}", step.worker)
    assert (await buffer.records.get("file/a")).last == "copy:tape"
    assert (await buffer.records.get("other/a")).steps == []
    await buffer.close()


async def test_an_error_is_the_reason_of_a_failure_that_is_retried_and_redone(
    settings: BufferSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[Exception] = [VolumeFailed("the drive is busy"), KeyError("tape")]

    def perform(_: Record, __: Attempt) -> None:
        if errors:
            raise errors.pop(0)

    monkeypatch.setattr(steps, "_FIRST_BACK_OFF", 3600 * 10**9)
    buffer = await opened(settings, perform, attempts=2)
    await buffer.records.put("file/a", RecordContent())
    again = await step_in(buffer, WAITING, reason="the drive is busy")
    assert again.expires, "a later attempt"
    await buffer.records.redo("file/a", "copy:tape")  # sooner than the pause ends
    await step_in(buffer, WAITING, reason="KeyError: 'tape'")
    await buffer.records.redo("file/a", "copy:tape")
    assert (await step_in(buffer, DONE)).attempt == 3
    await buffer.close()


async def test_the_last_attempt_and_a_result_that_is_too_large_end_in_failed(settings: BufferSettings) -> None:
    buffer = await opened(settings, lambda _, __: "x" * 70_000, attempts=1)
    await buffer.records.put("file/a", RecordContent())
    assert "the limit is 65536" in ((await step_in(buffer, FAILED)).reason or "")
    await buffer.close()


async def test_a_step_on_request_is_performed_as_often_as_it_is_requested(settings: BufferSettings) -> None:
    performed = []
    buffer = await opened(settings, lambda record, _: performed.append(record.id), on_request=True)
    for name in "ab":
        await buffer.records.put(f"file/{name}", RecordContent(status="not good"))
    assert (await buffer.records.steps()).steps == []
    for _ in range(2):
        assert (await buffer.records.request("file/b", "copy:tape")).steps[0].state is WAITING
        await step_in(buffer, DONE, "b")
    await buffer.records.redo("file/b", "copy:tape")
    await step_in(buffer, DONE, "b")
    assert performed == ["file/b"] * 3
    await buffer.close()


async def test_what_is_requested_first_is_performed_first_whatever_changes_meanwhile(settings: BufferSettings) -> None:
    performed, free = [], threading.Event()

    def perform(record: Record, _: Attempt) -> None:
        performed.append(record.id)
        free.wait()

    buffer = await opened(settings, perform, on_request=True)
    for name in "abcd":
        await buffer.records.put(f"file/{name}", RecordContent())
    for name in "dbac":
        await buffer.records.request(f"file/{name}", "copy:tape")
    await buffer.records.put("file/b", RecordContent(status="changed"))
    [step] = (await buffer.records.steps()).steps
    assert step.waiting + step.running == 4
    assert step.oldest == pytest.approx(time.time(), abs=60)
    assert (await buffer.records.get("file/b")).steps[0].expires is None
    free.set()
    await step_in(buffer, DONE, "c")
    assert performed == [f"file/{name}" for name in "dbac"]
    await buffer.close()


async def test_a_request_waits_for_no_clock_that_was_set_back(
    settings: BufferSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(records, "steady_ns", lambda: steady_ns() + 3600 * 10**9)
        buffer = await opened(settings, print, on_request=True, at_once=0)
        await buffer.records.put("file/a", RecordContent())
        await buffer.records.request("file/a", "copy:tape")
        await buffer.close()
    buffer = await opened(settings, lambda *_: None, on_request=True)
    await step_in(buffer, DONE, "a")
    await buffer.close()


async def test_an_attempt_reports_its_progress_and_stops_when_the_step_is_redone(
    settings: BufferSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(performer, "_RENEWAL_SECONDS", 0.02)
    begun = threading.Event()

    def perform(record: Record, attempt: Attempt) -> str:
        if record.steps[-1].attempt > 1:
            return "again"
        while True:
            attempt.report("42%")
            begun.set()

    buffer = await opened(settings, perform)
    await buffer.records.put("file/a", RecordContent())
    await asyncio.to_thread(begun.wait)
    running = buffer.performer.attempt("copy:tape", "file/a")
    assert running
    assert running.progress == "42%"
    await buffer.records.redo("file/a", "copy:tape")
    assert (await step_in(buffer, DONE)).result == "again"
    while buffer.performer.attempt("copy:tape", "file/a"):  # noqa: ASYNC110 (it ends after its end is stored)
        await asyncio.sleep(0)
    await buffer.close()


async def test_a_clean_stop_gives_the_records_back_and_several_are_performed_at_once(settings: BufferSettings) -> None:
    both = threading.Barrier(3)

    def perform(_: Record, attempt: Attempt) -> None:
        both.wait(60)
        while True:
            attempt.check()

    buffer = await opened(settings, perform, at_once=2)
    await buffer.records.put("file/a", RecordContent())
    await buffer.records.put("file/b", RecordContent())
    await asyncio.to_thread(both.wait, 60)
    await buffer.close()
    buffer = await opened(settings, lambda _, __: "now")
    for name in "ab":
        step = await step_in(buffer, DONE, name)
        assert (step.result, step.attempt, step.reason) == ("now", 2, None)
    await buffer.close()
