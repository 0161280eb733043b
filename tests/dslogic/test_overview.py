"""The overview at dslogic: the buffer's, with MAX_SIZE, asked for once however many ask."""

import threading
from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

from dslogic.app import create_app
from dslogic.buffer_client import BufferClient
from dslogic.settings import LogicSettings
from gwwire.public import Overview
from scripts.trio import Trio, free_ports


def client_of(address: str) -> FlaskClient:
    return create_app(settings=LogicSettings.model_validate({"DB_BURL": address, "MAX_SIZE": "1kB"})).test_client()


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio]) -> Trio:
    return start_shared_trio(tiers=1)


def test_it_is_the_buffers_with_the_size_from_which_on_a_batch_may_be_frozen(trio: Trio) -> None:
    told = client_of(trio.url).get("/overview").get_json()
    assert told["max_size"] == 1000
    assert told["state"] == "OPERATIONAL"
    assert told["ready"] is True
    assert (
        "max_size"
        not in BufferClient(LogicSettings.model_validate({"DB_BURL": trio.url})).get("/overview").body.decode()
    )


def test_many_pages_that_ask_at_once_cost_one_question(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    ask = BufferClient.overview

    def count(buffer: BufferClient) -> Overview:
        asked.append(1)
        return ask(buffer)

    monkeypatch.setattr(BufferClient, "overview", count)
    client = client_of(trio.url)
    threads = [threading.Thread(target=client.application.test_client().get, args=["/overview"]) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= len(asked) < 10


def test_a_buffer_that_is_away_is_told_as_such_and_asked_again_later() -> None:
    client = client_of(f"http://127.0.0.1:{free_ports().buffer}")
    for _ in range(2):
        answer = client.get("/overview")
        assert answer.status_code == 502
        assert answer.get_json()["code"] == "upstream-unreachable"
