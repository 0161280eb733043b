import contextvars

import pytest

from gwservice.correlation import RequestInHand, in_hand, note_passed_on, take_in_hand, with_onward
from gwwire.problems import PROBLEM_TYPE, ProblemCode, encode_problem, make_problem

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
def request_in_hand() -> RequestInHand:
    request = RequestInHand("abc", TRACEPARENT, "vendor=1")
    take_in_hand(request)
    return request


@pytest.mark.parametrize("name", ["a", "01JD-Z9_x.~:/+=@", "x" * 128])
def test_a_sane_name_is_kept(name: str) -> None:
    assert RequestInHand(name).id == name


@pytest.mark.parametrize("name", [None, "", "x" * 129, "a b", "a\nb", "a\r\nSet-Cookie: x", "é", '{"a"}', "<b>", "a;b"])
def test_a_name_that_is_none_is_replaced_by_one_that_is_used_once(name: str | None) -> None:
    made = {RequestInHand(name).id for _ in range(100)}
    assert len(made) == 100
    assert all(len(each) == 32 and each.isalnum() for each in made)


def test_the_trace_context_goes_on_to_the_next_tier(request_in_hand: RequestInHand) -> None:
    assert request_in_hand.trace_id == TRACE
    onward = {"X-Request-ID": "abc", "traceparent": TRACEPARENT, "tracestate": "vendor=1"}
    assert with_onward({"Range": "bytes=0-1"}) == {"Range": "bytes=0-1", **onward}


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
def test_a_trace_context_that_is_none_goes_nowhere(bad: str) -> None:
    request = RequestInHand("abc", bad, "vendor=1")
    assert (request.trace_id, request.onward) == ("", {"X-Request-ID": "abc"})


def test_without_a_request_nothing_is_added() -> None:
    nothing = contextvars.Context()
    assert nothing.run(in_hand) is None
    assert nothing.run(with_onward, {"a": "b"}) == {"a": "b"}


def test_a_problem_of_a_lower_tier_is_noted_by_its_code(request_in_hand: RequestInHand) -> None:
    note_passed_on(f"{PROBLEM_TYPE}; charset=utf-8", encode_problem(make_problem(ProblemCode.QUEUE_FULL, "full")))
    assert (request_in_hand.outcome, request_in_hand.detail) == ("queue-full", "full")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        (None, b""),
        ("text/plain", b"Datastore frozen."),
        (PROBLEM_TYPE, b"<html>"),
        (PROBLEM_TYPE, b'{"type":"","title":"","status":500,"code":"somebody-elses","detail":""}'),
    ],
)
def test_what_is_no_problem_of_ours_is_not_noted(
    request_in_hand: RequestInHand, content_type: str | None, body: bytes
) -> None:
    note_passed_on(content_type, body)
    assert request_in_hand.outcome == ""
