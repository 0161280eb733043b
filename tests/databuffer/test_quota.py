"""A group's daily quota: exact at its limit, across restarts, and for retries."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from fastapi.testclient import TestClient

from databuffer import queries, state
from databuffer.app import create_app, create_buffer
from databuffer.buffer import Buffer
from databuffer.errors import QuotaExceeded, VolumeError
from databuffer.ingest import commit
from databuffer.ingest.keys import LineKeys
from databuffer.ingest.ndjson import store_lines
from databuffer.settings import BufferSettings
from databuffer.storage.spending import DAY_SECONDS
from glitchflow_api.logic_client import group_header
from gwwire.public import Quota
from tests.support.faulty_volume import Fault, FaultyVolume
from tests.support.segments import segment_body

pytestmark = pytest.mark.anyio
OpenBuffer = Callable[[], Awaitable[Buffer]]

SIZE = len(segment_body(1).replace(b" ", b""))
NOON = 1_800_000_000 // DAY_SECONDS * DAY_SECONDS + DAY_SECONDS // 2


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.seconds = NOON

    def time(self) -> float:
        return self.seconds

    def perf_counter(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds

    def time_ns(self) -> int:
        return self.seconds * 10**9


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (commit, queries, state):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def settings(settings: BufferSettings) -> BufferSettings:
    """Set a quota of three segments per day for every group."""
    return settings.model_copy(update={"GROUP_QUOTA": 3 * SIZE})


def body(number: int) -> bytes:
    return segment_body(number).replace(b" ", b"")


async def fill(buffer: Buffer, group: str, count: int = 3) -> None:
    for number in range(count):
        await buffer.ingest.append(body(number), None, group)


async def test_the_last_byte_of_a_quota_can_be_used_and_not_one_more(buffer: Buffer, clock: Clock) -> None:
    await fill(buffer, "detchar")
    assert buffer.queries.quota("detchar") == Quota("detchar", 3 * SIZE, 3 * SIZE, NOON + DAY_SECONDS // 2)
    with pytest.raises(QuotaExceeded, match="GROUP_QUOTA") as refused:
        await buffer.ingest.append(body(3), None, "detchar")
    assert refused.value.retry_after == DAY_SECONDS // 2
    assert buffer.queries.stats.n_itm == 3
    assert not list(buffer._store.volume.incoming.iterdir())  # noqa: SLF001 (what was refused leaves nothing behind)
    await buffer.ingest.append(body(4), None, "cbc")
    await buffer.ingest.append(body(5))
    assert buffer.queries.stats.n_itm == 5
    clock.seconds += DAY_SECONDS // 2 - 1
    with pytest.raises(QuotaExceeded):
        await buffer.ingest.append(body(3), None, "detchar")
    clock.seconds += 1
    await fill(buffer, "detchar")
    with pytest.raises(QuotaExceeded):
        await buffer.ingest.append(body(3), None, "detchar")


@pytest.mark.usefixtures("clock")
async def test_a_smaller_segment_still_fits_where_a_larger_one_does_not(buffer: Buffer) -> None:
    await fill(buffer, "detchar", 2)
    with pytest.raises(QuotaExceeded):
        await buffer.ingest.append(segment_body(3, samples=20), None, "detchar")
    await buffer.ingest.append(body(3), None, "detchar")


@pytest.mark.usefixtures("clock")
async def test_a_retry_is_counted_once(buffer: Buffer) -> None:
    first = await buffer.ingest.append(body(1), "key", "detchar")
    for _ in range(5):
        assert (await buffer.ingest.append(body(1), "key", "detchar")).receipt == first.receipt
    assert (quota := buffer.queries.quota("detchar"))
    assert quota.used == SIZE
    await fill(buffer, "detchar", 2)
    again = await buffer.ingest.append(body(1), "key", "detchar")
    assert again.receipt == first.receipt, "the answer is the same when the quota is used up"


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("clean", [True, False])
async def test_the_use_of_a_quota_is_known_after_a_stop_and_after_a_crash(
    settings: BufferSettings, open_buffer: OpenBuffer, *, clean: bool
) -> None:
    buffer = create_buffer(settings)
    await buffer.open()
    await fill(buffer, "detchar", 2)
    if clean:
        await buffer.close()
    else:
        buffer._store.close()  # noqa: SLF001 (the process is gone: nothing is written any more)
    again = await open_buffer()
    assert (quota := again.queries.quota("detchar"))
    assert quota.used == 2 * SIZE
    await again.batches.flush()
    await again.ingest.append(body(3), None, "detchar")
    with pytest.raises(QuotaExceeded):
        await again.ingest.append(body(4), None, "detchar")


@pytest.mark.usefixtures("clock")
async def test_after_a_lost_catalog_the_daily_use_starts_at_zero(
    settings: BufferSettings, open_buffer: OpenBuffer
) -> None:
    buffer = create_buffer(settings)
    await buffer.open()
    await fill(buffer, "detchar")
    await buffer.close()
    for path in settings.ADMROOT.glob("catalog.sqlite*"):
        path.unlink()
    again = await open_buffer()
    assert again.queries.stats.n_itm == 3
    await fill(again, "detchar")


@pytest.mark.usefixtures("clock")
async def test_segments_that_the_volume_rejects_are_not_counted(settings: BufferSettings) -> None:
    with FaultyVolume() as faults:
        buffer = create_buffer(settings)
        await buffer.open()
        await fill(buffer, "detchar", 1)
        for call in range(40):
            faults.arm(Fault(call=call, number=28, late=False, times=1))
            try:
                await buffer.ingest.append(body(9), f"key-{call}", "detchar")
            except VolumeError:
                faults.heal()
                await buffer.queries.check_ready()
                assert (quota := buffer.queries.quota("detchar"))
                assert quota.used == buffer.queries.stats.n_itm * SIZE
            else:
                break
        faults.heal()
        assert (quota := buffer.queries.quota("detchar"))
        assert quota.used == buffer.queries.stats.buff_size == 2 * SIZE
        await buffer.close()


@pytest.mark.usefixtures("clock")
async def test_each_line_of_many_is_answered_by_itself(buffer: Buffer) -> None:
    async def lines() -> AsyncIterator[bytes]:
        yield b"\n".join(body(number) for number in range(5))

    answering = store_lines(buffer.ingest, lines(), keys=LineKeys({}), max_line=10_000, group="detchar")
    answers = b"".join([part async for part in answering]).splitlines()
    assert [b"CREATED" in answer for answer in answers] == [True] * 3 + [False] * 2
    assert all(b'"quota-exceeded"' in answer for answer in answers[3:])


async def test_without_a_quota_nothing_is_counted(settings: BufferSettings) -> None:
    buffer = create_buffer(settings.model_copy(update={"GROUP_QUOTA": 0}))
    await buffer.open()
    await fill(buffer, "detchar", 5)
    assert buffer.queries.quota("detchar") is None
    await buffer.close()
    with sqlite3.connect(settings.ADMROOT / "catalog.sqlite") as catalog:
        assert catalog.execute("SELECT count(*) FROM spending").fetchone() == (0,)
    catalog.close()


@pytest.mark.parametrize("group", ["detchar", "/detchar/x", "Δétchar of a:b", "50%41"])
def test_every_route_has_the_group_that_the_gateway_sends(settings: BufferSettings, group: str) -> None:
    name, _, value = group_header(group).strip().partition(b": ")
    headers = {name.decode(): value.decode()}
    with TestClient(create_app(create_buffer(settings), max_body=10_000)) as client:
        stored = client.post("/sendF", content=body(1), headers={"Content-Type": "application/json", **headers})
        assert stored.status_code == 201
        quota = client.get("/stat", headers=headers).json()["quota"]
        assert (quota["group"], quota["used"]) == (group, SIZE)
        put = client.post("/transactions", json={"files": [{"path": "/a"}]}, headers={"X-User": "alice", **headers})
        assert put.json()["transaction"]["group"] == group
