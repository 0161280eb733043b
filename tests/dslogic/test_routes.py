"""dslogic against the real buffer, over a real socket."""

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from flask.testing import FlaskClient

from dslogic.app import create_app
from dslogic.buffer_client import BufferClient
from dslogic.settings import LogicSettings
from scripts.trio import Trio, free_ports
from tests.support.segments import BAD_BODIES, JSON, segment_body

MakeClient = Callable[..., FlaskClient]


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio]) -> Trio:
    return start_shared_trio(tiers=1)


@pytest.fixture
def make_client(trio: Trio) -> MakeClient:
    def make(**settings: object) -> FlaskClient:
        return create_app(settings=LogicSettings.model_validate({"DB_BURL": trio.url, **settings})).test_client()

    return make


@pytest.fixture
def client(make_client: MakeClient) -> Iterator[FlaskClient]:
    client = make_client(MAX_SIZE="200")
    yield client
    client.post("/flushbuf")


def fill(client: FlaskClient) -> None:
    for number in range(4):
        assert client.post("/stream", data=segment_body(number), headers=JSON).status_code == 201


def test_every_route_of_the_contract_answers_as_written(client: FlaskClient) -> None:
    stored = client.post("/stream", data=segment_body(1), headers=JSON)
    assert stored.status_code == 201
    assert stored.get_json()["code"] == "RES_CREATE"

    waiting = client.post("/freezeds", json={"user": "alice", "token": "secret"})
    assert waiting.status_code == 200
    assert waiting.mimetype == "text/plain"

    fill(client)
    stats = client.get("/bufstat").get_json()
    assert stats["n_itm"] == 5
    assert client.get("/dsdesc").get_json() == {"dstatus": "OPERATIONAL", "user": "", "token": ""}
    assert len(client.get("/dumpf").get_json()["nmlist"]) == 5
    assert len(client.get("/dumpflog").get_json()) == 5

    frozen = client.post("/freezeds", json={"user": "alice", "token": "secret"})
    assert frozen.status_code == 201
    assert {name: frozen.get_json()[name] for name in stats} == stats
    told = client.get("/dsdesc").get_json()
    assert (told["dstatus"], told["user"], list(told)) == ("FROZEN", "alice", ["dstatus", "user", "token"])
    assert "secret" not in told["token"]

    refused = client.post("/stream", data=segment_body(2), headers=JSON)
    assert refused.status_code == 503
    assert refused.mimetype == "text/plain"
    assert refused.text == "Datastore frozen."

    assert client.post("/flushbuf").status_code == 201
    assert client.get("/bufstat").get_json() == {"n_itm": 0, "buff_size": 0}


def test_a_freeze_is_idempotent_and_never_replaces_the_holder(client: FlaskClient) -> None:
    fill(client)
    first = client.post("/freezeds", json={"user": "alice", "token": "a"}).get_json()
    assert client.post("/freezeds", json={"user": "alice", "token": "a"}).get_json() == first
    assert client.post("/freezeds", json={"user": "bob", "token": "b"}).get_json() == first
    assert first["holder"] == "alice"


def test_a_batch_archived_between_decision_and_freeze_is_not_mistaken_for_the_next(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(client)
    ask = BufferClient.description

    def ask_while_somebody_archives(buffer: BufferClient) -> object:
        description = ask(buffer)
        buffer.clean()
        return description

    monkeypatch.setattr(BufferClient, "description", ask_while_somebody_archives)
    assert client.post("/freezeds", json={"user": "alice", "token": "a"}).status_code == 200
    monkeypatch.undo()
    assert client.get("/dsdesc").get_json()["dstatus"] == "OPERATIONAL"


@pytest.mark.parametrize("what", BAD_BODIES)
def test_a_problem_of_the_buffer_travels_up_unchanged(client: FlaskClient, what: str) -> None:
    body, status, field = BAD_BODIES[what]
    answer = client.post("/stream", data=body, headers=JSON)
    assert answer.status_code == status
    assert answer.mimetype == "application/problem+json"
    assert json.loads(answer.data).get("field") == field
    assert client.get("/bufstat").get_json()["n_itm"] == 0


def test_a_body_that_is_too_large_is_refused(make_client: MakeClient) -> None:
    client = make_client(MAX_BODY="100")
    answer = client.post("/stream", data=segment_body(1, samples=100), headers=JSON)
    assert answer.status_code == 413
    assert json.loads(answer.data)["code"] == "too-large"
    assert client.post("/stream", data=b" " * 101, headers=JSON).status_code == 413


@pytest.mark.parametrize("body", [b"", b"{}", b'{"user":"","token":""}', b"[]"])
def test_a_bad_order_to_freeze_is_refused(client: FlaskClient, body: bytes) -> None:
    answer = client.post("/freezeds", data=body, headers=JSON)
    assert answer.status_code in {400, 422}
    assert answer.mimetype == "application/problem+json"


def test_a_buffer_that_is_down_is_told_as_unreachable(make_client: MakeClient) -> None:
    client = make_client(DB_BURL=f"http://127.0.0.1:{free_ports().buffer}")
    for answer in (
        client.post("/stream", data=segment_body(1), headers=JSON),
        client.post("/freezeds", json={"user": "a", "token": "b"}),
        client.post("/flushbuf"),
        client.get("/bufstat"),
        client.get("/readyz"),
    ):
        assert answer.status_code == 502
        assert json.loads(answer.data)["code"] == "upstream-unreachable"
    assert client.get("/healthz").status_code == 200
    assert client.get("/").status_code == 200


def test_a_buffer_that_does_not_answer_is_told_as_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        settings = LogicSettings.model_validate({"DB_BURL": f"http://127.0.0.1:{deaf.getsockname()[1]}"})
        app = create_app(settings=settings, buffer=BufferClient(settings, answer_seconds=0.2))
        answer = app.test_client().post("/stream", data=segment_body(1), headers=JSON)
        assert answer.status_code == 504
        assert json.loads(answer.data)["code"] == "upstream-timeout"
        assert app.test_client().get("/bufstat").status_code == 504


def test_something_else_at_the_buffers_address_is_told_as_unexpected(make_client: MakeClient) -> None:
    client = make_client(ENDP_STAT="/dumpF")
    answer = client.post("/freezeds", json={"user": "a", "token": "b"})
    assert answer.status_code == 502
    assert json.loads(answer.data)["code"] == "upstream-invalid"


def test_it_stays_ready_while_the_buffer_can_say_what_is_wrong_with_its_volume(client: FlaskClient, trio: Trio) -> None:
    assert client.get("/readyz").get_json() == {"status": "ready"}
    data = Path(trio.home / "datavar" / "data")
    data.rename(data.with_name("moved"))
    try:
        assert httpx2.get(f"{trio.url}/readyz").status_code == 503
        assert client.get("/readyz").status_code == 200
        assert (
            client.post("/stream", data=segment_body(1), headers=JSON).get_json(force=True)["code"] == "volume-failed"
        )
    finally:
        data.with_name("moved").rename(data)
    assert client.post("/stream", data=segment_body(1), headers=JSON).status_code == 201


def test_unknown_routes_and_methods_are_problems_too(client: FlaskClient) -> None:
    assert json.loads(client.get("/nowhere").data)["code"] == "not-found"
    answer = client.get("/stream")
    assert json.loads(answer.data)["code"] == "method-not-allowed"
    assert "POST" in answer.headers["Allow"]
