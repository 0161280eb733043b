import pytest
from gwservice.http1 import Answer, MalformedAnswer, Place, framed

from tests.support.raw_server import BROKEN, FRAMINGS, OK


def test_a_request_says_where_what_and_how_long() -> None:
    place = Place.of("http://buffer.example:8080/base")
    assert place.head("POST", "/sendF?a=1", {"Content-Type": "application/json"}, 7) == (
        b"POST /base/sendF?a=1 HTTP/1.1\r\nHost: buffer.example:8080\r\nContent-Length: 7\r\n"
        b"Content-Type: application/json\r\n\r\n"
    )
    assert b"Transfer-Encoding: chunked\r\n" in place.head("POST", "/", {}, None)
    assert b"Content-Length: 0\r\n" in place.head("POST", "/", {})
    assert b"Content-Length" not in place.head("GET", "/", {})


def test_an_address_without_a_port_has_its_schemes() -> None:
    assert Place.of("http://buffer")[1:3] == (80, False)
    assert Place.of("https://buffer")[1:3] == (443, True)
    assert Place.of("http://[::1]:8080").host == "::1"


def test_what_is_quoted_in_a_target_stays_so_and_what_may_not_stand_in_one_is_quoted() -> None:
    head = Place.of("http://buffer").head("GET", "/segments/a%2Fb?x=1 2\r\nHost: evil&y=ü", {})
    assert head.startswith(b"GET /segments/a%2Fb?x=1%202%0D%0AHost:%20evil&y=%C3%BC HTTP/1.1\r\n")


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nX: y", "a\rX: y", "a\0"])
def test_a_header_with_a_line_break_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        Place.of("http://buffer").head("POST", "/", {"Idempotency-Key": value})


def test_a_chunk_says_how_long_it_is() -> None:
    assert framed(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"


@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_answer_is_the_same_in_whatever_pieces_it_comes(framing: str) -> None:
    text = b"".join(FRAMINGS[framing])
    for cut in range(1, len(text)):
        answer = Answer()
        for piece in (text[:cut], text[cut:]):
            assert not answer.complete
            answer.feed(piece)
        if framing == "until the end":
            assert not answer.complete
            answer.end()
        assert (answer.status, answer.headers.get("Etag"), answer.take()) == (200, "x", b"strain")
        assert answer.complete
        assert answer.lasting == (framing != "until the end")


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_no_complete_answer_is_never_taken_for_one(what: str) -> None:
    def take_all() -> None:
        answer = Answer()
        answer.feed(BROKEN[what])
        answer.end()

    with pytest.raises(MalformedAnswer):
        take_all()


def test_an_answer_that_ends_its_connection_says_so() -> None:
    answer = Answer()
    answer.feed(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
    assert answer.complete
    assert not answer.lasting


@pytest.mark.parametrize("surplus", [OK, b"nonsense"])
def test_what_follows_an_answer_spoils_the_connection_and_not_the_answer(surplus: bytes) -> None:
    answer = Answer()
    answer.feed(OK + surplus)
    assert (answer.complete, answer.status, answer.take(), answer.lasting) == (True, 200, b"ok", False)
