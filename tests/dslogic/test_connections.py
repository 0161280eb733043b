"""The connections to the buffer, against servers that behave in every way a server can."""

import shutil
import socket
import ssl
import subprocess
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from dslogic.connections import Connections
from dslogic.errors import BufferSilent, BufferUnreachable
from gwservice.http1 import framed

from dslogic import connections
from dslogic.buffer_client import BufferClient
from dslogic.settings import LogicSettings
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

MEGABYTE = 1 << 20


def connections_to(server: RawServer, seconds: float = 20) -> Connections:
    return Connections(server.url, kept=4, seconds=seconds)


def post(to: Connections, body: bytes = b"segment") -> bytes:
    answer = to.ask("POST", "/sendF", {}, deque([body]))
    assert answer.status == 200
    return answer.take()


def test_a_connection_is_kept_for_the_next_request() -> None:
    with raw_server(answers_always) as server:
        to = connections_to(server)
        assert [post(to, b"1"), post(to, b"2")] == [b"ok", b"ok"]
        assert server.requests == [b"1", b"2"]
        del to


def says_goodbye(talk: Talk) -> None:
    answers_once(talk)
    talk.say(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize("first", [answers_once, says_goodbye])
def test_a_connection_that_the_buffer_closed_is_not_used_again(first: Script) -> None:
    with raw_server(first, answers_always) as server:
        to = connections_to(server)
        post(to, b"1")
        assert server.ended[0].wait(10)
        assert post(to, b"2") == b"ok"
        assert server.requests == [b"1", b"2"]
        del to


def test_a_connection_that_was_idle_for_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with raw_server(answers_always, answers_always) as server:
        to = connections_to(server)
        post(to, b"1")
        monkeypatch.setattr(connections, "_IDLE_SECONDS", 0.0)
        post(to, b"2")
        assert server.ended[0].wait(10)
        del to


@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_answer_is_read_however_it_is_framed(framing: str) -> None:
    def answer(talk: Talk) -> None:
        talk.request()
        talk.say(*FRAMINGS[framing])

    with raw_server(answer) as server:
        assert post(connections_to(server)) == b"strain"


@pytest.mark.parametrize("what", BROKEN)
def test_an_answer_that_is_none_is_told_as_a_broken_connection(what: str) -> None:
    def answer(talk: Talk) -> None:
        talk.request()
        talk.say(BROKEN[what])

    with raw_server(answer) as server, pytest.raises(BufferUnreachable, match="broke"):
        post(connections_to(server))


def test_a_question_is_asked_again_where_the_connection_breaks_and_an_order_is_not() -> None:
    with raw_server(hangs_up, answers_once, hangs_up, answers_once) as server:
        buffer = BufferClient(LogicSettings.model_validate({"DB_BURL": server.url}))
        assert buffer.get("/stat").body == b"ok"
        assert server.ended[1].wait(10)
        with pytest.raises(BufferUnreachable):
            buffer.clean()
        assert len(server.requests) == 3


def test_nobody_there_is_told_as_unreachable() -> None:
    nobody = Connections(f"http://127.0.0.1:{free_ports().buffer}", kept=1, seconds=1)
    with pytest.raises(BufferUnreachable, match="cannot be reached"):
        post(nobody)


def test_a_buffer_that_says_nothing_is_told_as_silent() -> None:
    with raw_server(is_silent) as server, pytest.raises(BufferSilent):
        post(connections_to(server, seconds=0.2))


def test_a_buffer_that_takes_nothing_is_told_as_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        to = Connections(f"http://127.0.0.1:{deaf.getsockname()[1]}", kept=1, seconds=0.2)
        with pytest.raises(BufferSilent):
            post(to, bytes(64 * MEGABYTE))


def test_a_slow_answer_is_waited_for_as_long_as_something_comes() -> None:
    def answer(talk: Talk) -> None:
        talk.request()
        for byte in OK:
            talk.say(bytes([byte]))

    with raw_server(answer) as server:
        assert post(connections_to(server, seconds=5)) == b"ok"


def refuses_at_once(talk: Talk) -> None:
    talk.head()
    talk.say(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\ntoo")
    talk.rest()


def test_a_refusal_is_heard_before_all_is_sent_and_ends_the_connection() -> None:
    with raw_server(refuses_at_once, answers_always) as server:
        to = connections_to(server)
        answer = to.ask("POST", "/sendF", {}, deque([bytes(256 * MEGABYTE)]))
        assert (answer.status, answer.take()) == (413, b"too")
        assert server.ended[0].wait(10)
        assert post(to) == b"ok"
        del to


def lines(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield bytes(256 * 1024)


def test_a_long_body_and_a_long_answer_pass_each_other() -> None:
    part = bytes(MEGABYTE)

    def answers_while_it_reads(talk: Talk) -> None:
        talk.head()
        talk.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[framed(part)] * 32)
        talk.until(b"\r\n0\r\n\r\n")
        talk.say(framed(b"all"), b"0\r\n\r\n")

    with raw_server(answers_while_it_reads) as server:
        taken = [answer.take() for answer in connections_to(server).converse("/sendF", {}, lines(40))]
        assert sum(map(len, taken)) == 32 * MEGABYTE + 3


def test_who_stops_taking_an_answer_ends_the_connection() -> None:
    closed = []

    def answers_slowly(talk: Talk) -> None:
        talk.request()
        talk.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", framed(b"first"))
        closed.append(talk.rest())

    with raw_server(answers_slowly) as server:
        with closing(connections_to(server).converse("/sendF", {}, lines(1))) as answers:
            assert next(answers).status == 200
        assert server.ended[0].wait(10)
    assert closed == [0]


def test_a_body_whose_sender_goes_away_is_never_ended_as_if_it_were_complete() -> None:
    received = []

    def listens(talk: Talk) -> None:
        talk.head()
        talk.until(bytes(1024))
        received.append(talk.rest())

    def breaks_off() -> Iterator[bytes]:
        yield bytes(1024)
        raise BrokenPipeError

    with raw_server(listens) as server:
        with pytest.raises(BrokenPipeError):
            list(connections_to(server).converse("/sendF", {}, breaks_off()))
        assert server.ended[0].wait(10)
    assert received == [len(b"\r\n")]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_body_of_any_number_of_chunks_comes_to_an_end(count: int) -> None:
    with raw_server(answers_once) as server:
        answers = list(connections_to(server).converse("/sendF", {}, lines(count)))
        assert answers[-1].complete
        assert server.requests[0].endswith(b"0\r\n\r\n")


def test_it_is_spoken_over_tls_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    if not (openssl := shutil.which("openssl")):
        pytest.skip("openssl, which makes the certificate, is not installed")
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    place = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *place], check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with raw_server(answers_always, tls=context) as server:
        to = connections_to(server)
        assert post(to, bytes(4 * MEGABYTE)) == b"ok"
        assert [answer.take() for answer in to.converse("/sendF", {}, lines(8))][-1] == b"ok"
        assert post(to) == b"ok"
        del to
