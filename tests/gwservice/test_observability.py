import logging
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient

from gwservice.asgi import add_problem_handlers
from gwservice.observability import Edge


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    add_problem_handlers(app)

    @app.get("/things/{name}")
    async def thing(name: str) -> str:
        if name == "bad":
            raise RuntimeError("nobody expected this")
        return name

    @app.get("/broken")
    async def broken() -> Response:
        async def parts() -> AsyncIterator[bytes]:
            yield b"one"
            raise RuntimeError("too late")

        return StreamingResponse(parts())

    app.add_middleware(Edge, handlers={})
    return TestClient(app, raise_server_exceptions=True)


def test_what_nobody_expected_is_a_problem_with_the_requests_name_and_one_line_in_the_log(
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


def test_what_goes_wrong_after_the_answer_began_breaks_the_connection(client: TestClient) -> None:
    with pytest.raises(RuntimeError, match="too late"):
        client.get("/broken")


@pytest.mark.parametrize(("path", "status"), [("/things/good", 200), ("/nothing", 404), ("/things/bad", 500)])
def test_every_answer_tells_the_requests_name(client: TestClient, path: str, status: int) -> None:
    first, second = client.get(path), client.get(path)
    assert (first.status_code, second.status_code) == (status, status)
    assert len({first.headers["x-request-id"], second.headers["x-request-id"]}) == 2


def test_an_answer_that_is_no_failure_leaves_no_line(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    client.get("/things/good")
    client.get("/nothing")
    assert not [record for record in caplog.records if record.name.startswith("gwservice")]
