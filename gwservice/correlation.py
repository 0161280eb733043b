"""The current request: its id, its trace, and its outcome.

The gateway makes the id. It is passed down as `X-Request-ID`, with W3C's `traceparent`, returned to the client, and
written to every log line of the request.
"""

import os
import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

import msgspec

from gwwire.problems import Problem, ProblemCode

#: The outcome of a segment sent to a frozen datastore: an answer of the contract, not a failure.
FROZEN = "frozen"

#: A client's id must be short and safe in a header, a log line and a URL.
_SAFE_ID = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_TRACESTATE = re.compile(r"[ -~]{1,512}")


class RequestContext:
    """A request that is being answered: its headers, with lower-case names, and the facts that layers store in it.

    `is_head`: only the head of the answer is sent. `trace` has the headers of the trace context for the next service.
    `route` is the template of the path, or "" for that of the framework; `outcome` is a problem's code or FROZEN, or ""
    for the class of the status; `is_relayed`: the problem is that of a lower service; `error` is the unexpected error
    behind its problem. An invalid id is replaced, an invalid trace ignored.
    """

    __slots__ = (
        *("answer_headers", "caller", "detail", "error", "headers", "id", "is_head", "is_relayed", "outcome"),
        *("route", "span", "trace", "trace_id"),
    )

    def __init__(self, headers: Mapping[bytes, bytes]) -> None:
        self.headers = headers
        self.is_head = self.is_relayed = False
        given = headers.get(b"x-request-id", b"").decode("latin-1")
        self.id = given if _SAFE_ID.fullmatch(given) else os.urandom(16).hex()
        self.answer_headers = [(b"x-request-id", self.id.encode())]
        self.trace: dict[str, str] = {}
        self.trace_id = self.route = self.outcome = self.detail = ""
        self.error: BaseException | None = None
        self.span: Any = None
        self.caller: Any = None
        if b"traceparent" in headers:
            self._read_trace()

    def _read_trace(self) -> None:
        parent, state = (self.headers.get(name, b"").decode("latin-1") for name in (b"traceparent", b"tracestate"))
        if match := _TRACEPARENT.fullmatch(parent):
            self.trace_id = match[1]
            self.trace["traceparent"] = parent
            if _TRACESTATE.fullmatch(state):
                self.trace["tracestate"] = state


_current: ContextVar[RequestContext | None] = ContextVar("current_request", default=None)


def set_current_request(request: RequestContext) -> None:
    """Make this the current request of the task or thread."""
    _current.set(request)


def current_request() -> RequestContext | None:
    """Return the current request of the task or thread, or None if there is none."""
    return _current.get()


def onward_lines() -> bytes:
    """Encode the headers that identify the current request for the next service."""
    request = _current.get()
    if request is None:
        return b""
    line = b"x-request-id: %b\r\n" % request.id.encode()
    if request.trace:
        line += b"".join(f"{name}: {value}\r\n".encode() for name, value in request.trace.items())
    return line


def note_problem(problem: Problem, error: BaseException | None = None) -> None:
    """Store the problem of the current request, for its log line and its metrics."""
    if request := _current.get():
        request.outcome, request.detail, request.error = problem.code, problem.detail, error


def note_relayed(body: bytes) -> None:
    """Store a problem document of a lower service, if its code is known."""
    try:
        problem = msgspec.json.decode(body, type=Problem)
        ProblemCode(problem.code)
    except (msgspec.DecodeError, ValueError):
        return
    note_problem(problem)
    if request := _current.get():
        request.is_relayed = True


def note_frozen() -> None:
    """Store that nothing was stored because the datastore is frozen."""
    if request := _current.get():
        request.outcome = FROZEN
