"""dslogic against the real buffer, over a real socket."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from dslogic.app import create_app
from dslogic.asgi import asgi_application
from dslogic.buffer_client import BufferClient
from dslogic.settings import LogicSettings
from gwservice.upstream import Upstream
from gwservice.upstream_connection import Answer
from scripts.trio import Trio, free_ports
from tests.support.raw_server import ServerConnection, raw_server
from tests.support.segments import BAD_BODIES, JSON, segment_body

MakeClient = Callable[..., TestClient]


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio]) -> Trio:
    return start_shared_trio(services=1)


@pytest.fixture
def make_client(trio: Trio) -> MakeClient:
    def make(**settings: object) -> TestClient:
        return TestClient(
            asgi_application(create_app(settings=LogicSettings.model_validate({"DB_BURL": trio.url, **settings})))
        )

    return make


@pytest.fixture
def client(make_client: MakeClient) -> Iterator[TestClient]:
    with make_client(MAX_SIZE="200") as client:
        yield client
        client.post("/flushbuf")


def fill(client: TestClient) -> None:
    for number in range(4):
        assert client.post("/stream", content=segment_body(number), headers=JSON).status_code == 201


def test_every_route_of_the_contract_answers_as_written(client: TestClient) -> None:
    stored = client.post("/stream", content=segment_body(1), headers=JSON)
    assert stored.status_code == 201
    assert stored.json()["code"] == "RES_CREATE"

    waiting = client.post("/freezeds", json={"user": "alice", "token": "secret"})
    assert waiting.status_code == 200
    assert waiting.headers["content-type"].startswith("text/plain")

    fill(client)
    stats = client.get("/bufstat").json()
    assert stats["n_itm"] == 5
    assert client.get("/dsdesc").json() == {"dstatus": "OPERATIONAL", "user": "", "token": ""}
    assert len(client.get("/dumpf").json()["nmlist"]) == 5
    assert len(client.get("/dumpflog").json()) == 5

    frozen = client.post("/freezeds", json={"user": "alice", "token": "secret"})
    assert frozen.status_code == 201
    assert {name: frozen.json()[name] for name in stats} == stats
    told = client.get("/dsdesc").json()
    assert (told["dstatus"], told["user"], list(told)) == ("FROZEN", "alice", ["dstatus", "user", "token"])
    assert "secret" not in told["token"]

    refused = client.post("/stream", content=segment_body(2), headers=JSON)
    assert refused.status_code == 503
    assert refused.headers["content-type"].startswith("text/plain")
    assert refused.text == "Datastore frozen."

    assert client.post("/flushbuf").status_code == 201
    assert client.get("/bufstat").json() == {"n_itm": 0, "buff_size": 0}


def test_a_freeze_is_idempotent_and_never_replaces_the_holder(client: TestClient) -> None:
    fill(client)
    first = client.post("/freezeds", json={"user": "alice", "token": "a"}).json()
    assert client.post("/freezeds", json={"user": "alice", "token": "a"}).json() == first
    assert client.post("/freezeds", json={"user": "bob", "token": "b"}).json() == first
    assert first["holder"] == "alice"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    """The target and the body of each request to the buffer."""
    asked: list[tuple[bytes, bytes]] = []
    ask = Upstream.request

    async def listen(self: Upstream, method: bytes, target: bytes, *rest: Any) -> Answer:
        asked.append((target, b"".join(rest[1]) if rest else b""))
        return await ask(self, method, target, *rest)

    monkeypatch.setattr(Upstream, "request", listen)
    return asked


def test_a_freeze_is_one_request_which_the_buffer_refuses_while_the_batch_is_too_small(
    client: TestClient, asked: list[tuple[bytes, bytes]]
) -> None:
    waiting = client.post("/freezeds", json={"user": "alice", "token": "a", "at_least": 0})
    assert (waiting.status_code, waiting.text) == (200, "Waiting for the buffer to fill.")
    assert asked == [(b"/upddsc", b'{"user":"alice","token":"a","at_least":200}')]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"msg": "epoch 12"}', b'{"holder":""}'])
def test_without_a_policy_the_order_to_archive_goes_on_byte_for_byte(
    client: TestClient, asked: list[tuple[bytes, bytes]], body: bytes
) -> None:
    assert client.post("/flushbuf", content=body, headers=JSON if body else {}).status_code == 201
    assert asked == [(b"/cleanall", body)]


@pytest.mark.parametrize(
    ("body", "sent"),
    [
        (b"", b'{"tiering":{"archive_to":["object","tape"],"keep_on_disk":604800}}'),
        (b'{"msg":"x"}', b'{"msg":"x","tiering":{"archive_to":["object","tape"],"keep_on_disk":604800}}'),
        (b'{"tiering":{}}', b'{"tiering":{}}'),
    ],
)
def test_the_order_to_archive_goes_on_with_the_policy_unless_it_has_its_own(
    make_client: MakeClient, asked: list[tuple[bytes, bytes]], body: bytes, sent: bytes
) -> None:
    with make_client(ARCHIVE_TO="tape,object", KEEP_ON_DISK="7d") as client:
        client.post("/flushbuf", content=body, headers=JSON if body else {})
    assert asked == [(b"/cleanall", sent)]


def test_an_order_to_archive_whose_policy_names_an_unknown_tier_is_refused(
    client: TestClient, asked: list[tuple[bytes, bytes]]
) -> None:
    refused = client.post("/flushbuf", json={"tiering": {"archive_to": ["tape"]}})
    assert (refused.status_code, refused.json()["field"]) == (422, "tiering.archive_to")
    assert asked == [(b"/tiers", b"")]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"tiering":{"keep_on_disk":1}}', "tiering"),
        (b'{"batch":["b1"]}', "batch"),
    ],
)
def test_a_plan_by_a_policy_that_cannot_hold_or_of_something_else_than_batches_is_refused(
    client: TestClient, body: bytes, field: str
) -> None:
    for path in ("/tiering/plan", "/tiering/apply"):
        answer = client.post(path, content=body, headers=JSON)
        assert (answer.status_code, answer.json()["field"]) == (422, field)


@pytest.mark.parametrize("what", BAD_BODIES)
def test_a_problem_of_the_buffer_travels_up_unchanged(client: TestClient, what: str) -> None:
    body, status, field = BAD_BODIES[what]
    answer = client.post("/stream", content=body, headers=JSON)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json().get("field") == field
    assert client.get("/bufstat").json()["n_itm"] == 0


def test_a_body_that_is_too_large_is_refused(make_client: MakeClient) -> None:
    with make_client(MAX_BODY="100") as client:
        for path in ("/stream", "/freezeds", "/thawds", "/flushbuf", "/steps/copy/claim"):
            answer = client.post(path, content=segment_body(1, samples=100), headers=JSON)
            assert answer.status_code == 413
            assert answer.json()["code"] == "too-large"
        assert client.post("/stream", content=b" " * 101, headers=JSON).status_code == 413


@pytest.mark.parametrize("body", [b"", b"{}", b'{"user":"","token":"t"}', b'{"user":"a","token":""}', b"[]"])
def test_a_bad_order_to_freeze_is_refused(client: TestClient, body: bytes) -> None:
    answer = client.post("/freezeds", content=body, headers=JSON)
    assert answer.status_code in {400, 422}
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_buffer_that_is_down_is_reported_as_unreachable(make_client: MakeClient) -> None:
    with make_client(DB_BURL=f"http://127.0.0.1:{free_ports().buffer}") as client:
        for answer in (
            client.post("/stream", content=segment_body(1), headers=JSON),
            client.post("/freezeds", json={"user": "a", "token": "b"}),
            client.post("/flushbuf"),
            client.get("/bufstat"),
            client.get("/readyz"),
        ):
            assert answer.status_code == 502
            assert answer.json()["code"] == "upstream-unreachable"
        assert client.get("/healthz").status_code == 200
        assert client.get("/").status_code == 200


def test_a_buffer_that_does_not_answer_is_reported_as_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        settings = LogicSettings.model_validate({"DB_BURL": f"http://127.0.0.1:{deaf.getsockname()[1]}"})
        app = create_app(settings=settings, buffer=BufferClient(settings, answer_seconds=0.2))
        with TestClient(asgi_application(app)) as client:
            answer = client.post("/stream", content=segment_body(1), headers=JSON)
            assert answer.status_code == 504
            assert answer.json()["code"] == "upstream-timeout"
            assert client.get("/bufstat").status_code == 504
            assert client.post("/flushbuf").status_code == 504


def test_another_server_at_the_buffers_address_is_reported_as_an_invalid_answer(make_client: MakeClient) -> None:
    with make_client(ENDP_STAT="dumpF") as client:
        answer = client.get("/readyz")
    assert answer.status_code == 502
    assert answer.json()["code"] == "upstream-invalid"


def test_it_stays_ready_while_the_buffer_reports_errors_of_its_volume(client: TestClient, trio: Trio) -> None:
    assert client.get("/readyz").json() == {"status": "ready"}
    data = Path(trio.home / "datavar" / "data")
    data.rename(data.with_name("moved"))
    try:
        assert httpx2.get(f"{trio.url}/readyz").status_code == 503
        time.sleep(0.5)  # the overview is cached for so long
        answer = client.get("/readyz")
        assert answer.status_code == 200
        assert answer.json() == {"status": "cannot store", "cannot_store": f"cannot be written to: {data}"}
        assert client.post("/stream", content=segment_body(1), headers=JSON).json()["code"] == "volume-failed"
    finally:
        data.with_name("moved").rename(data)
    assert client.post("/stream", content=segment_body(1), headers=JSON).status_code == 201


def test_unknown_routes_and_methods_are_problems_too(client: TestClient) -> None:
    assert client.get("/nowhere").json()["code"] == "not-found"
    answer = client.get("/stream")
    assert answer.json()["code"] == "method-not-allowed"
    assert "POST" in answer.headers["Allow"]


def test_paths_below_a_relayed_route_are_relayed(client: TestClient) -> None:
    answer = client.get("/batches/b1/a-route-of-tomorrow?x=1")
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
    assert client.post("/batches/b1/verify").json()["code"] == "not-found"
    assert client.delete("/segments").json()["code"] == "method-not-allowed"
    fill(client)
    name = client.get("/dumpf").json()["nmlist"][0]
    whole = client.get(f"/segments/{name}")
    part = client.get(f"/segments/{name}", headers={"Range": "bytes=1-4"})
    assert (part.status_code, part.content) == (206, whole.content[1:5])
    assert part.headers["content-range"] == f"bytes 1-4/{len(whole.content)}"
    same = client.get(f"/segments/{name}", headers={"If-None-Match": whole.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    assert client.head(f"/segments/{name}").status_code == 200
    [line] = client.get("/dumpflog?last=1").json()
    assert line["name"] == client.get("/dumpf").json()["nmlist"][-1]


def test_an_error_without_a_problem_document_is_an_invalid_answer_of_the_buffer() -> None:
    def is_somebody_else(talk: ServerConnection) -> None:
        while True:
            talk.request()
            talk.say(b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nno")

    with raw_server(*[is_somebody_else] * 3) as server:
        app = create_app(settings=LogicSettings.model_validate({"DB_BURL": server.url}))
        with TestClient(asgi_application(app)) as client:
            for answer in (client.get("/batches"), client.post("/stream", content=b"{}"), client.post("/flushbuf")):
                assert (answer.status_code, answer.json()["code"]) == (502, "upstream-invalid")
