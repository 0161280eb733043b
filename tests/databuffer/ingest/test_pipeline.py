"""The queue between the event loop, the staging thread and the commit thread."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence

import pytest

from databuffer.errors import QueueFull
from databuffer.ingest import pipeline
from databuffer.ingest.incoming import Incoming
from databuffer.ingest.pipeline import Ingest

pytestmark = pytest.mark.anyio

CAPACITY = 100


class Recorder:
    """Stages and stores nothing, and records the order of the calls; a group takes as long as the test requires."""

    def __init__(self) -> None:
        self.done: list[list[bytes] | str] = []
        self.may_stage = threading.Event()
        self.may_store = threading.Event()
        self.storing = threading.Event()
        self.may_stage.set()
        self.may_store.set()

    def stage(self, incoming: Incoming) -> None:
        self.may_stage.wait()
        if incoming.body == b"broken":
            raise TypeError("no such thing")

    def store(self, group: Sequence[Incoming]) -> None:
        self.storing.set()
        self.may_store.wait()
        self.done.append([each.body for each in group])
        for each in group:
            if each.error is None:
                each.store_as("name", len(each.body))

    def step(self) -> str:
        self.done.append("step")
        return "performed"


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def ingest(recorder: Recorder) -> AsyncIterator[Ingest]:
    ingest = Ingest(recorder.stage, recorder.store, CAPACITY)
    ingest.start()
    yield ingest
    recorder.may_stage.set()
    recorder.may_store.set()
    await ingest.close()


async def test_segments_that_wait_next_to_each_other_are_one_group(ingest: Ingest, recorder: Recorder) -> None:
    recorder.may_stage.clear()
    stored = [ingest.submit(b"%d" % number) for number in range(5)]
    recorder.may_stage.set()
    await asyncio.gather(*(each.answered for each in stored))
    assert sum(map(len, recorder.done)) == 5
    assert [body for group in recorder.done for body in group] == [b"0", b"1", b"2", b"3", b"4"]
    recorder.may_store.clear()
    recorder.storing.clear()
    first = ingest.submit(b"first")
    assert await asyncio.to_thread(recorder.storing.wait, 60)
    later = [ingest.submit(b"later") for _ in range(20)]
    recorder.may_store.set()
    await asyncio.gather(*(each.answered for each in (first, *later)))
    assert recorder.done[-2:] == [[b"first"], [b"later"] * 20], "what came while the first was stored is one group"


async def test_a_step_keeps_its_place_between_segments(ingest: Ingest, recorder: Recorder) -> None:
    recorder.may_stage.clear()
    before = ingest.submit(b"before")
    step = asyncio.create_task(ingest.perform(recorder.step))
    await asyncio.sleep(0)
    after = ingest.submit(b"after")
    recorder.may_stage.set()
    assert await step == "performed"
    await asyncio.gather(before.answered, after.answered)
    assert recorder.done == [[b"before"], "step", [b"after"]]


async def test_the_error_of_a_step_is_raised_where_it_is_awaited(ingest: Ingest) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await ingest.perform(fail)
    assert (await ingest.append(b"next")).name == "name"


async def test_an_unexpected_error_in_staging_is_raised_at_its_sender_only(ingest: Ingest) -> None:
    broken, good = ingest.submit(b"broken"), ingest.submit(b"good")
    assert isinstance((await broken.answered).error, TypeError)
    assert (await good.answered).error is None


async def test_a_full_queue_refuses_and_does_nothing(ingest: Ingest, recorder: Recorder) -> None:
    recorder.may_stage.clear()
    accepted = [ingest.submit(b"%d" % number) for number in range(CAPACITY)]
    assert ingest.waiting == CAPACITY
    with pytest.raises(QueueFull):
        ingest.submit(b"one too many")
    recorder.may_stage.set()
    await asyncio.gather(*(each.answered for each in accepted))
    assert ingest.waiting == 0
    assert sum(map(len, recorder.done)) == CAPACITY


@pytest.mark.parametrize("full_of", ["segments", "bytes"])
async def test_a_stream_waits_for_capacity(ingest: Ingest, recorder: Recorder, full_of: str) -> None:
    count, size = (CAPACITY, 1) if full_of == "segments" else (2, pipeline._MOST_BYTES // 2)  # noqa: SLF001 (its own limit)
    recorder.may_stage.clear()
    accepted = [ingest.submit(bytes(size)) for _ in range(count)]
    waiter = asyncio.create_task(ingest.wait_for_capacity())
    await asyncio.sleep(0.05)
    assert not waiter.done()
    recorder.may_stage.set()
    await waiter
    await asyncio.gather(*(each.answered for each in accepted))


async def test_closing_completes_accepted_work(recorder: Recorder) -> None:
    ingest = Ingest(recorder.stage, recorder.store, CAPACITY)
    ingest.start()
    accepted = [ingest.submit(b"%d" % number) for number in range(CAPACITY)]
    await ingest.close()
    await asyncio.gather(*(each.answered for each in accepted))
    assert sum(map(len, recorder.done)) == CAPACITY
