"""HTTP/1.1 as clients use it, over real connections."""

import asyncio
import glob
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import pytest
import uvicorn

from gwservice.asgi_types import ASGIApp, Receive, Scope, Send
from gwservice.body import BodyLate, body_pieces
from gwservice.connection_limits import Limits
from gwservice.server import limited
from gwservice.websocket import websocket_at

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def served(app: ASGIApp, limits: Limits | None = None) -> AsyncIterator[int]:
    config = uvicorn.Config(
        app,
        port=0,
        http=limited(limits or Limits()),
        ws=websocket_at("/socket"),
        lifespan="off",
        log_config=None,
        timeout_keep_alive=1,
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
    answer = await asyncio.wait_for(reader.read(), 60)
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


async def test_an_answer_without_a_length_comes_in_chunks_or_until_the_end_and_one_to_head_has_no_body() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"st", "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        await send({"type": "http.response.body", "body": b"rain"})

    head = b" HTTP/%b\r\nHost: x\r\nConnection: %b\r\n\r\n"
    async with served(app) as port:
        answer = await talk(port, b"GET /" + head % (b"1.1", b"close"))
        assert answer.endswith(b"transfer-encoding: chunked\r\n\r\n2\r\nst\r\n4\r\nrain\r\n0\r\n\r\n")
        for connection in (b"close", b"keep-alive"):
            answer = await talk(port, b"GET /" + head % (b"1.0", connection))
            assert answer.endswith(b"connection: close\r\n\r\nstrain")
            assert b"transfer-encoding" not in answer
        for version in (b"1.0", b"1.1"):
            assert (await talk(port, b"HEAD /" + head % (version, b"close"))).endswith(b"close\r\n\r\n")


@pytest.mark.parametrize(
    "coding", [b"gzip, chunked", b"gzip\r\nTransfer-Encoding: chunked", b"deflate,chunked", b"gzip", b"identity"]
)
async def test_a_transfer_coding_that_is_not_undone_is_refused_by_name(coding: bytes) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: %b\r\n\r\n"
    async with served(echo) as port:
        refused = await talk(port, head % coding + b"2\r\nst\r\n0\r\n\r\n")
        assert (await talk(port, head % b"Chunked" + b"2\r\nst\r\n0\r\n\r\n")).endswith(b"POST /? st")
        after_another = await talk(
            port, b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n" + head % coding + b"2\r\nst\r\n0\r\n\r\n"
        )
    assert refused.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"Transfer-Encoding '" + coding[:4] in refused
    assert after_another.count(b"HTTP/1.1 ") == 2
    assert after_another.endswith(refused.partition(b"\r\n\r\n")[2])


async def test_the_rest_of_a_request_that_was_answered_early_is_not_parsed_as_a_request() -> None:
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
async def test_an_invalid_request_is_answered_with_a_problem(nonsense: bytes) -> None:
    async with served(echo) as port:
        answer = await talk(port, nonsense)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b'"code":"bad-request"' in answer


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (b"GET /a?" + b"x" * 70_000 + b" HTTP/1.1", b"the address is longer than 65535 bytes"),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1", b"the address is longer than 65535 bytes"),
        ("GET /a?é HTTP/1.1".encode(), b"characters that are not percent-encoded"),
        (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 23, b"the Content-Length is larger than a number of 64 bits"),
        (b"POST / HTTP/1.1\r\nContent-Length: x", b"the Content-Length is not a number"),
    ],
    ids=["query", "path", "not encoded", "immense body", "no length"],
)
async def test_a_head_that_is_too_long_or_malformed_is_refused_with_the_reason(head: bytes, reason: bytes) -> None:
    async with served(echo) as port:
        answer = await talk(port, head + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert reason in answer


@pytest.mark.parametrize(
    "body",
    [
        b"-2\r\nst\r\n0\r\n\r\n",
        b"FFFFFFFFFFFFFFFFF\r\nst",
        b"2\nst\r\n0\r\n\r\n",
        b"2\r\nst\r\n0\r\nContent-Length: 3\r\n\r\n",
    ],
    ids=["a negative length", "an immense length", "another line end", "a length in the trailers"],
)
async def test_malformed_chunks_are_answered_with_a_problem(body: bytes) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with served(echo) as port:
        at_once, later = await talk(port, head + body), await talk(port, head, body, pause=0.05)
    for answer in (at_once, later):
        assert answer.count(b"HTTP/1.1 ") == 1
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"the body has malformed chunks or trailers" in answer


async def test_malformed_chunks_end_an_answer_that_was_begun() -> None:
    async def answer_at_once(_scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nst\r\n"
    async with served(answer_at_once) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        answer = await reader.readuntil(b"5\r\nfirst\r\n")
        writer.write(b"-1\r\n")
        answer += await asyncio.wait_for(reader.read(), 60)
        writer.close()
    assert answer.endswith(b"5\r\nfirst\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_two_hosts_are_refused_and_an_address_without_a_path_is_the_root() -> None:
    async with served(echo) as port:
        two = await talk(port, b"GET /x HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", LAST)
        root = await talk(port, b"GET http://a?b=c HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert two.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"more than one Host header" in two
    assert root.endswith(b"GET /?b=c ")


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

    async with served(app, Limits(body_seconds=2)) as port:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nConnection: close\r\n\r\n"
        # Together the pieces take longer than the limit, each by itself a small part of it.
        pieces = [b"%d" % number for number in range(1, 10)]
        assert (await talk(port, head, *pieces, pause=0.25)).endswith(b"123456789")
        assert (await talk(port, head, b"123")).startswith(b"HTTP/1.1 408 ")
    assert "BODY_TIMEOUT" in str(late[0])


async def echo_headers(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the headers as they are when the body is complete."""
    async for _ in body_pieces(receive):
        pass
    text = b"\n".join(b"%b=%b;" % header for header in scope["headers"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]})
    await send({"type": "http.response.body", "body": text})


@pytest.mark.parametrize("pause", [0.0, 0.05])
async def test_trailers_are_no_headers_and_blanks_around_a_value_are_no_part_of_it(pause: float) -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nIdempotency-Key: \t kk \t\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"2\r\nst\r\n0\r\nIdempotency-Key: other\r\nAuthorization: Bearer x\r\n\r\n"
    async with served(echo_headers) as port:
        answer = await talk(port, head, body + LAST, pause=pause) if pause else await talk(port, head + body + LAST)
    assert b"idempotency-key=kk;" in answer
    assert b"other" not in answer
    assert b"authorization" not in answer


@pytest.mark.parametrize("before", [b"", b"GET /before HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_an_upgrade_is_ignored_and_refused_where_the_parser_would_leave_out_a_body(before: bytes) -> None:
    upgrade = b"Host: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
    async with served(echo) as port:
        with_body = await talk(port, before + b"POST / HTTP/1.1\r\nContent-Length: 4\r\n" + upgrade + b"\r\nbody")
        without = await talk(port, before + b"GET /x HTTP/1.1\r\n" + upgrade + b"\r\n")
    assert with_body.count(b"HTTP/1.1 ") == without.count(b"HTTP/1.1 ") == 2 - (not before)
    assert b"HTTP/1.1 400 Bad Request\r\n" in with_body
    assert b"Upgrade" in with_body
    assert without.endswith(b"GET /x? ")


async def test_a_client_that_is_gone_before_it_is_seen_leaves_no_connection_behind() -> None:
    async with served(echo) as port:
        for _ in range(200):
            with socket.create_connection(("127.0.0.1", port)) as gone:
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await asyncio.sleep(0.1)
        assert await talk(port, LAST)
        fds = [os.readlink(path) for path in glob.glob("/proc/self/fd/*") if os.path.exists(path)]  # noqa: ASYNC240, PTH110, PTH115, PTH207 (short)
    assert sum(fd.startswith("socket:") for fd in fds) < 50


async def test_a_body_in_very_small_chunks_comes_in_few_pieces() -> None:
    pieces: list[int] = []

    async def count(_scope: Scope, receive: Receive, send: Send) -> None:
        pieces.extend([len(piece) async for piece in body_pieces(receive)])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with served(count) as port:
        await talk(port, head + b"2\r\nab\r\n" * 20_000 + b"0\r\n\r\n")
    assert sum(pieces) == 40_000
    assert len(pieces) < 100


@pytest.mark.parametrize("rest", [b"nonsense\r\n\r\n", b"GET / HT"])
async def test_a_request_is_answered_even_if_invalid_bytes_follow_it(rest: bytes) -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.4)
        await echo(scope, receive, send)

    async with served(slow, Limits(header_seconds=0.2)) as port:
        answer = await talk(port, b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok" + rest)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"POST /a? ok" in answer


HANDSHAKE = (
    b"GET /socket HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
#: Frames of a client with the mask 0: the text `strain`, and a close with the code 1000.
TEXT, CLOSE = b"\x81\x86\0\0\0\0strain", b"\x88\x82\0\0\0\0\x03\xe8"


async def echo_once(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await echo(scope, receive, send)
        return
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": (await receive())["text"]})
    await send({"type": "websocket.close"})


async def test_a_handshake_may_follow_a_request_and_frames_may_come_in_pieces() -> None:
    async with served(echo_once) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /first HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"GET /first? ")
        writer.write(HANDSHAKE + b"\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        for part in (TEXT[:3], TEXT[3:]):
            writer.write(part)
            await asyncio.sleep(0.05)
        assert await reader.readexactly(12) == b"\x81\x06strain\x88\x02\x03\xe8"
        writer.write(CLOSE)
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()


@pytest.mark.parametrize(
    "changed",
    [
        (b"/socket", b"/other"),
        (b"GET", b"POST"),
        (b"WebSocket\r\n", b"h2c\r\n"),
        (b": 13", b": 8"),
        (b"Sec-WebSocket-Key", b"Other"),
        (b"Upgrade\r\n", b"close\r\n"),
    ],
)
async def test_what_is_no_handshake_is_answered_as_a_request(changed: tuple[bytes, bytes]) -> None:
    async with served(echo_once) as port:
        answer = await talk(port, HANDSHAKE.replace(*changed) + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_a_handshake_with_too_long_a_header_is_refused_with_a_problem() -> None:
    async with served(echo_once) as port:
        answer = await talk(port, HANDSHAKE + b"Cookie: " + b"x" * 10_000 + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"handshake" in answer


async def test_a_websocket_counts_as_a_connection_until_it_is_closed() -> None:
    async with served(echo_once, Limits(connections=1)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HANDSHAKE + b"\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        for request in (LAST, HANDSHAKE + b"\r\n"):
            answer = await talk(port, request)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"too-many-connections" in answer
        writer.write(TEXT + CLOSE)
        assert (await reader.read()).endswith(b"\x88\x02\x03\xe8")
        writer.close()
        with anyio.fail_after(60):  # until the server has seen the end
            while b"too-many-connections" in (answer := await talk(port, LAST)):
                pass
        assert answer.endswith(b"GET /last? ")


async def echo_all(_: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while "text" in (message := await receive()):
        await send({"type": "websocket.send", "text": message["text"]})


async def test_a_websocket_is_not_read_while_its_client_does_not_read() -> None:
    pings = (b"\x89\xfd\0\0\0\0" + b"p" * 125) * 2000
    async with served(echo_all) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HANDSHAKE + b"\r\n")
        await reader.readuntil(b"\r\n\r\n")
        taken = 0
        with suppress(TimeoutError):
            while taken < 100:
                writer.write(pings)
                async with asyncio.timeout(1):
                    await writer.drain()
                taken += 1
        assert taken < 100, "26 MB of pings were taken"
        writer.write(TEXT)
        async with asyncio.timeout(60):  # once it reads, all of them are answered
            end = b""
            while end != b"\x81\x06strain":
                end = (end + await reader.read(2**16))[-8:]
            writer.write(CLOSE)
            assert await reader.read() == b"\x88\x02\x03\xe8"
        writer.close()


async def test_the_application_says_why_a_websocket_is_closed_when_the_server_stops() -> None:
    stopping = asyncio.Event()

    async def say_why(_: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await stopping.wait()
        await send({"type": "websocket.close", "code": 1001, "reason": "why"})

    async with served(say_why) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HANDSHAKE + b"\r\n")
        await reader.readuntil(b"\r\n\r\n")
        asyncio.get_running_loop().call_later(0.5, stopping.set)  # the server looks for its end every 0.1 s
    assert await reader.read() == b"\x88\x05\x03\xe9why"
    writer.close()
