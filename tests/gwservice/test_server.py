"""HTTP/1.1 as clients speak it, over real connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn

from gwservice.asgi_types import ASGIApp, Receive, Scope, Send
from gwservice.body import BodyLate, body_pieces
from gwservice.server import Limits, limited

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def served(app: ASGIApp, limits: Limits | None = None) -> AsyncIterator[int]:
    config = uvicorn.Config(
        app, port=0, http=limited(limits or Limits()), ws="none", lifespan="off", log_config=None, timeout_keep_alive=1
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 (uvicorn has no event for it)
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await running


async def talk(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    """Send parts, and read until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await asyncio.sleep(pause)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


def whole(scope: Scope, body: bytes) -> bytes:
    return f"{scope['method']} {scope['path']}?{scope['query_string'].decode()} ".encode() + body


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = b"".join([piece async for piece in body_pieces(receive)])
    text = whole(scope, body)
    headers = [(b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


LAST = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    first = b"POST /a%20b?c=d HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
    async with served(echo) as port:
        answer = await talk(port, first * 3 + LAST)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 4
    assert answer.count(b"POST /a b?c=d body") == 3
    assert answer.endswith(b"GET /last? ")
    assert answer.count(b"connection: close\r\n") == 1


async def test_a_body_may_come_in_chunks_and_after_the_server_said_so() -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    async with served(echo) as port:
        answer = await talk(port, head, b"2\r\nst\r\n", b"4\r\nrain\r\n0\r\n\r\n" + LAST, pause=0.05)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert b"POST /? strain" in answer


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_an_answer_without_a_length_comes_in_chunks_and_one_to_head_has_no_body(version: str) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"st", "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        await send({"type": "http.response.body", "body": b"rain"})

    close = b" HTTP/%b\r\nHost: x\r\nConnection: close\r\n\r\n" % version.encode()
    async with served(app) as port:
        assert (await talk(port, b"GET /" + close)).endswith(b"\r\n\r\n2\r\nst\r\n4\r\nrain\r\n0\r\n\r\n")
        assert (await talk(port, b"HEAD /" + close)).endswith(b"close\r\n\r\n")


async def test_the_rest_of_a_request_that_was_answered_early_is_no_request() -> None:
    async def refuse(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 413, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async with served(refuse) as port:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
        answer = await talk(port, head, b"GET / HTTP/1.1\r\n\r\n".ljust(100_000), LAST, pause=0.05)
    assert answer.count(b"HTTP/1.1 413 ") == 2


@pytest.mark.parametrize(
    "nonsense", [b"nonsense\r\n\r\n", b"GET /\xff HTTP/1.1\r\n\r\n", b"GET http://[ HTTP/1.1\r\n\r\n", b"\x16\x03\x01"]
)
async def test_what_is_no_request_is_answered_with_a_problem(nonsense: bytes) -> None:
    async with served(echo) as port:
        answer = await talk(port, nonsense)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b'"code":"bad-request"' in answer


@pytest.mark.parametrize("value", [b"a\r\nx: y", b"a\ny"])
async def test_a_header_with_a_line_break_is_never_sent(value: bytes) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", value)]})

    async with served(app) as port:
        assert await talk(port, LAST) == b""


async def test_an_answer_that_breaks_off_never_looks_complete() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"st", "more_body": True})
        raise ConnectionResetError

    async with served(app) as port:
        answer = await talk(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.endswith(b"2\r\nst\r\n")


async def test_an_idle_connection_is_closed_after_some_time() -> None:
    async with served(echo) as port:
        assert b"200 OK" in await talk(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")


async def test_each_piece_of_a_body_is_waited_for_only_so_long() -> None:
    late: list[BaseException] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await echo(scope, receive, send)
        except BodyLate as error:
            late.append(error)
            await send({"type": "http.response.start", "status": 408, "headers": [(b"connection", b"close")]})
            await send({"type": "http.response.body", "body": b""})

    async with served(app, Limits(body_seconds=0.2)) as port:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nConnection: close\r\n\r\n"
        assert (await talk(port, head, b"123", b"456", b"789", pause=0.12)).endswith(b"123456789")
        assert (await talk(port, head, b"123")).startswith(b"HTTP/1.1 408 ")
    assert "BODY_TIMEOUT" in str(late[0])
