"""The limits of the connections of a service, and the timer that checks them."""

import asyncio
import logging
import math
from typing import NamedTuple, Protocol

from gwservice.asgi_types import ASGIApp, Receive, Scope, Send
from gwservice.problems import problem_headers, send_whole
from gwservice.security import OPEN_PATHS
from gwwire.problems import ProblemCode, encode_problem, make_problem

log = logging.getLogger(__name__)

#: Checks within the shortest limit of time.
_CHECKS = 4
_LONGEST_INTERVAL = 1.0
_LOG_SECONDS = 60.0
#: Above the limit by this factor, a connection is closed without an answer.
_FLOOD = 2


class Limits(NamedTuple):
    """The limits of connections."""

    header_seconds: float = math.inf  # until the headers of a request are complete
    body_seconds: float = math.inf  # until the next piece of a body that the application waits for
    stall_seconds: float = math.inf  # until the client reads what is sent to it
    connections: float = math.inf  # open at a time


#: For a service that only its caller can reach.
NO_LIMITS = Limits()


class _Watched(Protocol):
    loop: asyncio.AbstractEventLoop

    def check(self, now: float) -> None: ...


class Watch:
    """Checks all connections of a service periodically."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        shortest = min(limits.header_seconds, limits.body_seconds, limits.stall_seconds) / _CHECKS
        self._interval = min(_LONGEST_INTERVAL, shortest)
        self._watched: set[_Watched] = set()
        self._running = False
        self._logged = -math.inf

    def add(self, connection: _Watched) -> bool:
        """Add a connection; return False if there are too many."""
        if not self._running:
            self._running = True
            connection.loop.call_later(self._interval, self._check, connection.loop)
        self._watched.add(connection)
        return len(self._watched) <= self.limits.connections

    def remove(self, connection: _Watched) -> None:
        """Remove a connection."""
        self._watched.discard(connection)

    def refuse(self, now: float) -> bool:
        """Log that there are too many connections, at a limited rate; return whether this connection gets an answer."""
        if now - self._logged > _LOG_SECONDS:
            self._logged = now
            log.warning("%d connections are open, the limit of MAX_CONNECTIONS", self.limits.connections)
        return len(self._watched) <= _FLOOD * self.limits.connections

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in list(self._watched):
            connection.check(now)
        self._running = bool(self._watched)
        if self._running:
            loop.call_later(self._interval, self._check, loop)


class Refusal:
    """Refuses the requests of a connection that exceeds the limit, except probes."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a probe, or refuse the request."""
        if scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        detail = f"{self._most} connections are open, the limit of MAX_CONNECTIONS"
        problem = make_problem(ProblemCode.TOO_MANY_CONNECTIONS, detail)
        headers = [*problem_headers(problem, 1), (b"connection", b"close")]
        await send_whole(send, problem.status, headers, encode_problem(problem))
