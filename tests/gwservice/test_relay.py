"""The headers and bodies that a relay passes on."""

import asyncio
import threading
from contextlib import closing

import pytest

from gwservice.asgi_types import Message, Scope
from gwservice.correlation import RequestContext, set_current_request
from gwservice.relay import MemoryFull, Relay
from gwservice.upstream import Upstream, UpstreamInvalid
from tests.support.raw_server import ServerConnection, raw_server

pytestmark = pytest.mark.anyio
MEGABYTE = 1 << 20


def scope(method: str = "GET", path: bytes = b"/later/a%2Fb", query: bytes = b"x=1") -> Scope:
    return {"type": "http", "method": method, "raw_path": path, "query_string": query}


async def body() -> Message:
    return {"type": "http.request", "body": b"order", "more_body": False}


class Client:
    """Stores what is sent to it, and reads no faster than it may."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.may_read = asyncio.Event()
        self.may_read.set()

    async def send(self, message: Message) -> None:
        await self.may_read.wait()
        self.messages.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])


def relay_to(upstream: Upstream) -> Relay:
    return Relay(upstream, max_body=100)


async def test_a_request_is_passed_on_as_it_came_with_the_headers_that_travel() -> None:
    heads: list[bytes] = []

    def listens(talk: ServerConnection) -> None:
        heads.append(talk.head())
        talk.exactly(5)
        talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: x\r\nServer: y\r\nSet-Cookie: z\r\n\r\nok")

    headers = {b"content-type": b"text/x", b"idempotency-key": b"k", b"cookie": b"c", b"authorization": b"secret"}
    client = Client()
    with raw_server(listens) as server, closing(Upstream(server.url, "dslogic")) as upstream:
        await relay_to(upstream).relay(RequestContext(headers), scope("PUT"), body, client.send)
    first, *lines = heads[0].split(b"\r\n")
    assert first == b"PUT /later/a%2Fb?x=1 HTTP/1.1"
    assert {b"content-type: text/x", b"idempotency-key: k", b"content-length: 5"} <= set(lines)
    assert not [line for line in lines if line.startswith((b"cookie", b"authorization"))]
    assert client.messages[0]["headers"] == [(b"etag", b"x"), (b"content-length", b"2")]
    assert client.body == b"ok"


async def test_a_problem_is_passed_back_unchanged_and_its_code_noted() -> None:
    problem = b'{"type":"","title":"","status":409,"code":"batch-changed","detail":"d","more":1}'

    def answers(talk: ServerConnection) -> None:
        talk.request()
        head = b"HTTP/1.1 409 Conflict\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n"
        talk.say(head % len(problem), problem[:10], problem[10:])

    client, request = Client(), RequestContext({})
    set_current_request(request)
    with raw_server(answers) as server, closing(Upstream(server.url, "dslogic")) as upstream:
        await relay_to(upstream).relay(request, scope(), body, client.send)
    assert (client.messages[0]["status"], client.body, request.outcome) == (409, problem, "batch-changed")


async def test_a_head_is_relayed_as_such_and_the_reason_of_one_that_fails_is_that_of_the_get() -> None:
    problem = b'{"type":"","title":"","status":503,"code":"on-tape","detail":"d"}'
    heads: list[bytes] = []

    def answers(talk: ServerConnection) -> None:
        for status, body in ((b"200 OK", b""), (b"503 no", b""), (b"503 no", problem)):
            heads.append(talk.head().partition(b" ")[0])
            talk.exactly(0)
            kind = b"Content-Type: application/problem+json\r\n" if status.startswith(b"5") else b""
            talk.say(b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n" % (status, kind, len(body) or 600), body)

    request = RequestContext({})
    request.is_head = True
    with raw_server(answers) as server, closing(Upstream(server.url, "dslogic")) as upstream:
        first, second = Client(), Client()
        await relay_to(upstream).relay(request, scope("GET"), body, first.send)
        assert first.messages == [
            {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"600")]}
        ]
        set_current_request(request)
        await relay_to(upstream).relay(request, scope("GET"), body, second.send)
    assert (second.messages[0]["status"], second.body, request.outcome) == (503, problem, "on-tape")
    assert heads == [b"HEAD", b"HEAD", b"GET"], "over one connection"


async def test_a_head_of_an_answer_that_may_wait_is_relayed_as_such_too() -> None:
    heads: list[bytes] = []

    def answers(talk: ServerConnection) -> None:
        heads.append(talk.head().partition(b" ")[0])
        talk.exactly(0)
        talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n", b"")

    request = RequestContext({})
    request.is_head = True
    with raw_server(answers) as server, closing(Upstream(server.url, "dslogic")) as upstream:
        await Relay(upstream, max_body=100, until_gone=True).relay(request, scope("GET"), body, Client().send)
    assert heads == [b"HEAD"]


async def test_an_error_without_a_problem_document_is_not_relayed() -> None:
    def answers(talk: ServerConnection) -> None:
        talk.request()
        talk.say(b"HTTP/1.1 404 Not Found\r\nContent-Length: 1000\r\n\r\n<html>")

    client = Client()
    with (
        raw_server(answers) as server,
        closing(Upstream(server.url, "dslogic")) as upstream,
        pytest.raises(UpstreamInvalid, match="404 without a problem document"),
    ):
        await relay_to(upstream).relay(RequestContext({}), scope(), body, client.send)
    assert client.messages == []


async def test_a_large_answer_is_read_no_faster_than_the_client_reads_it() -> None:
    said = threading.Event()

    def sends_a_large_answer(talk: ServerConnection) -> None:
        talk.request()
        talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * MEGABYTE), *[bytes(MEGABYTE)] * 64)
        said.set()

    client = Client()
    client.may_read.clear()
    with raw_server(sends_a_large_answer) as server, closing(Upstream(server.url, "dslogic")) as upstream:
        relaying = asyncio.create_task(
            relay_to(upstream).relay(RequestContext({}), scope(query=b""), body, client.send)
        )
        assert not await asyncio.to_thread(said.wait, 0.3)
        client.may_read.set()
        await relaying
    assert sum(len(message["body"]) for message in client.messages[1:]) == 64 * MEGABYTE
    assert (b"content-length", b"%d" % (64 * MEGABYTE)) in client.messages[0]["headers"]


@pytest.mark.parametrize("declared", [True, False])
async def test_bodies_beyond_the_memory_limit_are_refused_until_others_are_answered(*, declared: bool) -> None:
    answering = threading.Event()

    def answers_later(talk: ServerConnection) -> None:
        talk.request()
        answering.wait(20)
        talk.say(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")

    async def large() -> Message:
        return {"type": "http.request", "body": b"." * 100, "more_body": False}

    headers = {b"content-length": b"100"} if declared else {}
    with (
        raw_server(*[answers_later] * 5) as server,
        closing(Upstream(server.url, "dslogic")) as upstream,
    ):
        relay = relay_to(upstream)
        asked = [asyncio.create_task(relay.ask(RequestContext(headers), large, b"/stream")) for _ in range(4)]
        await asyncio.sleep(0.05)
        with pytest.raises(MemoryFull, match="the bodies in memory have reached their limit of 400 bytes") as refused:
            await relay.ask(RequestContext(headers), large, b"/stream")
        assert (refused.value.problem().status, refused.value.retry_after) == (503, 1)
        answering.set()
        assert [answer.body() for answer in await asyncio.gather(*asked)] == [b"ok"] * 4
        assert (await relay.ask(RequestContext(headers), large, b"/stream")).status == 200


async def test_a_sender_that_only_declares_a_large_body_takes_no_memory_of_others() -> None:
    def answers(talk: ServerConnection) -> None:
        talk.request()
        talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def nothing() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def small() -> Message:
        return {"type": "http.request", "body": b".", "more_body": False}

    with raw_server(answers) as server, closing(Upstream(server.url, "dslogic")) as upstream:
        relay = Relay(upstream, max_body=1_000_000)
        declared = RequestContext({b"content-length": b"1000000"})
        idle = [asyncio.create_task(relay.ask(declared, nothing, b"/stream")) for _ in range(4)]
        await asyncio.sleep(0.05)
        assert (await relay.ask(RequestContext({b"content-length": b"1"}), small, b"/stream")).status == 200
        for each in idle:
            each.cancel()
        await asyncio.gather(*idle, return_exceptions=True)
