"""HTTP/1.1 under uvicorn, with limits for slow clients.

It does less for each request than uvicorn's own protocols do: a body is passed on in the pieces that were received, the
head of an answer is sent together with the first part of its body, and no timer is started for a request: one timer
checks all connections (`connection_limits.py`).
"""

import asyncio
import gc
import math
import urllib.parse
from collections import deque
from functools import partial
from typing import Any, ClassVar, cast

import httptools
from uvicorn.config import Config
from uvicorn.server import ServerState

from gwservice.asgi_types import ASGIApp, Receive, Scope, Send
from gwservice.connection_limits import NO_LIMITS, Limits, Refusal, Watch
from gwservice.exchange import Exchange, status_line
from gwservice.problems import problem_headers, send_whole
from gwwire.problems import Problem, ProblemCode, encode_problem, make_problem

#: Upper limit of the bytes of a request's target, headers and trailers, beyond one read; the parser has none.
_MOST_OF_HEAD = 64 * 1024
#: Upper limit of the bytes of a request's target; `httptools.parse_url` takes no more.
_MOST_OF_ADDRESS = 65_535
_ADDRESS_TOO_LONG = f"the address is longer than {_MOST_OF_ADDRESS} bytes"
#: The reasons for errors of the parser, by its own words.
_MALFORMED = {
    "Content-Length overflow": "the Content-Length is larger than a number of 64 bits",
    "Invalid character in Content-Length": "the Content-Length is not a number",
}
_BODY_HEADERS = frozenset({b"content-length", b"transfer-encoding"})
_ASGI = {"version": "3.0", "spec_version": "2.3"}


