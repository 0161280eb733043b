"""The HTTP/1.1 client of the services: kept connections, read while they are written to."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from http import HTTPStatus
from typing import TypeVar

import msgspec

from gwservice.correlation import onward_lines
from gwservice.headers import SERVICE_HEADER
from gwservice.security import CallerSecret
from gwservice.upstream_connection import Answer, MalformedAnswer, Origin, UpstreamConnection, header_lines
from gwwire.agent import USER_AGENT
from gwwire.decoding import parse_json
from gwwire.problems import ProblemCode, ProblemError

T = TypeVar("T")

_CONNECT_SECONDS = 3.0
#: The time after which a refused request may find a free connection.
_FULL_SECONDS = 5


class UpstreamUnreachable(ProblemError, code=ProblemCode.UPSTREAM_UNREACHABLE):
    """The upstream cannot be reached, or the connection broke before it answered."""


class UpstreamSilent(ProblemError, code=ProblemCode.UPSTREAM_TIMEOUT):
    """The upstream did not answer in time; whether it carried out the request is unknown."""


class UpstreamInvalid(ProblemError, code=ProblemCode.UPSTREAM_INVALID):
    """The upstream sent an answer that is not in the contract."""


class UpstreamFull(ProblemError, code=ProblemCode.TOO_MANY_CONNECTIONS):
    """All connections for requests of this kind are in use."""


class UpstreamProblem(Exception):
    """The upstream answered with a problem document, which the client receives unchanged."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"the upstream answered with a problem and status {answer.status}")
        self.answer = answer


