import contextvars

import pytest

from gwservice.correlation import RequestContext, current_request, note_relayed, onward_lines, set_current_request
from gwwire.problems import ProblemCode, encode_problem, make_problem

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"


def request_of(name: str | None = "abc", traceparent: str = "", tracestate: str = "") -> RequestContext:
    given = {b"x-request-id": name, b"traceparent": traceparent, b"tracestate": tracestate}
    return RequestContext({key: value.encode("latin-1") for key, value in given.items() if value})


@pytest.fixture
def current() -> RequestContext:
    request = request_of("abc", TRACEPARENT, "vendor=1")
    set_current_request(request)
    return request


@pytest.mark.parametrize("name", ["a", "01JD-Z9_x.~:/+=@", "x" * 128])
def test_a_sane_name_is_kept(name: str) -> None:
    assert request_of(name).id == name


@pytest.mark.parametrize("name", [None, "", "x" * 129, "a b", "a\nb", "a\r\nSet-Cookie: x", "é", '{"a"}', "<b>", "a;b"])
def test_an_invalid_request_id_is_replaced_by_a_unique_one(name: str | None) -> None:
    made = {request_of(name).id for _ in range(100)}
    assert len(made) == 100
    assert all(len(each) == 32 and each.isalnum() for each in made)


def test_the_trace_context_goes_on_to_the_next_tier(current: RequestContext) -> None:
    assert current.trace_id == TRACE
    assert onward_lines().decode() == f"x-request-id: abc\r\ntraceparent: {TRACEPARENT}\r\ntracestate: vendor=1\r\n"


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "00",
        TRACEPARENT.upper(),
        TRACEPARENT + "-more",
        TRACEPARENT.replace(TRACE, "0" * 32),
        TRACEPARENT.replace("b7ad6b7169203331", "0" * 16),
        "ff" + TRACEPARENT[2:],
        TRACEPARENT + "\r\nX-Evil: 1",
    ],
)
def test_an_invalid_trace_context_is_not_passed_on(bad: str) -> None:
    request = request_of("abc", bad, "vendor=1")
    assert (request.trace_id, request.trace) == ("", {})


def test_without_a_request_nothing_is_added() -> None:
    nothing = contextvars.Context()
    assert nothing.run(current_request) is None
    assert nothing.run(onward_lines) == b""


def test_a_problem_of_a_lower_tier_is_noted_by_its_code(current: RequestContext) -> None:
    note_relayed(encode_problem(make_problem(ProblemCode.QUEUE_FULL, "full")))
    assert (current.outcome, current.detail) == ("queue-full", "full")


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'{"type":"","title":"","status":500,"code":"somebody-elses","detail":""}']
)
def test_an_unknown_problem_code_is_not_stored(current: RequestContext, body: bytes) -> None:
    note_relayed(body)
    assert current.outcome == ""
