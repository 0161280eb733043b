import logging
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient

from gwservice.asgi import add_problem_handlers
from gwservice.correlation import note_relayed
from gwservice.logs import LogLimit
from gwservice.observability import Edge
from gwwire.problems import ProblemCode, ProblemError, encode_problem, make_problem


class _OnTape(ProblemError, code=ProblemCode.ON_TAPE):
    """As that of the buffer."""


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    add_problem_handlers(app)

    @app.get("/things/{name}")
    async def thing(name: str) -> str:
        if name == "bad":
            raise RuntimeError("nobody expected this")
        return name

    @app.get("/on-tape")
    async def on_tape() -> str:
        raise _OnTape("b1 is on tape", retry_after=9)

    @app.get("/relayed")
    async def relayed() -> Response:
        problem = encode_problem(make_problem(ProblemCode.ON_TAPE, "b1 is on tape"))
        note_relayed(problem)
        return Response(problem, 503)

    @app.get("/broken")
    async def broken() -> Response:
        async def parts() -> AsyncIterator[bytes]:
            yield b"one"
            raise RuntimeError("too late")

        return StreamingResponse(parts())

    app.add_middleware(Edge, "dslogic", handlers={}, slashed={"/slashed/"})
    return TestClient(app, raise_server_exceptions=True)


def test_an_unexpected_error_is_a_problem_with_the_request_id_and_one_line_in_the_log(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    answer = client.get("/things/bad", headers={"X-Request-ID": "abc"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal-error")
    assert answer.headers["x-request-id"] == "abc"
    assert "nobody" not in answer.text
    (line,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert vars(line).items() >= {"method": "GET", "route": "/things/{name}", "outcome": "internal-error"}.items()
    assert line.exc_info
    assert str(line.exc_info[1]) == "nobody expected this"


def test_an_error_after_the_start_of_an_answer_closes_the_connection(client: TestClient) -> None:
    with pytest.raises(RuntimeError, match="too late"):
        client.get("/broken")


@pytest.mark.parametrize(("path", "status"), [("/things/good", 200), ("/nothing", 404), ("/things/bad", 500)])
def test_every_answer_has_the_request_id(client: TestClient, path: str, status: int) -> None:
    first, second = client.get(path), client.get(path)
    assert (first.status_code, second.status_code) == (status, status)
    assert len({first.headers["x-request-id"], second.headers["x-request-id"]}) == 2


def test_that_bytes_are_on_tape_is_no_warning_and_logged_once_by_the_service_that_knows_it(
    client: TestClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "gwservice")
    monkeypatch.setattr("gwservice.observability._limit_of_tape", LogLimit(lambda: 0.0, most=1))
    assert [client.get(path).status_code for path in ("/relayed", "/on-tape", "/on-tape")] == [503] * 3
    (line,) = [record for record in caplog.records if record.name.startswith("gwservice")]
    assert (line.levelname, vars(line)["event"]) == ("INFO", "on-tape")
    assert line.message == "GET /on-tape answered: b1 is on tape"


def test_a_successful_answer_is_not_logged(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    client.get("/things/good")
    client.get("/nothing")
    assert not [record for record in caplog.records if record.name.startswith("gwservice")]


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/things/", "../things"),
        ("/things/a%2Fb/?c=d&e", "../a%2Fb?c=d&e"),
        ("/things///", "../../../things"),
        ("//evil.example/", "../evil.example"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_a_slash_too_many_is_redirected_without_naming_scheme_host_or_prefix(
    client: TestClient, method: str, path: str, location: str
) -> None:
    answer = client.request(method, f"http://testserver{path}", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, location)
    assert client.get("/").status_code == 404


def test_a_route_that_has_a_slash_itself_is_not_redirected(client: TestClient) -> None:
    assert client.get("/slashed/", follow_redirects=False).status_code == 404  # this application has no such route
    assert client.get("/slashed//", follow_redirects=False).status_code == 307


@pytest.mark.parametrize("path", ["/things/good", "/things/bad", "/nothing"])
def test_head_is_answered_as_get_without_a_body(client: TestClient, path: str) -> None:
    get, head = (client.request(method, path, headers={"X-Request-ID": "abc"}) for method in ("GET", "HEAD"))
    assert (head.status_code, head.headers, head.content) == (get.status_code, get.headers, b"")
    assert int(head.headers["content-length"]) == len(get.content)


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "identity, br", "zstd", "x-unknown"])
def test_a_compressed_body_is_refused_on_every_route(client: TestClient, coding: str) -> None:
    for method, path in [("POST", "/things/good"), ("PUT", "/broken"), ("DELETE", "/things/good")]:
        answer = client.request(method, path, content=b"\x1f\x8b", headers={"Content-Encoding": coding})
        assert (answer.status_code, answer.json()["code"]) == (415, "unsupported-media-type")
        assert answer.json()["field"] == "Content-Encoding"
        assert f"Content-Encoding: {coding} is not supported" in answer.json()["detail"]


def test_a_second_header_does_not_hide_a_compressed_body(client: TestClient) -> None:
    headers = [("Content-Encoding", "gzip"), ("Content-Encoding", "identity")]
    assert client.post("/things/good", content=b"\x1f\x8b", headers=headers).status_code == 415


@pytest.mark.parametrize("keys", ["ab", "aa"])
def test_a_request_has_one_idempotency_key(client: TestClient, keys: str) -> None:
    headers = [("Accept", "a"), ("Accept", "b"), *[("Idempotency-Key", key) for key in keys]]
    answer = client.post("/things/good", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad-request")
    assert answer.json()["detail"] == "the request has more than one Idempotency-Key header"
    assert client.post("/things/good", headers=headers[:3]).status_code == 405


@pytest.mark.parametrize("coding", ["identity", "", "Identity, identity"])
def test_a_body_that_is_not_compressed_may_say_so(client: TestClient, coding: str) -> None:
    assert client.post("/things/good", content=b"{}", headers={"Content-Encoding": coding}).status_code == 405
    assert client.get("/things/good", headers={"Content-Encoding": "gzip"}).status_code == 200
