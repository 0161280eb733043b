"""Connections to dslogic: kept, one request at a time on each, and read while they are written to."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import cast

from glitchflow_api.errors import LogicSilent, LogicUnreachable
from gwservice.correlation import with_onward
from gwservice.http1 import LAST_CHUNK, Answer, MalformedAnswer, Place, framed

_CONNECT_SECONDS = 3.0
#: Shorter than dslogic keeps an idle connection, so that none is closed at the moment it is used.
_IDLE_SECONDS = 30.0


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time.

    Attributes:
        answer: the answer to the request under way, as far as it has come.
        usable: nothing has ended or spoilt the connection.
        paced: what comes is taken piece by piece, and no faster.

    """

    def __init__(self) -> None:
        self.answer = Answer()
        self.usable = True
        self.paced = False
        self._failure: Exception | None = None
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._unused_since = 0.0

    def begin(self) -> bool:
        """Make ready for a request; False: the connection has been idle for too long, or dslogic closed it."""
        self.answer, self.paced = Answer(), False
        self._news.clear()
        return self.usable and time.monotonic() - self._unused_since < _IDLE_SECONDS

    def send(self, *pieces: bytes) -> None:
        """Send, without waiting."""
        self._transport.writelines(pieces)

    async def send_by_and_by(self, chunks: AsyncIterator[bytes]) -> None:
        """Send a body in chunks, no faster than dslogic takes it; what goes wrong is told to who waits for news."""
        try:
            async for chunk in chunks:
                if chunk:
                    await self._writable.wait()
                    self.send(framed(chunk))
                    self._news.set()
            self.send(LAST_CHUNK)
        except Exception as error:  # noqa: BLE001 (it is raised where the answer is waited for)
            self._fail(error)

    async def news(self) -> None:
        """Wait until more of the answer is there, or more of the body is sent.

        Raises:
            MalformedAnswer, OSError: the connection broke.

        """
        if self.paced:
            self._transport.resume_reading()
        await self._news.wait()
        self._news.clear()
        if self._failure:
            raise self._failure

    def rest(self) -> None:
        """Note that the connection is not used any more for now; its end is still noticed."""
        self._transport.resume_reading()
        self._unused_since = time.monotonic()

    def close(self) -> None:
        """Close it, whatever is under way."""
        self.usable = False
        self._transport.abort()

    def _fail(self, error: Exception) -> None:
        self.usable = False
        self._failure = error
        self._news.set()

    # ---- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take a part of the answer; what comes unasked spoils the connection."""
        if self.answer.complete:
            self.usable = False
            return
        if self.paced:
            self._transport.pause_reading()
        try:
            self.answer.feed(data)
        except MalformedAnswer as error:
            self._fail(error)
        if self.answer.complete or self.paced:
            self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the answer."""
        self.usable = False
        self._writable.set()
        try:
            self.answer.end()
        except MalformedAnswer as error:
            self._fail(exc or error)
        self._news.set()

    def pause_writing(self) -> None:
        """Wait: dslogic does not take what was sent."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Go on."""
        self._writable.set()


class Connections:
    """The connections of this process; each request has one for itself.

    Args:
        address: dslogic's base URL.
        most: how many there are at once; further requests wait.
        seconds: how long a request may take, or a conversation be silent.

    """

    def __init__(self, address: str, most: int, seconds: float) -> None:
        self._address = address
        self._place = Place.of(address)
        self._seconds = seconds
        self._free = asyncio.Semaphore(most)
        self._idle: list[Connection] = []

    async def ask(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a request and give its complete answer.

        Raises:
            LogicUnreachable: there is no connection, or it broke.
            LogicSilent: no answer came in time.

        """
        try:
            async with asyncio.timeout(self._seconds), self._one() as connection:
                connection.send(self._place.head(method, target, with_onward(headers), len(body)), body)
                while not connection.answer.complete:
                    await connection.news()
                return connection.answer
        except TimeoutError as error:
            raise self._silent() from error

    async def converse(
        self, target: str, headers: Mapping[str, str], chunks: AsyncIterator[bytes]
    ) -> AsyncGenerator[Answer]:
        """POST a body that comes by and by; give the answer each time there is more of it, from its head on.

        Raises:
            LogicUnreachable: there is no connection, or it broke.
            LogicSilent: nothing is sent and nothing comes.

        """
        async with self._one() as connection:
            connection.paced = True
            connection.send(self._place.head("POST", target, with_onward(headers), None))
            sending = asyncio.create_task(connection.send_by_and_by(chunks))
            try:
                while not connection.answer.complete:
                    async with asyncio.timeout(self._seconds):
                        await connection.news()
                    if connection.answer.status:
                        yield connection.answer
            except TimeoutError as error:
                raise self._silent() from error
            finally:
                connection.usable &= sending.done()  # nothing else may follow a part of a request
                sending.cancel()

    def close(self) -> None:
        """Close the idle connections."""
        for connection in self._idle:
            connection.close()

    @asynccontextmanager
    async def _one(self) -> AsyncIterator[Connection]:
        """Give a connection that nothing has been sent over yet; it is kept if the request ends well."""
        async with self._free:
            connection = await self._open()
            try:
                yield connection
            except (MalformedAnswer, OSError) as error:
                connection.close()
                message = f"the connection to dslogic at {self._address} broke before it answered"
                raise LogicUnreachable(message) from error
            except BaseException:
                connection.close()
                raise
            if connection.usable and connection.answer.lasting:
                connection.rest()
                self._idle.append(connection)
            else:
                connection.close()

    async def _open(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.begin():
                return connection
            connection.close()
        loop, place = asyncio.get_running_loop(), self._place
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, connection = await loop.create_connection(Connection, place.host, place.port, ssl=place.tls or None)
        except TimeoutError:
            raise self._silent() from None
        except OSError as error:
            raise LogicUnreachable(f"dslogic at {self._address} cannot be reached") from error
        return connection

    def _silent(self) -> LogicSilent:
        return LogicSilent(f"dslogic at {self._address} did not answer in time")