class Upstream:
    """The connections of this process to the next service; each carries one request at a time.

    A GET is repeated once if the connection breaks; other requests are not, because they may have been carried out.

    There are at most `most` connections. Further requests wait, or are refused if there is a `limit`, the name of that
    number. `seconds` limits the time to an answer, or without any progress of a stream. Another service than `name`
    refuses the requests. `address` and `setting`, which name the address and the file of the secret, are for messages.
    """

    def __init__(  # noqa: PLR0913 (all but the first two have defaults)
        self,
        url: str,
        name: str,
        *,
        most: int = 128,
        limit: str = "",
        seconds: float = 30.0,
        secret: CallerSecret | None = None,
        setting: str = "",
        address: str = "",
    ) -> None:
        self._url = f"{url} ({address})" if address else url
        self._described = f"{name} at {self._url}"
        self._name = name
        self._origin = Origin.parse(url)
        self._host = b" HTTP/1.1\r\nhost: %b\r\n" % self._origin.name
        self._host += header_lines([(b"user-agent", USER_AGENT.encode()), (SERVICE_HEADER, name.encode())])
        self._seconds = seconds
        self._secret = secret
        self._setting = setting
        self._free = asyncio.Semaphore(most)
        self._full = f"{most} requests of this kind are open, the limit of {limit}" if limit else ""
        self._idle: list[UpstreamConnection] = []

    async def request(self, method: bytes, target: bytes, headers: bytes = b"", body: Sequence[bytes] = ()) -> Answer:
        """Send a request, with headers encoded by `header_lines`, and return its complete answer.

        Raise UpstreamUnreachable, UpstreamSilent or UpstreamInvalid if there is no proper answer.
        """
        try:
            return await self._request(method, target, headers, body)
        except UpstreamUnreachable:
            if method not in {b"GET", b"HEAD"}:
                raise
            return await self._request(method, target, headers, body)

    async def _request(self, method: bytes, target: bytes, headers: bytes, body: Sequence[bytes]) -> Answer:
        connection = await self._take()
        connection.is_head = method == b"HEAD"
        try:
            connection.send((self._head(method, target, headers, body), *body))
            while not connection.answer.complete:
                await connection.wait_for_progress(self._seconds)
        except BaseException as error:
            self._drop(connection)
            if (problem := self._translated(error)) is None:
                raise
            raise problem from error
        self._keep(connection)
        return self._admitted(connection.answer)

    async def converse(
        self, method: bytes, target: bytes, headers: bytes, body: Sequence[bytes] | AsyncIterator[bytes] = ()
    ) -> AsyncGenerator[Answer]:
        """Send a request like `request`; yield its answer whenever more of it was received, from its head on.

        The answer is read no faster than it is consumed; an iterated body is sent meanwhile.
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
        connection = await self._take()
        connection.paced = True
        sending: asyncio.Task[None] | None = None
        try:
            if isinstance(body, AsyncIterator):
                connection.send((self._head(method, target, headers, None),))
                sending = asyncio.create_task(connection.send_stream(body))
            else:
                connection.send((self._head(method, target, headers, body), *body))
            while not connection.answer.complete:
                await connection.wait_for_progress(self._seconds)
                if connection.answer.status:
                    yield self._admitted(connection.answer)
        except BaseException as error:
            self._drop(connection)
            if (problem := self._translated(error)) is None:
                raise
            raise problem from error
        finally:
            if sending:
                connection.usable &= sending.done()  # nothing may follow a part of a request
                sending.cancel()
        self._keep(connection)

    def expect_answer(self, answer: Answer) -> Answer:
        """Return an answer to relay; raise UpstreamInvalid if it is an error without a problem document."""
        if answer.status >= HTTPStatus.BAD_REQUEST and not answer.is_problem():
            raise UpstreamInvalid(f"{self._described} answered {answer.status} without a problem document")
        return answer

    def decode(self, answer: Answer, status: HTTPStatus, shape: type[T]) -> T:
        """Return the decoded body of an answer.

        Raise UpstreamProblem if it is a problem document, or UpstreamInvalid if it has another status or shape.
        """
        if answer.status != status:
            if answer.is_problem():
                raise UpstreamProblem(answer)
            raise UpstreamInvalid(f"{self._described} answered {answer.status} instead of {status.value}")
        try:
            return parse_json(answer.take(), shape)
        except msgspec.DecodeError as error:
            raise UpstreamInvalid(f"{self._described} sent an answer that is not a {shape.__name__}") from error

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
        if answer.status == HTTPStatus.MISDIRECTED_REQUEST:
            other = dict(answer.headers).get(SERVICE_HEADER, b"another service").decode("latin-1")
            raise UpstreamInvalid(f"{other} answers at {self._url}, not {self._name}")
        if answer.status == HTTPStatus.UNAUTHORIZED:
            raise UpstreamInvalid(f"{self._name} refuses this service: {self._setting} is not its CALLER_SECRET_FILE")
        return answer

    async def _take(self) -> UpstreamConnection:
        if self._free.locked():
            if self._full:
                raise UpstreamFull(self._full, retry_after=_FULL_SECONDS)
            try:
                async with asyncio.timeout(self._seconds):
                    await self._free.acquire()
            except TimeoutError as error:
                raise self._silent() from error
        else:
            await self._free.acquire()
        try:
            return await self._open()
        except BaseException:
            self._free.release()
            raise

    def _keep(self, connection: UpstreamConnection) -> None:
        self._free.release()
        if connection.usable:
            connection.mark_idle()
            self._idle.append(connection)
        else:
            connection.close()

    def _drop(self, connection: UpstreamConnection) -> None:
        self._free.release()
        connection.close()

    def _translated(self, error: BaseException) -> ProblemError | None:
        if isinstance(error, TimeoutError):
            return self._silent()
        if isinstance(error, (MalformedAnswer, OSError)):
            return UpstreamUnreachable(f"the connection to {self._described} broke before it answered")
        return None

    async def _open(self) -> UpstreamConnection:
        while self._idle:
            connection = self._idle.pop()
            if connection.begin():
                return connection
            connection.close()
        loop, origin = asyncio.get_running_loop(), self._origin
        tls = origin.tls or None
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, connection = await loop.create_connection(UpstreamConnection, origin.host, origin.port, ssl=tls)
        except TimeoutError:
            raise self._silent() from None
        except OSError as error:
            raise UpstreamUnreachable(f"{self._described} cannot be reached") from error
        return connection

    def _silent(self) -> UpstreamSilent:
        return UpstreamSilent(f"{self._described} did not answer in time")
