"""Claims: one worker at a time has a frozen batch, until its lease ends."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest
from fastapi.testclient import TestClient

from databuffer.app import create_app, create_buffer
from databuffer.buffer import Buffer
from databuffer.errors import BatchClaimed, BatchNotFrozen, NotFound
from databuffer.settings import BufferSettings
from gwwire.datastore import FreezeOrder
from gwwire.public import ClaimOrder, ThawOrder
from tests.support.segments import JSON, segment_body

anyio = pytest.mark.anyio
ALICE = FreezeOrder("alice", "secret")


async def freeze_one(buffer: Buffer) -> str:
    await buffer.ingest.append(segment_body(1))
    return (await buffer.batches.freeze(ALICE)).batch


@anyio
async def test_of_many_workers_asking_at_once_one_gets_the_batch(buffer: Buffer) -> None:
    batch = await freeze_one(buffer)
    orders = [buffer.batches.claim(batch, ClaimOrder(f"worker-{number}", 60)) for number in range(8)]
    answers = await asyncio.gather(*orders, return_exceptions=True)
    assert sum(isinstance(answer, BatchClaimed) for answer in answers) == 7


@anyio
async def test_a_lease_can_be_renewed_and_ends_by_itself(buffer: Buffer) -> None:
    batch = await freeze_one(buffer)
    first = await buffer.batches.claim(batch, ClaimOrder("one", 1))
    renewed = await buffer.batches.claim(batch, ClaimOrder("one", 2))
    assert renewed.expires > first.expires
    with pytest.raises(BatchClaimed) as refused:
        await buffer.batches.claim(batch, ClaimOrder("two", 60))
    assert refused.value.retry_after is not None
    await asyncio.sleep(max(0.0, (renewed.expires - time.time_ns()) / 10**9) + 0.01)
    assert (await buffer.batches.claim(batch, ClaimOrder("two", 60))).worker == "two"


@anyio
async def test_a_released_batch_can_be_claimed_by_another(buffer: Buffer) -> None:
    batch = await freeze_one(buffer)
    await buffer.batches.claim(batch, ClaimOrder("one", 60))
    with pytest.raises(BatchClaimed):
        await buffer.batches.release(batch, "two")
    await buffer.batches.release(batch, "one")
    await buffer.batches.release(batch, "one")
    assert (await buffer.batches.claim(batch, ClaimOrder("two", 60))).worker == "two"


@anyio
async def test_a_claim_outlives_a_restart(open_buffer: Callable[[], Awaitable[Buffer]]) -> None:
    first = await open_buffer()
    batch = await freeze_one(first)
    await first.batches.claim(batch, ClaimOrder("one", 60))
    await first.close()
    second = await open_buffer()
    with pytest.raises(BatchClaimed):
        await second.batches.claim(batch, ClaimOrder("two", 60))


@anyio
async def test_only_a_frozen_batch_can_be_claimed(buffer: Buffer) -> None:
    batch = await freeze_one(buffer)
    await buffer.batches.thaw(ThawOrder(ALICE.user, ALICE.token))
    with pytest.raises(BatchNotFrozen):
        await buffer.batches.claim(batch, ClaimOrder("one", 60))
    with pytest.raises(NotFound):
        await buffer.batches.claim("another", ClaimOrder("one", 60))
    await buffer.batches.flush()
    with pytest.raises(BatchNotFrozen):
        await buffer.batches.claim(batch, ClaimOrder("one", 60))


@pytest.fixture
def client(settings: BufferSettings) -> Iterator[TestClient]:
    with TestClient(create_app(create_buffer(settings), max_body=10_000)) as client:
        yield client


def test_the_routes_answer_as_written(client: TestClient) -> None:
    client.post("/sendF", content=segment_body(1), headers=JSON)
    batch = client.post("/upddsc", json={"user": "alice", "token": "secret"}).json()["batch"]
    claim = client.post(f"/batches/{batch}/claim", json={"worker": "one", "lease": 60})
    assert claim.status_code == 200
    assert claim.json() == {"batch": batch, "worker": "one", "expires": pytest.approx(time.time() + 60, abs=30)}
    refused = client.post(f"/batches/{batch}/claim", json={"worker": "two"})
    assert (refused.status_code, refused.json()["code"]) == (409, "batch-claimed")
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert client.post(f"/batches/{batch}/claim", json={"worker": "two", "lease": 0}).status_code == 422
    released = client.post(f"/batches/{batch}/release", json={"worker": "one"})
    assert released.json() == {"batch": batch, "worker": None, "expires": None}


@anyio
async def test_a_claim_ends_after_its_lease_though_the_clock_is_set_back_ten_years(
    buffer: Buffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, ahead = time.time_ns, 10 * 365 * 86_400 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: real() + ahead)
    batch = await freeze_one(buffer)
    await buffer.batches.claim(batch, ClaimOrder("one", 1))
    monkeypatch.undo()
    overview = await buffer.queries.overview()
    assert overview.claim
    assert overview.claim.expires == pytest.approx(time.time(), abs=5)
    with pytest.raises(BatchClaimed):
        await buffer.batches.claim(batch, ClaimOrder("two", 60))
    await asyncio.sleep(1)
    assert (await buffer.batches.claim(batch, ClaimOrder("two", 60))).worker == "two"


@anyio
async def test_a_claim_that_a_wrong_clock_made_too_long_is_shortened_at_the_start(
    open_buffer: Callable[[], Awaitable[Buffer]],
) -> None:
    first = await open_buffer()
    batch = await freeze_one(first)
    claim = await first.batches.claim(batch, ClaimOrder("one", 60))
    in_ten_years = claim._replace(expires=claim.expires + 10 * 365 * 86_400 * 10**9)
    first._store.catalog.ledger.claim_batch(in_ten_years, 0)  # noqa: SLF001 (as a process with a wrong clock)
    await first.close()
    second = await open_buffer()
    with pytest.raises(BatchClaimed) as refused:
        await second.batches.claim(batch, ClaimOrder("two", 60))
    assert refused.value.retry_after
    assert refused.value.retry_after <= 86_400
