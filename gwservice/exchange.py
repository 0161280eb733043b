"""A request and its answer, between a connection of `gwservice.server` and an ASGI application."""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Sequence
from functools import cache
from http import HTTPStatus
from http.client import responses
from typing import Protocol

from gwservice.asgi_types import ASGIApp, Message, Scope
from gwservice.body import body_late

log = logging.getLogger(__name__)

#: Bytes of a body that may wait for the application.
_MOST_WAITING = 128 * 1024
#: Smaller pieces are joined: one object per tiny piece would cost far more than its bytes.
_SMALL_PIECE = 4096
_WITHOUT_BODY = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


class Carrier(Protocol):
    """The part of a connection that an exchange uses."""

    transport: asyncio.Transport
    writable: asyncio.Event
    loop: asyncio.AbstractEventLoop

    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """Return the headers of every answer."""

    def answered(self, exchange: "Exchange") -> None:
        """Note that an answer is complete."""


class Exchange:
    """A request and its answer, as ASGI's `receive` and `send`."""

    __slots__ = (
        *("_app", "_begun", "_chunked", "_connection", "_delivered", "_expects_continue", "_gone", "_head", "_late"),
        *("_left", "_news", "_pieces", "_scope", "_waiting", "_waits_since", "complete", "finished", "keep_alive"),
    )

    def __init__(
        self, connection: Carrier, scope: Scope, app: ASGIApp, *, keep_alive: bool, expects_continue: bool
    ) -> None:
        self.complete = self.finished = False  # the whole request was received; the whole answer was sent
        self.keep_alive = keep_alive  # another request may follow on the connection
        self._connection = connection
        self._scope = scope
        self._app = app
        self._expects_continue = expects_continue
        self._pieces: deque[bytes | bytearray] = deque()
        self._waiting = 0
        self._delivered = False
        self._gone = False
        self._waits_since = math.inf
        self._late = 0.0
        self._news: asyncio.Event | None = None
        self._begun = False
        self._head = b""
        self._chunked = False
        self._left: int | None = 0

    async def run(self) -> None:
        """Call the application; close the connection if it does not complete the answer."""
        try:
            await self._app(self._scope, self.receive, self.send)
        except Exception:
            log.exception("Exception in ASGI application")
        if not self.finished and not self._gone:
            log.error("the application did not complete an answer: %s %s", self._scope["method"], self._scope["path"])
            self._connection.transport.close()

    async def receive(self) -> Message:
        """Return the next piece of the body; after its end, wait for the end of the answer or the connection."""
        if self._expects_continue:
            self._expects_continue = False
            self._connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not self._gone and not self.finished:
            if self._late:
                raise body_late(self._late)
            if self._pieces:
                piece = self._pieces.popleft()
                self._waiting -= len(piece)
            elif self.complete and not self._delivered:
                piece = b""
            else:
                await self._wait()
                continue
            self._delivered = self.complete and not self._pieces
            return {"type": "http.request", "body": bytes(piece), "more_body": not self._delivered}
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send a part of the answer; its head is sent with the first part of its body."""
        connection = self._connection
        if not connection.writable.is_set():
            await connection.writable.wait()
        if self._gone:
            return
        if message["type"] == "http.response.start":
            self._begin(message["status"], message["headers"])
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if self.finished or not self._begun:
            raise RuntimeError("a part of an answer was sent before its head or after its end")
        parts = [self._head, *self._framed(body, more=more)] if self._head else self._framed(body, more=more)
        self._head = b""
        if parts:
            connection.transport.writelines(parts)
        if not more:
            self.finished = True
            self._wake()
            connection.answered(self)

    def add(self, piece: bytes) -> bool:
        """Add a piece of the body; return False if no more of it should be read for now."""
        if self.finished:
            return True
        if len(piece) >= _SMALL_PIECE:
            self._pieces.append(piece)
        elif self._pieces and isinstance(last := self._pieces[-1], bytearray):
            last += piece
        else:
            self._pieces.append(bytearray(piece))
        self._waiting += len(piece)
        self._wake()
        return self._waiting <= _MOST_WAITING

    def end(self) -> None:
        """Note the end of the body."""
        self.complete = True
        self._wake()

    def check(self, now: float, seconds: float) -> None:
        """End the wait for the next piece of the body once it exceeds its time limit."""
        if not self.complete and now - self._waits_since >= seconds:
            self._late = seconds
            self._wake()

    def disconnect(self) -> None:
        """Note the end of the connection."""
        self._gone = True
        self._wake()

    def abandon(self) -> bool:
        """Disconnect the application; return whether it has not begun an answer, so that another can be sent."""
        self.disconnect()
        return not self._begun

    def _wake(self) -> None:
        if self._news is not None:
            self._news.set()

    async def _wait(self) -> None:
        self._connection.transport.resume_reading()
        if self._news is None:
            self._news = asyncio.Event()
        self._news.clear()
        self._waits_since = self._connection.loop.time()
        await self._news.wait()
        self._waits_since = math.inf

    def _begin(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        if self._begun:
            raise RuntimeError("the application sent the head of the answer twice")
        self._begun, self._expects_continue = True, False
        length: int | None = None
        lines = [status_line(status)]
        for name, value in (*self._connection.default_headers(), *headers):
            if name == b"content-length":
                length = int(value)
            elif name == b"connection" and b"close" in value.lower():
                self.keep_alive = False
                continue
            lines.append(b"%b: %b\r\n" % (name, value))
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        if self._scope["method"] == "HEAD" or status in _WITHOUT_BODY:
            length = 0
        elif length is None and self._scope["http_version"] == "1.1":
            self._chunked = True
            lines.append(b"transfer-encoding: chunked\r\n")
        # The end of the connection is the end of an answer without a length to a client that knows no chunks.
        self._left = length
        self._head = b"".join((*lines, b"\r\n"))
        if self._head.count(b"\n") != len(lines) + 1:
            raise RuntimeError("a header of the answer contains a line break")

    def _framed(self, body: bytes, *, more: bool) -> list[bytes]:
        if self._chunked:
            chunk = [b"%x\r\n" % len(body), body, b"\r\n"] if body else []
            return chunk if more else [*chunk, b"0\r\n\r\n"]
        if self._scope["method"] == "HEAD":
            return []
        if self._left is not None:
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("the body of the answer does not have the declared length")
        return [body] if body else []


@cache
def status_line(status: int) -> bytes:
    """Return the first line of an answer."""
    return b"HTTP/1.1 %d %b\r\n" % (status, responses.get(status, "Unknown").encode())
