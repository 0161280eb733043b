"""The connections to dslogic, against servers that behave in every way a server can."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing, closing

import pytest
from glitchflow_api.connections import Connections
from gwservice.http1 import framed
from starlette.requests import ClientDisconnect

from glitchflow_api import connections
from glitchflow_api.errors import LogicSilent, LogicUnreachable
from glitchflow_api.logic_client import LogicClient
from glitchflow_api.settings import GatewaySettings
from gwwire.datastore import FlushOrder
from scripts.trio import free_ports
from tests.support.raw_server import (
    BROKEN,
    FRAMINGS,
    OK,
    RawServer,
    Script,
    Talk,
    answers_always,
    answers_once,
    hangs_up,
    is_silent,
    raw_server,
)

pytestmark = pytest.mark.anyio
MEGABYTE = 1 << 20


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


def connections_to(server: RawServer, seconds: float = 20, most: int = 4) -> closing[Connections]:
    return closing(Connections(server.url, most, seconds))


async def post(to: Connections, body: bytes = b"segment") -> bytes:
    answer = await to.ask("POST", "/stream", {}, body)
    assert answer.status == 200
    return answer.take()


async def wait_for(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 10)


async def test_requests_share_as_many_connections_as_there_may_be() -> None:
    with raw_server(answers_always) as server, connections_to(server, most=1) as to:
        assert await asyncio.gather(*(post(to, b"%d" % number) for number in range(8))) == [b"ok"] * 8
        assert sorted(server.requests) == [b"%d" % number for number in range(8)]


def says_goodbye(talk: Talk) -> None:
    answers_once(talk)
    talk.say(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize("first", [answers_once, says_goodbye])
async def test_a_connection_that_dslogic_closed_is_not_used_again(first: Script) -> None:
    with raw_server(first, answers_always) as server, connections_to(server) as to:
        await post(to, b"1")
        await wait_for(server.ended[0])
        await asyncio.sleep(0.05)  # the event loop hears of it
        assert await post(to, b"2") == b"ok"
        assert server.requests == [b"1", b"2"]


async def test_a_connection_that_was_idle_for_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_server(answers_always, answers_always) as server, connections_to(server) as to:
        await post(to, b"1")
        monkeypatch.setattr(connections, "_IDLE_SECONDS", 0.0)
        await post(to, b"2")
        await wait_for(server.ended[0])


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_an_answer_is_read_however_it_is_framed(framing: str) -> None:
    def answer(talk: Talk) -> None:
        talk.request()
        talk.say(*FRAMINGS[framing])

    with raw_server(answer) as server, connections_to(server) as to:
        assert await post(to) == b"strain"


@pytest.mark.parametrize("what", BROKEN)
async def test_an_answer_that_is_none_is_told_as_a_broken_connection(what: str) -> None:
    def answer(talk: Talk) -> None:
        talk.request()
        talk.say(BROKEN[what])

    with raw_server(answer) as server, connections_to(server) as to, pytest.raises(LogicUnreachable, match="broke"):
        await post(to)


async def test_a_question_is_asked_again_where_the_connection_breaks_and_an_order_is_not() -> None:
    with raw_server(hangs_up, hangs_up, answers_always) as server:
        settings = GatewaySettings.model_validate({"DS_BURL": server.url})
        with closing(LogicClient(settings)) as logic:
            with pytest.raises(LogicUnreachable):
                await logic.flush(FlushOrder())
            assert (await logic.get("/bufstat")).body == b"ok"
            assert len(server.requests) == 3


async def test_nobody_there_is_told_as_unreachable() -> None:
    nobody = Connections(f"http://127.0.0.1:{free_ports().logic}", 1, 1)
    with pytest.raises(LogicUnreachable, match="cannot be reached"):
        await post(nobody)


async def test_dslogic_that_says_nothing_is_told_as_silent() -> None:
    with raw_server(is_silent, answers_always) as server, connections_to(server, seconds=0.2, most=1) as to:
        with pytest.raises(LogicSilent):
            await post(to)
        assert await post(to) == b"ok"


async def test_a_refusal_is_heard_before_all_is_sent_and_ends_the_connection() -> None:
    def refuses_at_once(talk: Talk) -> None:
        talk.head()
        talk.say(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\ntoo")
        talk.rest()

    with raw_server(refuses_at_once, answers_always) as server, connections_to(server) as to:
        async with aclosing(to.converse("/stream", {}, lines(512))) as answers:
            told = [(answer.status, answer.take()) async for answer in answers]
        assert told == [(413, b"too")]
        await wait_for(server.ended[0])
        assert await post(to) == b"ok"


async def lines(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(256 * 1024)


async def test_a_long_body_and_a_long_answer_pass_each_other() -> None:
    def answers_while_it_reads(talk: Talk) -> None:
        talk.head()
        talk.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[framed(bytes(MEGABYTE))] * 32)
        talk.until(b"\r\n0\r\n\r\n")
        talk.say(framed(b"all"), b"0\r\n\r\n")

    with raw_server(answers_while_it_reads, answers_always) as server, connections_to(server) as to:
        taken = [len(answer.take()) async for answer in to.converse("/stream", {}, lines(40))]
        assert sum(taken) == 32 * MEGABYTE + 3


async def test_an_answer_is_taken_no_faster_than_it_is_wanted() -> None:
    said = threading.Event()

    def says_much(talk: Talk) -> None:
        talk.request()
        talk.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[framed(bytes(MEGABYTE))] * 64)
        said.set()
        talk.say(b"0\r\n\r\n")

    with raw_server(says_much) as server, connections_to(server) as to:
        async with aclosing(to.converse("/stream", {}, lines(1))) as answers:
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
        to = Connections(f"http://127.0.0.1:{deaf.getsockname()[1]}", 1, 0.3)
        with pytest.raises(LogicSilent):
            await anext(to.converse("/stream", {}, counted()))
    assert 0 < asked < 256


async def test_who_stops_taking_an_answer_ends_the_connection() -> None:
    def answers_slowly(talk: Talk) -> None:
        talk.request()
        talk.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", framed(b"first"))
        talk.rest()

    with raw_server(answers_slowly, answers_always) as server, connections_to(server, most=1) as to:
        async with aclosing(to.converse("/stream", {}, lines(1))) as answers:
            assert (await anext(answers)).status == 200
        await wait_for(server.ended[0])
        assert await post(to) == b"ok"


async def test_a_request_that_is_given_up_ends_its_connection() -> None:
    with raw_server(is_silent, answers_always) as server, connections_to(server, most=1) as to:
        asking = asyncio.create_task(post(to))
        await asyncio.sleep(0.1)
        asking.cancel()
        await asyncio.wait([asking])
        await wait_for(server.ended[0])
        assert await post(to) == b"ok"


async def test_a_client_that_goes_away_is_no_problem_of_dslogics_and_its_body_is_never_ended_as_complete() -> None:
    received = []

    def listens(talk: Talk) -> None:
        talk.head()
        talk.until(bytes(1024))
        received.append(talk.rest())

    async def breaks_off() -> AsyncIterator[bytes]:
        yield bytes(1024)
        await asyncio.sleep(0.1)
        raise ClientDisconnect

    with raw_server(listens) as server, connections_to(server) as to:
        with pytest.raises(ClientDisconnect):
            await anext(to.converse("/stream", {}, breaks_off()))
        await wait_for(server.ended[0])
    assert received == [len(b"\r\n")]


async def test_a_slow_answer_is_waited_for() -> None:
    def answer(talk: Talk) -> None:
        talk.request()
        for byte in OK:
            talk.say(bytes([byte]))

    with raw_server(answer) as server, connections_to(server) as to:
        assert await post(to) == b"ok"
