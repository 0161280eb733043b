"""The overview at dslogic: the buffer's, with MAX_SIZE, requested once for any number of callers."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from fastapi.testclient import TestClient

from dslogic.app import create_app
from dslogic.asgi import asgi_application
from dslogic.buffer_client import BufferClient
from dslogic.settings import LogicSettings
from gwwire.overview import Overview
from scripts.trio import Trio, free_ports


def client_of(address: str) -> TestClient:
    settings = LogicSettings.model_validate({"DB_BURL": address, "MAX_SIZE": "1kB"})
    return TestClient(asgi_application(create_app(settings=settings)))


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio]) -> Trio:
    return start_shared_trio(services=1)


def test_it_is_the_buffers_with_the_size_from_which_on_a_batch_may_be_frozen(trio: Trio) -> None:
    with client_of(trio.url) as client:
        seen = client.get("/overview").json()
    assert seen["max_size"] == 1000
    assert seen["state"] == "OPERATIONAL"
    assert seen["ready"] is True
    assert "max_size" not in httpx2.get(f"{trio.url}/overview").text


def test_many_pages_that_ask_at_once_cost_one_question(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    ask = BufferClient.overview

    async def count(buffer: BufferClient) -> Overview:
        asked.append(1)
        return await ask(buffer)

    monkeypatch.setattr(BufferClient, "overview", count)
    with client_of(trio.url) as client, ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: client.get("/overview"), range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert 1 <= len(asked) < 10


def test_an_unreachable_buffer_is_reported_and_asked_again_later() -> None:
    with client_of(f"http://127.0.0.1:{free_ports().buffer}") as client:
        for _ in range(2):
            answer = client.get("/overview")
            assert answer.status_code == 502
            assert answer.json()["code"] == "upstream-unreachable"


def test_a_buffer_that_does_not_say_in_time_whether_it_can_store_is_reported_by_readyz(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_: BufferClient) -> Overview:
        await asyncio.sleep(60)
        raise AssertionError

    monkeypatch.setattr(BufferClient, "overview", never)
    monkeypatch.setattr("dslogic.overview._READY_SECONDS", 0.1)
    with client_of(trio.url) as client:
        answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["cannot_store"] == "the buffer did not answer GET /overview within 0.1 s"
