"""Answers that a proxy cut off or garbled, and servers that are no gateway, in plain words."""

import asyncio

import pytest

from gwclient.cli import main
from gwclient.client import GlitchflowClient, Retry
from gwclient.errors import GatewayUnavailable
from scripts.trio import draw_ports
from tests.support.raw_server import BROKEN, Script, ServerConnection, raw_server

BODY = b'{"n_itm":1,"buff_size":2}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
LENGTH = b"Content-Length: 25\r\n"

CUT_OFF = "cut off its answer"
NO_HTTP = "does not answer in valid HTTP"
UNREADABLE = "answers with compressed data that cannot be read"
WITHOUT_ANSWER = "closed the connection without a complete answer"

ANSWERS = {
    "cut": (HEAD + LENGTH + b"\r\n" + BODY[:10], f"{CUT_OFF} (10 of 25 bytes)"),
    "too large a length": (HEAD + b"Content-Length: 99\r\n\r\n" + BODY, f"{CUT_OFF} (25 of 99 bytes)"),
    "chunks without an end": (BROKEN["chunks without an end"], CUT_OFF),
    "a bad chunk": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + BODY, NO_HTTP),
    "two lengths": (HEAD + LENGTH + b"Content-Length: 99\r\n\r\n" + BODY, NO_HTTP),
    "more than announced": (HEAD + b"Connection: close\r\nContent-Length: 5\r\n\r\n" + BODY, NO_HTTP),
    "no head": (b"<html>hello</html>", NO_HTTP),
    "TLS": (b"\x16\x03\x01\x02\x00 garbage\r\n\r\n", NO_HTTP),
    "no HTTP": (BROKEN["no HTTP"], NO_HTTP),
    "brotli": (
        HEAD + b"Content-Encoding: br\r\n" + LENGTH + b"\r\n" + BODY,
        "answers in an encoding (br) that was not asked for",
    ),
    "no gzip": (HEAD + b"Content-Encoding: gzip\r\n" + LENGTH + b"\r\n" + BODY, UNREADABLE),
    "nothing": (BROKEN["nothing"], WITHOUT_ANSWER),
    "half a head": (BROKEN["half a head"], WITHOUT_ANSWER),
}


def answering(answer: bytes) -> list[Script]:
    """Return scripts for the connections of one try: aiohttp may repeat a request without an answer."""

    def script(talk: ServerConnection) -> None:
        talk.request()
        talk.say(answer)

    return [script] * 5


def ask(url: str) -> object:
    async def work() -> object:
        async with GlitchflowClient(url, retry=Retry(tries=1)) as client:
            return await client.stats()

    return asyncio.run(work())


@pytest.mark.parametrize(("answer", "words"), ANSWERS.values(), ids=ANSWERS)
def test_a_broken_answer_is_described_in_plain_words(answer: bytes, words: str) -> None:
    with raw_server(*answering(answer)) as server, pytest.raises(GatewayUnavailable) as error:
        ask(server.url)
    assert str(error.value) == f"{server.url} {words} (after 1 try)"


def test_doctor_does_not_advise_to_start_a_server_that_answers(capsys: pytest.CaptureFixture[str]) -> None:
    def advice(url: str) -> str:
        with pytest.raises(SystemExit) as stop:
            main(["doctor", "--srv", url, "--tries", "1"])
        assert stop.value.code == 3
        return capsys.readouterr().out.splitlines()[-1].partition("; ")[2]

    with raw_server(*answering(BODY)) as server:
        assert advice(server.url) == "name another with --srv or SRV, or check what is in front of it"
    [port] = draw_ports(1)
    assert advice(f"127.0.0.1:{port}") == "name another with --srv or SRV, or start it"
