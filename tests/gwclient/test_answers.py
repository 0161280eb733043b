import pytest

from gwclient.answers import decode_line, error_of
from gwclient.errors import GatewayRefused, GatewayUnavailable, UnexpectedAnswer
from gwwire.problems import ProblemCode, encode_problem, make_problem
from gwwire.public import StreamAnswer


def decode(line: bytes) -> object:
    return decode_line(line, "POST /streamdata", "http://gateway/streamdata")


def test_a_line_is_the_answer_that_a_segment_alone_would_get() -> None:
    assert decode(b'{"resp":"CREATED","body":"Written"}') == StreamAnswer("CREATED", "Written")
    assert decode(b'{"resp":"FROZEN","body":"frozen","later":1}') == StreamAnswer("FROZEN", "frozen")


@pytest.mark.parametrize(
    "code",
    [ProblemCode.VOLUME_FULL, ProblemCode.INVALID_SEGMENT, ProblemCode.KEY_REUSED, ProblemCode.QUOTA_EXCEEDED],
)
def test_a_line_may_be_a_refusal(code: ProblemCode) -> None:
    refusal = decode(encode_problem(make_problem(code, "so it is", field="h")))
    assert isinstance(refusal, GatewayRefused)
    assert (refusal.code, refusal.field) == (code, "h")
    assert str(refusal) == f"POST /streamdata answered {refusal.status}: so it is"


@pytest.mark.parametrize(
    "code",
    [
        *(ProblemCode.QUEUE_FULL, ProblemCode.UPSTREAM_TIMEOUT, ProblemCode.VOLUME_FAILED),
        *(ProblemCode.TOO_MANY_REQUESTS, ProblemCode.TOO_MANY_CONNECTIONS, ProblemCode.TIMEOUT),
    ],
)
def test_a_line_may_say_not_now(code: ProblemCode) -> None:
    assert isinstance(decode(encode_problem(make_problem(code, "later"))), GatewayUnavailable)


@pytest.mark.parametrize("line", [b"{}", b"[]", b'{"resp":"MAYBE"}', b'{"title":"no status"}', b"<html>", b"\xff"])
def test_a_line_that_is_no_answer_is_not_taken_for_one(line: bytes) -> None:
    with pytest.raises(UnexpectedAnswer, match="http://gateway/streamdata does not answer as a gateway"):
        decode(line)


def test_what_does_not_exist_is_distinguished_from_a_route_that_does_not() -> None:
    def told(detail: str) -> str:
        problem = make_problem(ProblemCode.NOT_FOUND, detail)
        return str(error_of("GET /records/file/a", 404, problem, source="http://gateway"))

    assert told("there is no record 'file/a'") == "GET /records/file/a answered 404: there is no record 'file/a'"
    assert "has no such route" in told("Not Found")
