"""The client of the next service, against servers with every kind of behaviour."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, closing
from pathlib import Path

import pytest

from gwservice import upstream_connection
from gwservice.body import ClientGone
from gwservice.correlation import RequestContext, set_current_request
from gwservice.security import CallerSecret
from gwservice.upstream import Upstream, UpstreamInvalid, UpstreamSilent, UpstreamUnreachable
from scripts.trio import free_ports
from tests.support.raw_server import (
    BROKEN,
    FRAMINGS,
    OK,
    RawServer,
    Script,
    ServerConnection,
    answers_always,
    answers_once,
    closes_without_answer,
    never_answers,
    raw_server,
)

pytestmark = pytest.mark.anyio
MEGABYTE = 1 << 20


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


def framed(chunk: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(chunk), chunk)


def connections_to(server: RawServer, seconds: float = 60, most: int = 4) -> closing[Upstream]:
    return closing(Upstream(server.url, "dslogic", most=most, seconds=seconds))


async def post(to: Upstream, body: bytes = b"segment") -> bytes:
    answer = await to.request(b"POST", b"/stream", b"", [body])
    assert answer.status == 200
    return answer.take()


async def wait_for(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 60)


async def test_requests_share_as_many_connections_as_there_may_be() -> None:
    with raw_server(answers_always) as server, connections_to(server, most=1) as to:
        assert await asyncio.gather(*(post(to, b"%d" % number) for number in range(8))) == [b"ok"] * 8
        assert sorted(server.requests) == [b"%d" % number for number in range(8)]


def closes_after_the_answer(talk: ServerConnection) -> None:
    answers_once(talk)
    talk.say(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize("first", [answers_once, closes_after_the_answer])
async def test_a_connection_that_dslogic_closed_is_not_used_again(first: Script) -> None:
    with raw_server(first, answers_always) as server, connections_to(server) as to:
        await post(to, b"1")
        await wait_for(server.ended[0])
        await asyncio.sleep(0.05)  # the event loop notices it
        assert await post(to, b"2") == b"ok"
        assert server.requests == [b"1", b"2"]


async def test_a_connection_that_was_idle_for_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_server(answers_always, answers_always) as server, connections_to(server) as to:
        await post(to, b"1")
        monkeypatch.setattr(upstream_connection, "_IDLE_SECONDS", 0.0)
        await post(to, b"2")
        await wait_for(server.ended[0])


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_an_answer_is_read_in_every_framing(framing: str) -> None:
    def answer(talk: ServerConnection) -> None:
        talk.request()
        talk.say(*FRAMINGS[framing])

    with raw_server(answer) as server, connections_to(server) as to:
        assert await post(to) == b"strain"


@pytest.mark.parametrize("what", BROKEN)
async def test_an_incomplete_answer_is_reported_as_a_broken_connection(what: str) -> None:
    def answer(talk: ServerConnection) -> None:
        talk.request()
        talk.say(BROKEN[what])

    with raw_server(answer) as server, connections_to(server) as to, pytest.raises(UpstreamUnreachable, match="broke"):
        await post(to)


@pytest.mark.parametrize("paced", [False, True])
async def test_a_question_is_asked_again_where_the_connection_breaks_and_an_order_is_not(*, paced: bool) -> None:
    async def ask(to: Upstream, method: bytes) -> bytes:
        if not paced:
            return (await to.request(method, b"/stat")).take()
        return b"".join([answer.take() async for answer in to.converse(method, b"/stat", b"")])

    with (
        raw_server(closes_without_answer, closes_without_answer, answers_always) as server,
        connections_to(server) as to,
    ):
        with pytest.raises(UpstreamUnreachable):
            await ask(to, b"POST")
        assert await ask(to, b"GET") == b"ok"
        assert len(server.requests) == 3


async def test_a_question_is_not_asked_again_once_its_answer_began() -> None:
    def sends_half_an_answer(talk: ServerConnection) -> None:
        talk.request()
        talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nst")

    with raw_server(sends_half_an_answer, answers_always) as server, connections_to(server) as to:
        with pytest.raises(UpstreamUnreachable):
            [answer.take() async for answer in to.converse(b"GET", b"/segments/a", b"")]
        assert len(server.requests) == 1


async def test_a_request_carries_the_secret_the_id_and_the_trace_of_the_one_it_is_sent_for(tmp_path: Path) -> None:
    heads: list[bytes] = []

    def listens(talk: ServerConnection) -> None:
        heads.append(talk.head())
        talk.say(OK)

    (tmp_path / "secret").write_text("a-secret-of-two-tiers")
    trace = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    set_current_request(RequestContext({b"x-request-id": b"abc", b"traceparent": trace}))
    with raw_server(listens) as server:
        secret = CallerSecret(tmp_path / "secret")
        with closing(Upstream(f"{server.url}/base/", "dslogic", secret=secret)) as to:
            await to.request(b"GET", b"stat?a=1", b"range: bytes=0-1\r\n")
    first, *lines = heads[0].decode().split("\r\n")
    assert first == "GET /base/stat?a=1 HTTP/1.1"
    assert {
        f"host: {server.url[7:]}",
        "authorization: Bearer a-secret-of-two-tiers",
        "x-request-id: abc",
        f"traceparent: {trace.decode()}",
        "range: bytes=0-1",
    } <= set(lines)


async def test_an_upstream_that_refuses_this_tier_does_not_refuse_the_client() -> None:
    def refuses(talk: ServerConnection) -> None:
        talk.request()
        talk.say(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")

    with (
        raw_server(refuses) as server,
        closing(Upstream(server.url, "dslogic", setting="LOGIC_SECRET_FILE")) as to,
        pytest.raises(UpstreamInvalid, match="LOGIC_SECRET_FILE"),
    ):
        await to.request(b"GET", b"/stat")


async def test_it_is_spoken_over_tls_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    if not (openssl := shutil.which("openssl")):
        pytest.skip("openssl, which makes the certificate, is not installed")
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    place = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    await asyncio.to_thread(subprocess.run, [*command, *place], check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with raw_server(answers_always, tls=context) as server, connections_to(server) as to:
        assert await post(to, bytes(4 * MEGABYTE)) == b"ok"
        parts = [answer.take() async for answer in to.converse(b"POST", b"/stream", b"", lines(8))]
        assert b"".join(parts) == b"ok"
        assert await post(to) == b"ok"


async def test_a_refused_connection_is_reported_as_unreachable() -> None:
    nobody = Upstream(f"http://127.0.0.1:{free_ports().logic}", "dslogic", most=1)
    with pytest.raises(UpstreamUnreachable, match="cannot be reached"):
        await post(nobody)


async def test_dslogic_that_sends_nothing_is_reported_as_a_timeout() -> None:
    with raw_server(never_answers, answers_always) as server, connections_to(server, seconds=0.5, most=1) as to:
        with pytest.raises(UpstreamSilent):
            await post(to)
        to._seconds = 60  # noqa: SLF001 (the next answer has time)
        assert await post(to) == b"ok"


async def test_a_refusal_is_received_before_the_whole_body_is_sent_and_ends_the_connection() -> None:
    def refuses_at_once(talk: ServerConnection) -> None:
        talk.head()
        talk.say(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\ntoo")
        talk.rest()

    with raw_server(refuses_at_once, answers_always) as server, connections_to(server) as to:
        async with aclosing(to.converse(b"POST", b"/stream", b"", lines(512))) as answers:
            seen = [(answer.status, answer.take()) async for answer in answers]
        assert seen == [(413, b"too")]
        await wait_for(server.ended[0])
        assert await post(to) == b"ok"


async def lines(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        await asyncio.sleep(0)  # as for received data; otherwise all could be sent before anything is received
        yield bytes(256 * 1024)


async def test_a_long_body_and_a_long_answer_pass_each_other() -> None:
    def answers_while_it_reads(talk: ServerConnection) -> None:
        talk.head()
        talk.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[framed(bytes(MEGABYTE))] * 32)
        talk.until(b"\r\n0\r\n\r\n")
        talk.say(framed(b"all"), b"0\r\n\r\n")

    with raw_server(answers_while_it_reads, answers_always) as server, connections_to(server) as to:
        taken = [len(answer.take()) async for answer in to.converse(b"POST", b"/stream", b"", lines(40))]
        assert sum(taken) == 32 * MEGABYTE + 3


async def test_an_answer_is_taken_no_faster_than_it_is_wanted() -> None:
    said = threading.Event()

    def sends_a_large_answer(talk: ServerConnection) -> None:
        talk.request()
        talk.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[framed(bytes(MEGABYTE))] * 64)
        said.set()
        talk.say(b"0\r\n\r\n")

    with raw_server(sends_a_large_answer) as server, connections_to(server) as to:
        async with aclosing(to.converse(b"POST", b"/stream", b"", lines(1))) as answers:
            size = len((await anext(answers)).take())
            assert not await asyncio.to_thread(said.wait, 0.3)
            async for answer in answers:
                size += len(answer.take())
        assert size == 64 * MEGABYTE
        assert said.is_set()


async def test_a_body_is_read_no_faster_than_dslogic_takes_it() -> None:
    asked = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal asked
        async for line in lines(4096):
            asked += 1
            yield line

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        to = Upstream(f"http://127.0.0.1:{deaf.getsockname()[1]}", "dslogic", most=1, seconds=2)
        with pytest.raises(UpstreamSilent):
            await anext(to.converse(b"POST", b"/stream", b"", counted()))
    assert 0 < asked < 256


async def test_a_client_that_stops_reading_an_answer_is_disconnected() -> None:
    def answers_slowly(talk: ServerConnection) -> None:
        talk.request()
        talk.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", framed(b"first"))
        talk.rest()

    with raw_server(answers_slowly, answers_always) as server, connections_to(server, most=1) as to:
        async with aclosing(to.converse(b"POST", b"/stream", b"", lines(1))) as answers:
            assert (await anext(answers)).status == 200
        await wait_for(server.ended[0])
        assert await post(to) == b"ok"


async def test_a_request_that_is_given_up_ends_its_connection() -> None:
    asked = threading.Event()

    def takes_the_request(talk: ServerConnection) -> None:
        talk.request()
        asked.set()
        talk.rest()

    with raw_server(takes_the_request, answers_always) as server, connections_to(server, most=1) as to:
        asking = asyncio.create_task(post(to))
        await wait_for(asked)
        asking.cancel()
        await asyncio.wait([asking])
        await wait_for(server.ended[0])
        assert await post(to) == b"ok"


async def test_a_disconnected_client_is_not_reported_as_an_error_of_dslogic_and_its_body_never_looks_complete() -> None:
    received = []

    def listens(talk: ServerConnection) -> None:
        talk.head()
        talk.until(bytes(1024))
        received.append(talk.rest())

    async def interrupted_body() -> AsyncIterator[bytes]:
        yield bytes(1024)
        await asyncio.sleep(0.1)
        raise ClientGone

    with raw_server(listens) as server, connections_to(server) as to:
        with pytest.raises(ClientGone):
            await anext(to.converse(b"POST", b"/stream", b"", interrupted_body()))
        await wait_for(server.ended[0])
    assert received == [len(b"\r\n")]


async def test_a_slow_answer_is_waited_for() -> None:
    def answer(talk: ServerConnection) -> None:
        talk.request()
        for byte in OK:
            talk.say(bytes([byte]))

    with raw_server(answer) as server, connections_to(server) as to:
        assert await post(to) == b"ok"
