"""The request in hand: what it is called in all tiers, and what became of it.

The gateway names each request; the name travels down as `X-Request-ID`, beside W3C's `traceparent`, is told to the
client, and stands in every log line of that request.
"""

import os
import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import msgspec

from gwwire.problems import PROBLEM_TYPE, Problem, ProblemCode

REQUEST_ID = "X-Request-ID"
#: What became of a segment that met a frozen datastore: an answer of the contract's, and no failure.
FROZEN = "frozen"

#: A name that somebody else gave: short, and of no harm in a header, a log line or a URL.
_SANE_ID = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_TRACESTATE = re.compile(r"[ -~]{1,512}")


class RequestInHand:
    """A request that is being answered.

    Args:
        request_id: what its sender calls it; a name that is none is replaced.
        traceparent: W3C's trace context, passed on where it is one.
        tracestate: what belongs to it.

    Attributes:
        id: what it is called.
        trace_id: of the trace that it is a part of, where there is one.
        onward: the headers that go with whatever is asked of the next tier for its sake.
        outcome: a problem's code or FROZEN, where it is one.
        detail: what a problem says.
        error: what nobody expected, where that was the problem.
        span: of the trace, where this process makes one.

    """

    __slots__ = ("detail", "error", "id", "onward", "outcome", "span", "trace_id")

    def __init__(self, request_id: str | None, traceparent: str | None = None, tracestate: str | None = None) -> None:
        self.id = request_id if request_id and _SANE_ID.fullmatch(request_id) else os.urandom(16).hex()
        self.onward = {REQUEST_ID: self.id}
        self.trace_id = ""
        self.outcome = self.detail = ""
        self.error: BaseException | None = None
        self.span: Any = None
        if traceparent and (match := _TRACEPARENT.fullmatch(traceparent)):
            self.trace_id = match[1]
            self.onward["traceparent"] = traceparent
            if tracestate and _TRACESTATE.fullmatch(tracestate):
                self.onward["tracestate"] = tracestate


_in_hand: ContextVar[RequestInHand | None] = ContextVar("request_in_hand", default=None)


def take_in_hand(request: RequestInHand) -> None:
    """Make this the request that the task or thread works on from now on."""
    _in_hand.set(request)


def in_hand() -> RequestInHand | None:
    """Give the request that this task or thread works on, None where it works on none."""
    return _in_hand.get()


def with_onward(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Give the headers of a request to the next tier: its own, and those that name the request in hand."""
    request = _in_hand.get()
    return {**headers, **request.onward} if request else headers


def note_problem(problem: Problem, error: BaseException | None = None) -> None:
    """Note what is wrong with the request in hand, for whoever tells and counts its end."""
    if request := _in_hand.get():
        request.outcome, request.detail, request.error = problem.code, problem.detail, error


def note_passed_on(content_type: str | None, body: bytes) -> None:
    """Note a problem that a lower tier told, where the answer is one; a code that is none of ours is not counted."""
    if content_type and content_type.partition(";")[0].strip().lower() == PROBLEM_TYPE:
        try:
            problem = msgspec.json.decode(body, type=Problem)
            ProblemCode(problem.code)
        except (msgspec.DecodeError, ValueError):
            return
        note_problem(problem)


def note_frozen() -> None:
    """Note that the datastore took nothing because it is frozen."""
    if request := _in_hand.get():
        request.outcome = FROZEN
