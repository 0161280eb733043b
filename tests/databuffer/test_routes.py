from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from databuffer.app import create_app, create_buffer
from databuffer.fingerprint import matches
from databuffer.settings import BufferSettings
from tests.support.segments import BAD_BODIES, JSON, segment_body

MAX_BODY = 10_000


@pytest.fixture
def client(settings: BufferSettings) -> Iterator[TestClient]:
    with TestClient(create_app(create_buffer(settings), max_body=MAX_BODY)) as client:
        yield client


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Return a client of a buffer that stores nothing: the tests that share it send what is refused."""
    home: Path = tmp_path_factory.mktemp("home")
    data = home / "datavar" / "data"
    settings = BufferSettings(DTVOLROOT=data.parent, DATAROOT=data, ADMROOT=home / "adm", LOGROOT=home / "log")
    with TestClient(create_app(create_buffer(settings), max_body=MAX_BODY)) as client:
        yield client


def test_every_route_of_the_contract_answers_as_written(client: TestClient) -> None:
    assert client.get("/stat").json() == {"n_itm": 0, "buff_size": 0}
    assert client.get("/dstat").json() == {"dstatus": "OPERATIONAL", "user": "", "token": ""}
    assert client.get("/dumpF").json() == {"nmlist": []}
    assert client.get("/dumpLogF").json() == []

    sent = client.post("/sendF", content=segment_body(1), headers=JSON)
    assert sent.status_code == 201
    assert list(sent.json()) == ["code", "body"]
    assert sent.json()["code"] == "RES_CREATE"
    (name,) = client.get("/dumpF").json()["nmlist"]
    size = client.get("/stat").json()["buff_size"]
    assert sent.json()["body"] == f"Written {name} for {size} bytes"
    assert [line["name"] for line in client.get("/dumpLogF").json()] == [name]

    frozen = client.post("/upddsc", json={"user": "alice", "token": "secret"})
    assert frozen.status_code == 201
    assert frozen.json()["code"] == "STAT_UPD"
    assert frozen.json()["body"]
    assert (frozen.json()["n_itm"], frozen.json()["buff_size"]) == (1, size)
    seen = client.get("/dstat").json()
    assert (seen["dstatus"], seen["user"], list(seen)) == ("FROZEN", "alice", ["dstatus", "user", "token"])
    assert matches(seen["token"], "secret")

    refused = client.post("/sendF", content=segment_body(2), headers=JSON)
    assert refused.status_code == 409
    assert refused.json()["code"] == "buffer-frozen"

    cleaned = client.post("/cleanall")
    assert cleaned.status_code == 201
    assert cleaned.json()["code"] == "STAT_UPD"
    assert cleaned.json()["body"]
    assert client.get("/stat").json() == {"n_itm": 0, "buff_size": 0}
    assert client.post("/cleanall", json={"msg": "again"}).status_code == 201
    assert client.post("/cleanall", headers={"Content-Type": "application/x-www-form-urlencoded"}).status_code == 201


def test_an_order_to_archive_that_cannot_be_understood_archives_nothing(client: TestClient) -> None:
    client.post("/sendF", content=segment_body(1), headers=JSON)
    assert client.post("/cleanall", content=b'{"batch":1}', headers=JSON).json()["field"] == "batch"
    assert client.post("/cleanall", content=b'{"batch":"another"}', headers=JSON).json()["code"] == "batch-changed"
    assert client.post("/cleanall", content=b"batch=another", headers={"Content-Type": "text/plain"}).status_code == 415
    assert client.post("/cleanall", json={"bacth": "b1"}).json()["field"] == "bacth"
    assert client.get("/stat").json()["n_itm"] == 1


def test_an_order_to_archive_names_the_holder_so_that_a_freeze_in_between_is_respected(client: TestClient) -> None:
    client.post("/sendF", content=segment_body(1), headers=JSON)
    held = client.post("/cleanall", json={"holder": "alice"}).json()
    assert (held["code"], held["detail"]) == ("batch-changed", "the current batch is open, not frozen by alice")
    batch = client.get("/overview").json()["batch"]
    client.post("/upddsc", json={"user": "bob", "token": "secret"})
    refused = client.post("/cleanall", json={"batch": batch, "holder": ""}).json()
    assert (refused["code"], refused["detail"]) == ("batch-changed", "the current batch is frozen by bob, not open")
    assert client.post("/cleanall", json={"batch": batch, "holder": "bob"}).status_code == 201


@pytest.mark.parametrize("what", BAD_BODIES)
def test_an_invalid_segment_is_refused_with_the_reason_and_neither_stored_nor_counted(
    empty: TestClient, what: str
) -> None:
    body, status, field = BAD_BODIES[what]
    answer = empty.post("/sendF", content=body[:9000], headers=JSON)
    assert answer.status_code == status or len(body) > 9000
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json().get("field") == field
    assert empty.get("/stat").json() == {"n_itm": 0, "buff_size": 0}
    assert empty.get("/dumpF").json() == {"nmlist": []}


@pytest.mark.parametrize("path", ["/sendF", "/upddsc", "/cleanall"])
def test_a_compressed_body_is_refused_by_name(empty: TestClient, path: str) -> None:
    answer = empty.post(path, content=b"\x1f\x8b", headers={**JSON, "Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["field"]) == (415, "Content-Encoding")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
def test_another_media_type_is_refused(empty: TestClient, content_type: str) -> None:
    answer = empty.post("/sendF", content=segment_body(1), headers={"Content-Type": content_type})
    assert answer.status_code == 415
    assert answer.json()["code"] == "unsupported-media-type"
    assert content_type in answer.json()["detail"]


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_may_be_spelled_in_its_ways(client: TestClient, content_type: str) -> None:
    assert client.post("/sendF", content=segment_body(1), headers={"Content-Type": content_type}).status_code == 201


def test_a_body_that_says_nothing_of_its_type_is_taken_for_json(client: TestClient) -> None:
    assert client.post("/sendF", content=segment_body(1)).status_code == 201


def test_a_body_that_is_too_large_is_refused(empty: TestClient) -> None:
    answer = empty.post("/sendF", content=segment_body(1, samples=5000), headers=JSON)
    assert answer.status_code == 413
    assert answer.json()["code"] == "too-large"


def test_a_body_of_undeclared_length_is_read_no_further_than_the_limit(empty: TestClient) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    answer = empty.post("/sendF", content=endless(), headers=JSON)
    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"", 400, None),
        (b"{}", 422, "user"),
        (b'{"user":"a"}', 422, "token"),
        (b'{"user":"","token":""}', 422, "user"),
        (b'{"user":1,"token":"t"}', 422, "user"),
        (b'{"user":"a\\nb","token":"t"}', 422, "user"),
        (b'{"user":"%s","token":"t"}' % (b"x" * 3000), 422, "user"),
        (b'{"user":"a","token":""}', 422, "token"),
        (b'{"user":"a","token":"t","at_least":-1}', 422, "at_least"),
    ],
)
def test_a_bad_order_to_freeze_changes_nothing(empty: TestClient, body: bytes, status: int, field: str | None) -> None:
    answer = empty.post("/upddsc", content=body, headers=JSON)
    assert answer.status_code == status
    assert answer.json().get("field") == field
    assert empty.get("/dstat").json()["dstatus"] == "OPERATIONAL"


def test_a_thaw_says_whether_it_opened_the_batch(client: TestClient) -> None:
    client.post("/sendF", content=segment_body(1), headers=JSON)
    order = {"user": "alice", "token": "secret"}
    seen = {}
    for moment in ("open", "frozen", "thawed"):
        if moment == "frozen":
            assert client.post("/upddsc", json=order).status_code == 201
        answer = client.post("/thaw", json={"user": "anybody", "token": "a guess"} if moment == "open" else order)
        assert answer.status_code == 201
        seen[moment] = answer.json()["body"]
    assert seen["frozen"].startswith("Thawed: 1 segments, ")
    assert seen["open"] == seen["thawed"] == "The batch was open already"


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/segments?limit=x", "query.limit: expected a whole number, got 'x'"),
        ("/segments?limit=0", "query.limit: expected 1 or more, got '0'"),
        ("/segments?limit=10001", "query.limit: expected 10,000 or less, got '10001'"),
        (f"/segments?after={'9' * 5000}", f"query.after: expected a whole number with fewer digits, got '{'9' * 100}'"),
        ("/segments?start=soon", "start: expected GPS seconds as a finite number, got 'soon'"),
        ("/coverage?stop=inf", "stop: expected GPS seconds as a finite number, got 'inf'"),
        ("/segments?start=5&stop=1", "start=5.0 is after stop=1.0"),
        ("/coverage?start=5&stop=1", "start=5.0 is after stop=1.0"),
    ],
)
def test_a_bad_query_is_refused_with_what_is_expected(empty: TestClient, path: str, detail: str) -> None:
    answer = empty.get(path)
    assert (answer.status_code, answer.json()["code"], answer.json()["detail"]) == (422, "invalid-request", detail)


def test_unknown_routes_and_methods_are_problems_too(empty: TestClient) -> None:
    assert empty.get("/nowhere").json()["code"] == "not-found"
    assert empty.get("/sendF").json()["code"] == "method-not-allowed"
    assert "POST" in empty.get("/sendF").headers["allow"]


def test_it_is_ready_while_the_volume_can_be_written(client: TestClient, settings: BufferSettings) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    settings.DATAROOT.rmdir()
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["code"] == "volume-failed"
    assert client.get("/healthz").status_code == 200