class Connection(asyncio.Protocol):
    """A connection of a client, with one request after another."""

    watch: ClassVar[Watch]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.loop = _loop or asyncio.get_event_loop()
        self.writable = asyncio.Event()
        self.writable.set()
        self._config = config
        self._app = cast("ASGIApp", config.loaded_app)
        self._server = server_state
        self._app_state = app_state
        self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)  # the request before is still answered
        self._exchange: Exchange | None = None
        self._pipeline: deque[Exchange] = deque()
        self._headers_due = self._read_due = self._idle_due = math.inf
        self._url = b""
        self._in_head = True
        self._deaf = False
        self._websocket: Any = None
        self._progress = False
        self._without_progress = 0

    # ---- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the timer for the headers of a request."""
        self.transport = cast("asyncio.Transport", transport)
        self._server.connections.add(cast("Any", self))
        self._place = {
            "server": _address(transport, "sockname"),
            "client": _address(transport, "peername"),
            "scheme": "https" if transport.get_extra_info("sslcontext") else "http",
            "root_path": self._config.root_path,
        }
        self._expect_headers()
        if not self.watch.add(self):
            self._refuse()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the exchange, and remove the connection from the watch."""
        self.watch.remove(self)
        self._server.connections.discard(cast("Any", self))
        self.writable.set()
        for exchange in (self._exchange, *self._pipeline):
            if exchange:
                exchange.disconnect()
        if self._websocket:
            self._websocket.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse data; close the connection if a head has no end."""
        if self._websocket:
            self._websocket.data_received(data)
            return
        self._progress, self._idle_due = False, math.inf
        if self._deaf:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:  # nothing after this request can be parsed
            self._deaf = True
            if self._websocket:
                self._begin_websocket(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            wrong = _why_malformed(error) if self._in_head else "the body has malformed chunks or trailers"
            self._give_up(ProblemCode.BAD_REQUEST, wrong)
        self._without_progress = 0 if self._progress else self._without_progress + len(data)
        if self._without_progress > _MOST_OF_HEAD:
            is_address = len(self._url) > _MOST_OF_ADDRESS
            wrong = _ADDRESS_TOO_LONG if is_address else f"the headers are larger than {_MOST_OF_HEAD} bytes"
            self._give_up(ProblemCode.BAD_REQUEST, wrong)

    def pause_writing(self) -> None:
        """Pause sending until the client has read more."""
        self._read_due = self.loop.time() + self.watch.limits.stall_seconds
        self.writable.clear()
        if self._websocket:
            self._websocket.pause_writing()

    def resume_writing(self) -> None:
        """Continue sending."""
        self._read_due = math.inf
        self.writable.set()
        if self._websocket:
            self._websocket.resume_writing()

    # ---- called by the parser

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._expects_continue = False
        self._refusal = ""
        self._in_head = self._progress = True
        self._expect_headers()

    def on_url(self, url: bytes) -> None:
        """Store a part of the address."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header; trailers, which follow the body, are ignored."""
        if not self._in_head:
            return
        name, value = name.lower(), value.strip(b" \t")
        if name == b"expect" and value.lower() == b"100-continue":
            self._expects_continue = True
        elif name == b"host" and any(known == b"host" for known, _ in self._headers):
            self._refusal = "the request has more than one Host header"
        elif name == b"transfer-encoding" and value.lower() != b"chunked":
            self._refusal = (
                f"the body has the Transfer-Encoding {value.decode('latin-1')!r}; only `chunked` is supported"
            )
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Start the request; the application has its own limits for the body."""
        self._progress = True
        if len(self._url) > _MOST_OF_ADDRESS:
            self._url, self._refusal = b"/", _ADDRESS_TOO_LONG
        raw_path, query = self._url, b""
        if b"?" in raw_path or raw_path[:1] != b"/":
            parsed = httptools.parse_url(raw_path)
            raw_path, query = parsed.path or b"/", parsed.query or b""  # `GET http://host` asks for the root
        path = raw_path.decode("ascii")
        path = urllib.parse.unquote(path) if "%" in path else path
        if self._becomes_websocket(path):
            self._websocket = cast("Any", self._config.ws_protocol_class)(self._config, self._server, self._app_state)
            return
        version = self._parser.get_http_version()
        scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": self._parser.get_method().decode("ascii"),
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "headers": self._headers,
            "state": self._app_state.copy(),
            **self._place,
        }
        upgrade = self._parser.should_upgrade()
        if upgrade and not _BODY_HEADERS.isdisjoint(name for name, _ in self._headers):
            self._refusal = "a request with a body cannot ask for an Upgrade"  # the parser would leave out the body
        app = partial(_refuse, self._refusal) if self._refusal else self._app
        keep_alive = version == "1.1" and self._parser.should_keep_alive() and not upgrade
        expects_continue = self._expects_continue and version == "1.1"
        exchange = Exchange(self, scope, app, keep_alive=keep_alive, expects_continue=expects_continue)
        self._receiving = exchange
        self._in_head, self._headers_due = False, math.inf
        if self._exchange is None:
            self._start(exchange)
        else:
            self._pipeline.append(exchange)
            self.transport.pause_reading()

    def on_body(self, body: bytes) -> None:
        """Store a piece of a body."""
        self._progress = True
        if not self._receiving.add(body):
            self.transport.pause_reading()

    def on_message_complete(self) -> None:
        """End a request."""
        self._progress = True
        if self._websocket:
            return
        self._receiving.end()
        if self._exchange is None:  # it was answered before it was complete
            self._headers_due = math.inf
            self._expect_idle()

    # ---- called by the exchange, the watch and the server

    def answered(self, exchange: Exchange) -> None:
        """Continue with the next request; the rest of a request that was answered early must be received soon."""
        self._server.total_requests += 1
        self._exchange = None
        if not exchange.keep_alive:
            self.transport.close()
        elif self._pipeline:
            self._start(self._pipeline.popleft())
        else:
            self.transport.resume_reading()
            if exchange.complete:
                self._expect_idle()
            else:
                self._expect_headers()

    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers of every answer."""
        return self._server.default_headers

    def check(self, now: float) -> None:
        """Close the connection if its client exceeded a time limit."""
        if self._read_due <= now:
            self.transport.abort()
        elif self._headers_due <= now:
            seconds = self.watch.limits.header_seconds
            self._give_up(ProblemCode.TIMEOUT, f"the headers were not received within {seconds:g} s (HEADER_TIMEOUT)")
        elif self._idle_due <= now:
            self.transport.close()
        elif self._exchange:
            self._exchange.check(now, self.watch.limits.body_seconds)

    def shutdown(self) -> None:
        """Close the connection after the current answer."""
        if self._exchange is None:
            self.transport.close()
        else:
            self._exchange.keep_alive = False

    def _becomes_websocket(self, path: str) -> bool:
        """Return whether the request, whose head is complete, is a handshake; another one is answered as it is."""
        protocol: Any = self._config.ws_protocol_class
        if protocol is None or self._parser.get_method() != b"GET" or not self._parser.should_upgrade():
            return False
        is_refused, is_busy = self._app is not self._config.loaded_app, self._exchange is not None
        headers = dict(self._headers)
        is_handshake = (
            headers.get(b"upgrade", b"").lower() == b"websocket"
            and headers.get(b"sec-websocket-version") == b"13"
            and b"sec-websocket-key" in headers
            and headers.keys().isdisjoint(_BODY_HEADERS)
        )
        return is_handshake and not (is_refused or is_busy) and protocol.paths.fullmatch(path) is not None

    def _begin_websocket(self, rest: bytes) -> None:
        """Pass the handshake, and all that follows, to the protocol of WebSockets; the watch keeps this connection."""
        self._server.connections.discard(cast("Any", self))
        self._headers_due = self._idle_due = math.inf
        self._websocket.connection_made(self.transport)
        lines = b"".join(b"%b: %b\r\n" % line for line in self._headers)
        self._websocket.data_received(b"GET %b HTTP/1.1\r\n%b\r\n" % (self._url, lines))
        if not self._websocket.handshake_initiated:
            self.transport.write(
                _raw(make_problem(ProblemCode.BAD_REQUEST, "this is not the handshake of a WebSocket"))
            )
            self.transport.close()
        elif rest:
            self._websocket.data_received(rest)

    def _start(self, exchange: Exchange) -> None:
        self._exchange = exchange
        task = self.loop.create_task(exchange.run())
        task.add_done_callback(self._server.tasks.discard)
        self._server.tasks.add(task)

    def _expect_headers(self) -> None:
        self._headers_due = self.loop.time() + self.watch.limits.header_seconds

    def _expect_idle(self) -> None:
        self._idle_due = self.loop.time() + self._config.timeout_keep_alive

    def _give_up(self, code: ProblemCode, detail: str) -> None:
        # If an answer to the request before, or a refusal of this one, is due, it is sent; else a problem is.
        if self.transport.is_closing():
            self.transport.abort()
            return
        if self._exchange is not None and (self._exchange.complete or self._refusal):
            whole = [each for each in self._pipeline if each.complete or self._refusal]
            last = whole[-1] if whole else self._exchange
            last.keep_alive, self._deaf, self._headers_due = False, True, math.inf
            return
        if (self._exchange is None and self._in_head) or (self._exchange is not None and self._exchange.abandon()):
            self.transport.write(_raw(make_problem(code, detail)))
        self.transport.close()

    def _refuse(self) -> None:
        if self.watch.refuse(self.loop.time()):
            self._app = Refusal(self._app, int(self.watch.limits.connections))
        else:
            self.transport.abort()


async def _refuse(detail: str, _: Scope, __: Receive, send: Send) -> None:
    problem = make_problem(ProblemCode.BAD_REQUEST, detail)
    await send_whole(send, problem.status, problem_headers(problem), encode_problem(problem))


def _why_malformed(error: httptools.HttpParserError) -> str:
    """Return in plain words why the head of a request cannot be parsed."""
    if isinstance(error, httptools.HttpParserInvalidURLError):
        return "the address is malformed, or has characters that are not percent-encoded"
    return _MALFORMED.get(str(error), "this is not an HTTP/1.1 request")


def _address(transport: asyncio.BaseTransport, name: str) -> tuple[str, int] | None:
    address = transport.get_extra_info(name)
    return address[:2] if address else None


def limited(limits: Limits = NO_LIMITS) -> type[Connection]:
    """Return the protocol of a service with these limits."""
    return type("LimitedConnection", (Connection,), {"watch": Watch(limits)})


def collect_less_garbage() -> None:
    """Collect cyclic garbage rarely, and exclude objects that exist at start; it saves 4 % of a request's CPU time."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


def _raw(problem: Problem) -> bytes:
    body = encode_problem(problem)
    headers = [*problem_headers(problem), (b"content-length", b"%d" % len(body))]
    lines = dict(headers) | {b"connection": b"close"}
    head = b"".join(b"%b: %b\r\n" % line for line in lines.items())
    return status_line(problem.status) + head + b"\r\n" + body
