"""The HTTP/1.1 client of the tiers: kept connections, read while they are written to.

ProblemError
├── UpstreamUnreachable   no connection, or it broke before the answer
├── UpstreamSilent        no answer in time
└── UpstreamInvalid       an answer that is not in the contract
UpstreamProblem           an answer that is a problem document
"""

import asyncio
import string
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from http import HTTPStatus
from typing import NamedTuple, Self, TypeVar, cast
from urllib.parse import quote, urlsplit

import httptools
import msgspec

from gwservice.correlation import onward_lines
from gwservice.security import CallerSecret
from gwwire.problems import PROBLEM_TYPE, ProblemCode, ProblemError

T = TypeVar("T")
RawHeaders = Iterable[tuple[bytes, bytes]]

_CONNECT_SECONDS = 3.0
#: Shorter than the services keep an idle connection (120 s), so that none is closed at the moment it is used.
_IDLE_SECONDS = 30.0
_FINAL = 200
_LAST_CHUNK = b"0\r\n\r\n"


class UpstreamUnreachable(ProblemError):
    """The upstream cannot be reached, or the connection broke before it answered."""

    code = ProblemCode.UPSTREAM_UNREACHABLE


class UpstreamSilent(ProblemError):
    """The upstream did not answer in time; whether it carried out the request is unknown."""

    code = ProblemCode.UPSTREAM_TIMEOUT


class UpstreamInvalid(ProblemError):
    """The upstream answered something that is not in the contract."""

    code = ProblemCode.UPSTREAM_INVALID


class UpstreamProblem(Exception):
    """The upstream answered with a problem document, which the client receives unchanged.

    Attributes:
        answer: the complete answer.

    """

    def __init__(self, answer: "Answer") -> None:
        super().__init__(f"the upstream answered with a problem and status {answer.status}")
        self.answer = answer


class _MalformedAnswer(Exception):
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


def header_lines(headers: RawHeaders) -> bytes:
    """Encode headers.

    Raises:
        ValueError: a header contains a line break or NUL.

    """
    lines = [b"%b: %b\r\n" % header for header in headers]
    encoded = b"".join(lines)
    if encoded.count(b"\n") != len(lines) or encoded.count(b"\r") != len(lines) or b"\0" in encoded:
        raise ValueError("a header with a line break in it cannot be passed on")
    return encoded


