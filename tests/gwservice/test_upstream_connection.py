"""Requests are encoded, and answers parsed, by the rules of HTTP/1.1."""

import asyncio
import time
from unittest.mock import Mock

import pytest

from gwservice.upstream_connection import Origin, UpstreamConnection, header_lines, quote_target
from tests.support.raw_server import BROKEN, FRAMINGS, OK

pytestmark = pytest.mark.anyio


def connection() -> UpstreamConnection:
    made = UpstreamConnection()
    made.connection_made(Mock())
    return made


async def test_an_address_without_a_port_has_its_schemes() -> None:
    assert Origin.parse("http://buffer")[1:3] == (80, False)
    assert Origin.parse("https://buffer")[1:3] == (443, True)
    assert Origin.parse("http://[::1]:8080").host == "::1"
    assert Origin.parse("http://buffer.example:8080/base")[3:] == (b"buffer.example:8080", b"/base")


async def test_quoted_characters_of_a_target_stay_quoted_and_invalid_ones_are_quoted() -> None:
    quoted = quote_target("/segments/a%2Fb?x=1 2\r\nHost: evil&y=ü")
    assert quoted == b"/segments/a%2Fb?x=1%202%0D%0AHost:%20evil&y=%C3%BC"


@pytest.mark.parametrize("value", [b"a\r\nX: y", b"a\nX: y", b"a\rX: y", b"a\0"])
async def test_a_header_with_a_line_break_is_refused(value: bytes) -> None:
    with pytest.raises(ValueError, match="line break"):
        header_lines([(b"idempotency-key", value)])


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_an_answer_is_the_same_in_any_pieces(framing: str) -> None:
    text = b"".join(FRAMINGS[framing])
    for cut in range(1, len(text)):
        receiving = connection()
        answer = receiving.answer
        for piece in (text[:cut], text[cut:]):
            assert not answer.complete
            receiving.data_received(piece)
        if framing == "until the end":
            assert not answer.complete
            receiving.connection_lost(None)
        assert (answer.status, answer.header(b"etag"), answer.take()) == (200, "x", b"strain")
        assert answer.complete
        assert receiving.usable == (framing != "until the end")


@pytest.mark.parametrize("what", BROKEN)
async def test_an_incomplete_answer_never_looks_complete(what: str) -> None:
    receiving = connection()
    receiving.data_received(BROKEN[what])
    receiving.connection_lost(None)
    assert not receiving.answer.complete
    assert not receiving.usable


async def test_an_answer_that_comes_with_the_end_of_the_time_is_an_answer() -> None:
    receiving = connection()
    waiting = asyncio.create_task(receiving.wait_for_progress(0.01))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(receiving.data_received, OK)
    time.sleep(0.02)  # noqa: ASYNC251 (the process got no CPU)
    await waiting
    assert (receiving.answer.complete, receiving.usable) == (True, True)


async def test_an_answer_that_ends_its_connection_says_so() -> None:
    receiving = connection()
    receiving.data_received(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
    assert receiving.answer.complete
    assert not receiving.usable


@pytest.mark.parametrize("surplus", [OK, b"nonsense"])
async def test_bytes_after_an_answer_make_the_connection_unusable_but_not_the_answer(surplus: bytes) -> None:
    receiving = connection()
    receiving.data_received(OK + surplus)
    answer = receiving.answer
    assert (answer.complete, answer.status, answer.take(), receiving.usable) == (True, 200, b"ok", False)
