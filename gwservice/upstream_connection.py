"""HTTP/1.1 for a client: a connection, the encoding of requests, the parsing of answers."""

import asyncio
import math
import string
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import NamedTuple, Self, cast
from urllib.parse import quote, urlsplit

import httptools

from gwwire.problems import PROBLEM_TYPE

#: Shorter than the services keep an idle connection (120 s), so that none is closed at the moment it is used.
_IDLE_SECONDS = 30.0
_FINAL = 200
_LAST_CHUNK = b"0\r\n\r\n"


class MalformedAnswer(Exception):
    """The bytes received are not a complete HTTP answer."""


class Origin(NamedTuple):
    """The parts of an upstream's base URL."""

    host: str
    port: int
    tls: bool
    name: bytes
    path: bytes

    @classmethod
    def parse(cls, url: str) -> Self:
        """Parse an `http://` or `https://` URL."""
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        port = parts.port or (443 if tls else 80)
        return cls(parts.hostname or "", port, tls, parts.netloc.encode(), quote_target(parts.path))


def quote_target(target: str) -> bytes:
    """Return a path and query as bytes; characters that a request line cannot hold are quoted."""
    return quote(target, safe=string.punctuation).encode()


def header_lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Encode headers; raise ValueError if one contains a line break or NUL."""
    lines = [b"%b: %b\r\n" % header for header in headers]
    encoded = b"".join(lines)
    if encoded.count(b"\n") != len(lines) or encoded.count(b"\r") != len(lines) or b"\0" in encoded:
        raise ValueError("a header with a line break in it cannot be passed on")
    return encoded


class Answer:
    """An answer, as far as it has been received; its status is 0 until the head is complete."""

    __slots__ = ("_parts", "complete", "headers", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False
        self._parts: list[bytes] = []

    def header(self, name: bytes) -> str | None:
        """Return the last header with this lower-case name, or None if it does not exist."""
        value = dict(self.headers).get(name)
        return None if value is None else value.decode("latin-1")

    def add(self, part: bytes) -> None:
        """Append a part of the body."""
        self._parts.append(part)

    def is_problem(self) -> bool:
        """Return whether the body is a problem document."""
        media_type = self.header(b"content-type")
        return media_type is not None and media_type.partition(";")[0].strip().lower() == PROBLEM_TYPE

    def body(self) -> bytes:
        """Return the unread part of the body."""
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    def take(self) -> bytes:
        """Return the part of the body received since the last call."""
        part = self.body()
        self._parts = []
        return part


class UpstreamConnection(asyncio.Protocol):
    """A connection that carries one request at a time."""

    def __init__(self) -> None:
        self.usable = True  # another request may be sent after the current one
        self.paced = False  # the answer is read part by part, no faster than `wait_for_progress` is awaited
        self.is_head = False  # the answer to the current request has no body
        self.answer = Answer()
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._failure: Exception | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._has_progress = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._idle_since = 0.0
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> bool:
        """Prepare for a request; return False if the connection is closed or was idle for too long."""
        if self.is_head:
            self.is_head = False
            self._parser = httptools.HttpResponseParser(self)  # the last one still waits for a body
        self.answer, self.paced, self._has_progress = Answer(), False, False
        return self.usable and time.monotonic() - self._idle_since < _IDLE_SECONDS

    def send(self, pieces: Sequence[bytes]) -> None:
        """Send without waiting."""
        self._transport.writelines(pieces)

    async def send_stream(self, chunks: AsyncIterator[bytes]) -> None:
        """Send a body in chunks, no faster than the upstream reads it; errors are raised by `wait_for_progress`."""
        try:
            async for chunk in chunks:
                if chunk:
                    await self._writable.wait()
                    self.send((b"%x\r\n" % len(chunk), chunk, b"\r\n"))
                    self._wake()
            self.send((_LAST_CHUNK,))
        except Exception as error:  # noqa: BLE001 (`wait_for_progress` raises it)
            self._fail(error)

    async def wait_for_progress(self, seconds: float) -> None:
        """Wait until more of the answer was received, or more of the body was sent.

        Raise TimeoutError if neither happens within `seconds`, and MalformedAnswer or OSError if the connection breaks.
        """
        if self.paced:
            self._transport.resume_reading()
        if not self._has_progress:
            self._waiting = self._loop.create_future()
            self._deadline = self._loop.time() + seconds
            if self._timer is None:  # one timer serves many requests
                self._timer = self._loop.call_later(seconds, self._check)
            await self._waiting
            self._deadline = math.inf
        self._has_progress = False
        if self._failure:
            raise self._failure

    def mark_idle(self) -> None:
        """Mark the connection as idle."""
        if self.paced:
            self._transport.resume_reading()  # the end of the connection must be noticed
        self._idle_since = time.monotonic()

    def close(self) -> None:
        """Close the connection."""
        self.usable = False
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()

    def _check(self) -> None:
        left = self._deadline - self._loop.time()
        self._timer = None
        if self._waiting is not None and self._waiting.done():  # progress came in the same turn of the event loop
            return
        if left <= 0:
            self._fail(TimeoutError())
        elif left < math.inf:
            self._timer = self._loop.call_later(left, self._check)

    def _wake(self) -> None:
        self._has_progress = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _fail(self, error: Exception) -> None:
        self.usable = False
        self._failure = error
        self._wake()

    # ---- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse a part of the answer; bytes after a complete answer make the connection unusable."""
        answer = self.answer
        if answer.complete:
            self.usable = False
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.usable = False
            if not answer.complete:
                self._fail(MalformedAnswer(str(error)))
        if self.paced:
            self._transport.pause_reading()
            self._wake()
        elif answer.complete:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the answer; the end of the connection is also its end if it has no length."""
        self.usable = False
        self._writable.set()
        answer = self.answer
        if not answer.complete:
            names = {name for name, _ in answer.headers}
            if answer.status and not names & {b"content-length", b"transfer-encoding"}:
                answer.complete = True
            else:
                self._failure = exc or MalformedAnswer("the connection ended before the answer did")
        self._wake()

    def pause_writing(self) -> None:
        """Stop sending: the upstream does not read."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Continue sending."""
        self._writable.set()

    # ---- called by the parser

    def on_message_begin(self) -> None:
        """Begin an answer, or one after an interim answer such as 100."""
        if self.answer.complete:
            raise ValueError("there is more than one answer")
        self.answer.headers.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Store a header."""
        self.answer.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Store the status, unless this is an interim answer."""
        status = self._parser.get_status_code()
        if status >= _FINAL:
            self.answer.status = status
            self.answer.complete = self.is_head
            if not self._parser.should_keep_alive():
                self.usable = False

    def on_body(self, part: bytes) -> None:
        """Store a part of the body."""
        self.answer.add(part)

    def on_message_complete(self) -> None:
        """Complete the answer."""
        self.answer.complete = bool(self.answer.status)