class Answer:
    """An answer, as far as it has been received.

    Attributes:
        status: the HTTP status; 0 until the head is complete.
        headers: the headers in their order, with lower-case names.
        complete: the whole answer was received.

    """

    __slots__ = ("_parts", "complete", "headers", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False
        self._parts: list[bytes] = []

    def header(self, name: bytes) -> str | None:
        """Return the last header with this lower-case name, or None if there is none."""
        value = dict(self.headers).get(name)
        return None if value is None else value.decode("latin-1")

    def add(self, part: bytes) -> None:
        """Append a part of the body."""
        self._parts.append(part)

    def is_problem(self) -> bool:
        """Say whether the body is a problem document."""
        media_type = self.header(b"content-type")
        return media_type is not None and media_type.partition(";")[0].strip().lower() == PROBLEM_TYPE

    def body(self) -> bytes:
        """Return the part of the body that was not taken yet."""
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    def take(self) -> bytes:
        """Return the part of the body received since the last call."""
        part = self.body()
        self._parts = []
        return part


class _Connection(asyncio.Protocol):
    """A connection that carries one request at a time.

    Attributes:
        answer: the answer to the current request, as far as it has been received.
        usable: another request may be sent after the current one.
        paced: the answer is read part by part, no faster than `news` is awaited.

    """

    def __init__(self) -> None:
        self.usable = True
        self.paced = False
        self.answer = Answer()
        self._parser = httptools.HttpResponseParser(self)
        self._failure: Exception | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._has_news = False
        self._writable = asyncio.Event()
        self._writable.set()
        self._idle_since = 0.0

    def begin(self) -> bool:
        """Prepare for a request; return False if the connection is closed or was idle for too long."""
        self.answer, self.paced, self._has_news = Answer(), False, False
        return self.usable and time.monotonic() - self._idle_since < _IDLE_SECONDS

    def send(self, pieces: Sequence[bytes]) -> None:
        """Send without waiting."""
        self._transport.writelines(pieces)

    async def send_stream(self, chunks: AsyncIterator[bytes]) -> None:
        """Send a body in chunks, no faster than the upstream reads it; `news` raises what goes wrong here."""
        try:
            async for chunk in chunks:
                if chunk:
                    await self._writable.wait()
                    self.send((b"%x\r\n" % len(chunk), chunk, b"\r\n"))
                    self._wake()
            self.send((_LAST_CHUNK,))
        except Exception as error:  # noqa: BLE001 (`news` raises it)
            self._fail(error)

    async def news(self) -> None:
        """Wait until more of the answer was received, or more of the body was sent.

        Raises:
            _MalformedAnswer, OSError: the connection broke.

        """
        if self.paced:
            self._transport.resume_reading()
        if not self._has_news:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        self._has_news = False
        if self._failure:
            raise self._failure

    def rest(self) -> None:
        """Note that the connection is idle from now on."""
        if self.paced:
            self._transport.resume_reading()  # the end of the connection must be noticed
        self._idle_since = time.monotonic()

    def close(self) -> None:
        """Close the connection."""
        self.usable = False
        self._transport.abort()

    def _wake(self) -> None:
        self._has_news = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _fail(self, error: Exception) -> None:
        self.usable = False
        self._failure = error
        self._wake()

    # ---- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
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
                self._fail(_MalformedAnswer(str(error)))
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
                self._failure = exc or _MalformedAnswer("the connection ended before the answer did")
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
            if not self._parser.should_keep_alive():
                self.usable = False

    def on_body(self, part: bytes) -> None:
        """Store a part of the body."""
        self.answer.add(part)

    def on_message_complete(self) -> None:
        """Complete the answer."""
        self.answer.complete = bool(self.answer.status)


class Upstream:
    """The connections of this process to the next tier; each request has one for itself.

    A request with GET is repeated once if the connection breaks; no other is, because it may have been carried out.

    Args:
        url: the base URL.
        name: the service's name in messages.
        most: connections at a time; further requests wait.
        seconds: for an answer, or without any progress of a stream.
        secret: the secret to present.
        setting: the setting that names the file of the secret, for messages.

    """

    def __init__(  # noqa: PLR0913 (all but the first two have defaults)
        self,
        url: str,
        name: str,
        *,
        most: int = 128,
        seconds: float = 30.0,
        secret: CallerSecret | None = None,
        setting: str = "",
    ) -> None:
        self._described = f"{name} at {url}"
        self._name = name
        self._origin = Origin.parse(url)
        self._host = b" HTTP/1.1\r\nhost: %b\r\n" % self._origin.name
        self._seconds = seconds
        self._secret = secret
        self._setting = setting
        self._free = asyncio.Semaphore(most)
        self._idle: list[_Connection] = []

    async def request(self, method: bytes, target: bytes, headers: bytes = b"", body: Sequence[bytes] = ()) -> Answer:
        """Send a request and return its complete answer.

        Args:
            method: of HTTP.
            target: path and query below the base URL.
            headers: encoded with `header_lines`.
            body: in pieces.

        Raises:
            UpstreamUnreachable, UpstreamSilent, UpstreamInvalid: there is no proper answer.

        """
        try:
            return await self._request(method, target, headers, body)
        except UpstreamUnreachable:
            if method != b"GET":
                raise
            return await self._request(method, target, headers, body)

    async def _request(self, method: bytes, target: bytes, headers: bytes, body: Sequence[bytes]) -> Answer:
        try:
            async with asyncio.timeout(self._seconds), self._one() as connection:
                connection.send((self._head(method, target, headers, body), *body))
                while not connection.answer.complete:
                    await connection.news()
                return self._admitted(connection.answer)
        except TimeoutError as error:
            raise self._silent() from error

    async def converse(
        self, method: bytes, target: bytes, headers: bytes, body: Sequence[bytes] | AsyncIterator[bytes] = ()
    ) -> AsyncGenerator[Answer]:
        """Send a request; yield its answer whenever more of it was received, from its head on.

        The answer is read no faster than it is asked for, and a body that comes piece by piece is sent meanwhile.

        Raises:
            UpstreamUnreachable, UpstreamSilent, UpstreamInvalid: there is no proper answer.

        """
        begun = False
        for last in (method != b"GET", True):
            try:
                async with aclosing(self._converse(method, target, headers, body)) as answers:
                    async for answer in answers:
                        begun = True
                        yield answer
            except UpstreamUnreachable:
                if begun or last:
                    raise
            else:
                return

    async def _converse(
        self, method: bytes, target: bytes, headers: bytes, body: Sequence[bytes] | AsyncIterator[bytes]
    ) -> AsyncGenerator[Answer]:
        async with self._one() as connection:
            connection.paced = True
            sending: asyncio.Task[None] | None = None
            if isinstance(body, AsyncIterator):
                connection.send((self._head(method, target, headers, None),))
                sending = asyncio.create_task(connection.send_stream(body))
            else:
                connection.send((self._head(method, target, headers, body), *body))
            try:
                while not connection.answer.complete:
                    async with asyncio.timeout(self._seconds):
                        await connection.news()
                    if connection.answer.status:
                        yield self._admitted(connection.answer)
            except TimeoutError as error:
                raise self._silent() from error
            finally:
                if sending:
                    connection.usable &= sending.done()  # nothing may follow a part of a request
                    sending.cancel()

    def expect_answer(self, answer: Answer) -> Answer:
        """Return an answer to relay.

        Raises:
            UpstreamInvalid: it is an error without a problem document.

        """
        if answer.status >= HTTPStatus.BAD_REQUEST and not answer.is_problem():
            raise UpstreamInvalid(f"{self._name} answered {answer.status} without a problem document")
        return answer

    def decode(self, answer: Answer, status: HTTPStatus, shape: type[T]) -> T:
        """Return the decoded body of an answer.

        Raises:
            UpstreamProblem: it is a problem document.
            UpstreamInvalid: it has another status or another shape.

        """
        if answer.status != status:
            if answer.is_problem():
                raise UpstreamProblem(answer)
            raise UpstreamInvalid(f"{self._name} answered {answer.status} instead of {status.value}")
        try:
            return msgspec.json.decode(answer.take(), type=shape)
        except msgspec.DecodeError as error:
            raise UpstreamInvalid(f"{self._name} answered what is no {shape.__name__}") from error

    def close(self) -> None:
        """Close the idle connections."""
        for connection in self._idle:
            connection.close()

    def _head(self, method: bytes, target: bytes, headers: bytes, body: Sequence[bytes] | None) -> bytes:
        if body is None:
            framing = b"transfer-encoding: chunked\r\n"
        else:
            framing = b"" if method == b"GET" else b"content-length: %d\r\n" % sum(map(len, body))
        secret = self._secret.line if self._secret else b""
        return b"".join((
            *(method, b" ", self._origin.path, target, self._host),
            *(framing, secret, onward_lines(), headers, b"\r\n"),
        ))  # fmt: skip

    def _admitted(self, answer: Answer) -> Answer:
        """Return the answer unless the upstream refuses this tier: that is no refusal of the client."""
        if answer.status == HTTPStatus.UNAUTHORIZED:
            message = f"{self._name} refuses this tier: {self._setting} is not its CALLER_SECRET_FILE"
            raise UpstreamInvalid(message)
        return answer

    @asynccontextmanager
    async def _one(self) -> AsyncIterator[_Connection]:
        """Yield a connection without a request on it; it is kept if the request ends well."""
        async with self._free:
            connection = await self._open()
            try:
                yield connection
            except (_MalformedAnswer, OSError) as error:
                connection.close()
                message = f"the connection to {self._described} broke before it answered"
                raise UpstreamUnreachable(message) from error
            except BaseException:
                connection.close()
                raise
            if connection.usable:
                connection.rest()
                self._idle.append(connection)
            else:
                connection.close()

    async def _open(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.begin():
                return connection
            connection.close()
        loop, origin = asyncio.get_running_loop(), self._origin
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, connection = await loop.create_connection(
                    _Connection, origin.host, origin.port, ssl=origin.tls or None
                )
        except TimeoutError:
            raise self._silent() from None
        except OSError as error:
            raise UpstreamUnreachable(f"{self._described} cannot be reached") from error
        return connection

    def _silent(self) -> UpstreamSilent:
        return UpstreamSilent(f"{self._described} did not answer in time")
