"""dslogic as an ASGI application: the relay in front, the Flask application behind it."""

import asyncio
from collections.abc import Coroutine, Mapping
from http import HTTPStatus
from typing import Any, TypeVar, cast

from a2wsgi import WSGIMiddleware
from flask import Flask

from dslogic.buffer_client import BufferClient, refused_as
from dslogic.settings import LogicSettings
from gwservice.asgi_types import ASGIApp, Receive, Scope, Send
from gwservice.body import body_pieces, media_type
from gwservice.correlation import RequestContext, note_frozen
from gwservice.headers import RAW_ADMIN_HEADER, RAW_GROUP_HEADER, RAW_USER_HEADER, REQUEST_HEADERS
from gwservice.observability import Edge
from gwservice.problems import send_whole
from gwservice.relay import Relay, send_answer
from gwservice.security import CallerSecret, refuse_cross_site
from gwwire.datastore import FROZEN_TEXT
from gwwire.problems import ProblemCode
from gwwire.segment import NDJSON

T = TypeVar("T")

DATA_PATH = "/stream"
_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_FROZEN = FROZEN_TEXT.encode()
#: Method and first part of the path of a request with the bytes of a file.
_UPLOAD = ("PUT", b"transactions")
#: Threads of Flask; only pages, orders and probes need them.
_THREADS = 4


def relayed_routes(settings: LogicSettings) -> dict[str, str]:
    """Return the routes that need no rule, and the buffer's route of each; paths below them are relayed too."""
    return {
        "/bufstat": settings.ENDP_STAT,
        "/dsdesc": settings.ENDP_DESC,
        "/dumpf": settings.ENDP_DUMPF,
        "/dumpflog": settings.ENDP_DUMP,
        "/batches": "/batches",
        "/coverage": "/coverage",
        "/facets": "/facets",
        "/segments": "/segments",
        "/records": "/records",
        "/steps": "/steps",
        "/changes": "/changes",
        "/bundles": "/bundles",
        "/tiers": "/tiers",
        "/tape": "/tape",
        "/holdings": "/holdings",
        "/transactions": "/transactions",
    }


class LoopBridge:
    """Runs coroutines in the event loop for the threads of Flask."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self) -> None:
        """Use the running event loop for later calls."""
        self._loop = asyncio.get_running_loop()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine and return its result."""
        assert self._loop is not None  # noqa: S101 (the loop runs before there is a request)
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def asgi_application(app: Flask) -> ASGIApp:
    """Return the application to serve: Flask's, with the relay in front of it."""
    settings = cast("LogicSettings", app.extensions["settings"])
    buffer = cast("BufferClient", app.extensions["buffer"])
    secret = cast("CallerSecret | None", app.extensions["secret"])
    down, max_body = REQUEST_HEADERS | {RAW_GROUP_HEADER, RAW_USER_HEADER, RAW_ADMIN_HEADER}, int(settings.MAX_BODY)
    relay = Relay(buffer.upstream, max_body=max_body, request_headers=down)
    #: By method and first part of the path: answers that may take long; they end with the connection of the client.
    slow = {
        route: Relay(upstream, max_body=max_body, request_headers=down, until_gone=True)
        for upstream, routes in (
            (buffer.feeds, [("GET", b"changes")]),
            (buffer.claims, [("POST", b"steps")]),
            (buffer.waiting, [(method, b"bundles") for method in ("GET", "POST", "DELETE")]),
            (buffer.files, [("GET", b"holdings"), _UPLOAD]),
        )
        for route in routes
    }

    async def admit(request: RequestContext, scope: Scope) -> None:
        if secret:
            secret.check(scope["path"], request.headers.get(b"authorization", b""))
        refuse_cross_site(scope["method"], request.headers)

    data_path = DataPath(relay, settings.ENDP_SEND)
    routes = _Routes(app, relay, slow, settings)
    return Edge(routes, "dslogic", handlers={("POST", DATA_PATH): data_path}, admit=admit)


class DataPath:
    """Stores one segment, or many; answers a single one for a frozen datastore with 503 `Datastore frozen.`."""

    def __init__(self, relay: Relay, target: str) -> None:
        self._relay = relay
        self._target = target.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer POST /stream."""
        request: RequestContext = scope["context"]
        if media_type(request.headers) == NDJSON:  # MAX_BODY is then the limit of a line, which the buffer checks
            await self._relay.stream(request, send, self._target, body_pieces(receive))
            return
        answer = await self._relay.ask(request, receive, self._target)
        if refused_as(answer, ProblemCode.BUFFER_FROZEN):
            note_frozen()
            await send_whole(send, HTTPStatus.SERVICE_UNAVAILABLE, [_TEXT], _FROZEN)
        else:
            await send_answer(send, self._relay.upstream.expect_answer(answer))


class _Routes:
    """Relays the routes that need no rule, and leaves the others to Flask."""

    def __init__(
        self, app: Flask, relay: Relay, slow: Mapping[tuple[str, bytes], Relay], settings: LogicSettings
    ) -> None:
        self._relay = relay
        self._slow = slow
        self._buffer = cast("BufferClient", app.extensions["buffer"])
        self._targets = {path.encode(): target.encode() for path, target in relayed_routes(settings).items()}
        self._flask = WSGIMiddleware(cast("Any", app.wsgi_app), workers=_THREADS)
        self._bridge = cast("LoopBridge", app.extensions["loop"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        first, slash, rest = scope["raw_path"][1:].partition(b"/")
        target = self._targets.get(b"/" + first)
        if target is None:
            await self._flask(cast("Any", scope), cast("Any", receive), cast("Any", send))
            return
        request: RequestContext = scope["context"]
        request.route = f"/{first.decode()}/{{rest}}" if slash else f"/{first.decode()}"
        query = scope["query_string"]
        target += slash + rest + (b"?" + query if query else b"")
        route = (scope["method"], first)
        relay = self._slow.get(route, self._relay)
        if route == _UPLOAD:  # a file may be larger than any body that is kept in memory
            await relay.stream(request, send, target, body_pieces(receive), method=b"PUT")
        else:
            await relay.relay(request, scope, receive, send, target)

    async def _live(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            self._bridge.begin()
            await send({"type": "lifespan.startup.complete"})
        self._buffer.close()
        await send({"type": "lifespan.shutdown.complete"})
