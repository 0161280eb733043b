"""HTTP/1.1 as the FastAPI services are spoken to: uvicorn's, with an end to what it would wait for without end."""

import asyncio
import logging
import math
from http.client import responses
from typing import Any, ClassVar, NamedTuple

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gwservice.asgi_types import ASGIApp, Receive, Scope, Send
from gwservice.problems import problem_headers, send_whole
from gwservice.security import OPEN_PATHS
from gwwire.problems import PROBLEM_TYPE, Problem, ProblemCode, encode_problem, make_problem

log = logging.getLogger(__name__)

_LOOKS = 4
_LONGEST_LOOK = 1.0
_TELL_SECONDS = 60.0
#: Above the limit by this factor, a connection is not even told so.
_FLOOD = 2
#: Bytes that may come, beyond what is read at a time, without a request getting on: its address, its headers, and
#: those that may follow a body in chunks. The parser would gather them without end, and each time from the beginning.
_MOST_OF_HEAD = 64 * 1024


class Limits(NamedTuple):
    """What a client may take of the service by holding connections.

    Attributes:
        header_seconds: until the headers of a request are there.
        stall_seconds: for which a client may not take what is sent to it.
        connections: open at a time.

    """

    header_seconds: float
    stall_seconds: float
    connections: int


class Warden:
    """Looks through the connections of a service now and then: a timer for each request would cost too much."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._interval = min(_LONGEST_LOOK, limits.header_seconds / _LOOKS, limits.stall_seconds / _LOOKS)
        self._watched: set[LimitedProtocol] = set()
        self._looking = False
        self._told = -math.inf

    def begin(self, connection: "LimitedProtocol") -> bool:
        """Watch a connection; False: it is one too many."""
        if not self._looking:
            self._looking = True
            connection.loop.call_later(self._interval, self._look_through, connection.loop)
        self._watched.add(connection)
        return len(self._watched) <= self.limits.connections

    def end(self, connection: "LimitedProtocol") -> None:
        """Watch it no longer."""
        self._watched.discard(connection)

    def tell(self, now: float) -> None:
        """Say in the log that there are too many, but not for each of them."""
        if now - self._told > _TELL_SECONDS:
            self._told = now
            log.warning("%d connections are open, as many as MAX_CONNECTIONS allows", self.limits.connections)

    def flooded(self) -> bool:
        """Say whether it is of no use any more to tell a client that it is one too many."""
        return len(self._watched) > _FLOOD * self.limits.connections

    def _look_through(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in list(self._watched):
            if connection.taken_due <= now:
                connection.transport.abort()
            elif connection.headers_due <= now:
                connection.give_up()
        self._looking = bool(self._watched)
        if self._looking:
            loop.call_later(self._interval, self._look_through, loop)


class LimitedProtocol(HttpToolsProtocol):
    """A connection that is closed where its client keeps it waiting.

    Attributes:
        headers_due: when the headers of a request must be there, on the loop's clock.
        taken_due: when the client must have taken what was sent to it.

    """

    warden: ClassVar[Warden]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.headers_due = math.inf
        self.taken_due = math.inf
        self._past_headers = False
        self._receiving = False
        self._got_on = False
        self._without_progress = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does it
        """Begin: from now on, the headers of a request should come."""
        super().connection_made(transport)
        self._expect_headers()
        if not self.warden.begin(self):
            self._refuse()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self.warden.end(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, unless it is a head without end."""
        self._got_on = False
        super().data_received(data)
        self._without_progress = 0 if self._got_on else self._without_progress + len(data)
        if self._without_progress > _MOST_OF_HEAD:
            self._give_up(ProblemCode.BAD_REQUEST, f"the headers are larger than {_MOST_OF_HEAD} bytes")

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._past_headers, self._receiving, self._got_on = False, True, True
        self._expect_headers()

    def on_headers_complete(self) -> None:
        """Wait no longer: for the body waits whoever reads it."""
        self._past_headers = self._got_on = True
        self.headers_due = math.inf
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._got_on = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request."""
        self._receiving = False
        self._got_on = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """End an answer; of a request that was answered before it was there, the rest should come soon."""
        super().on_response_complete()
        if self._receiving:
            self._expect_headers()

    def pause_writing(self) -> None:
        """Wait for the client to take what was sent."""
        self.taken_due = self.loop.time() + self.warden.limits.stall_seconds
        super().pause_writing()

    def resume_writing(self) -> None:
        """Go on."""
        self.taken_due = math.inf
        super().resume_writing()

    def give_up(self) -> None:
        """Close the connection, because of headers that do not come."""
        self._give_up(
            ProblemCode.TIMEOUT,
            f"the headers did not come within {self.warden.limits.header_seconds:g} s (HEADER_TIMEOUT)",
        )

    def _give_up(self, code: ProblemCode, detail: str) -> None:
        """Close the connection, and say why where no answer was given."""
        if self.transport.is_closing():
            self.transport.abort()
            return
        answering = self.cycle is not None and not self.cycle.response_complete
        if not answering and not self._past_headers:
            self.transport.write(_raw(make_problem(code, detail)))
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Answer who would speak another protocol in this one, and part: the parser takes nothing more from here on."""
        self.cycle.keep_alive = False

    def _expect_headers(self) -> None:
        self.headers_due = self.loop.time() + self.warden.limits.header_seconds

    def _refuse(self) -> None:
        self.warden.tell(self.loop.time())
        if self.warden.flooded():
            self.transport.abort()
        else:
            self.app = _Refusal(self.app, self.warden.limits.connections)


class _Refusal:
    """Answers on a connection that is one too many; probes find the application behind it."""

    def __init__(self, app: Any, most: int) -> None:
        self._app: ASGIApp = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        detail = f"there are {self._most} connections already, as many as MAX_CONNECTIONS allows"
        problem = make_problem(ProblemCode.TOO_MANY_CONNECTIONS, detail)
        headers = [*problem_headers(problem, 1), (b"connection", b"close")]
        await send_whole(send, problem.status, headers, encode_problem(problem))


def limited(limits: Limits) -> type[LimitedProtocol]:
    """Make the protocol of a service with these limits."""
    return type("Protocol", (LimitedProtocol,), {"warden": Warden(limits)})


def _raw(problem: Problem) -> bytes:
    body = encode_problem(problem)
    head = (
        f"HTTP/1.1 {problem.status} {responses[problem.status]}\r\nContent-Type: {PROBLEM_TYPE}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
