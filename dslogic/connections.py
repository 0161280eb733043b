"""Connections to the buffer: kept, looked at before they are used again, and read while they are written to."""

import select
import socket
import ssl
import time
import weakref
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager

from dslogic.errors import BufferSilent, BufferUnreachable
from gwservice.correlation import with_onward
from gwservice.http1 import LAST_CHUNK, Answer, MalformedAnswer, Place, framed

_CONNECT_SECONDS = 3.0
#: Shorter than the buffer keeps an idle connection, so that none is closed at the moment it is used.
_IDLE_SECONDS = 30.0
_RECEIVE_BYTES = 256 * 1024


class Connection:
    """A connection that carries one request at a time.

    Every method raises BufferSilent where the buffer neither sends nor takes anything for some time, and
    BufferUnreachable where the connection breaks.

    Attributes:
        answer: the answer to the request under way, as far as it has come.

    """

    def __init__(self, place: Place, address: str, seconds: float) -> None:
        self.answer = Answer()
        self._address = address
        self._seconds = seconds
        self._unused_since = time.monotonic()
        try:
            self._socket = socket.create_connection((place.host, place.port), _CONNECT_SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if place.tls:
                self._socket = ssl.create_default_context().wrap_socket(self._socket, server_hostname=place.host)
        except OSError as error:
            raise BufferUnreachable(f"the buffer at {address} cannot be reached") from error
        self._socket.settimeout(seconds)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN | select.POLLOUT)

    def begin(self) -> bool:
        """Make ready for a request; False: the connection has been idle for too long, or the buffer closed it."""
        self.answer = Answer()
        recent = time.monotonic() - self._unused_since < _IDLE_SECONDS
        return recent and [event for _, event in self._poll.poll(0)] == [select.POLLOUT]

    def send(self, data: bytes) -> None:
        """Send, and take what comes meanwhile; a complete answer ends it early."""
        left = memoryview(data)
        while left and not self.answer.complete:
            if self._has_news():
                self._socket.settimeout(0)  # what has come may be TLS's own, and no part of the answer
                self.receive()
                self._socket.settimeout(self._seconds)
                continue
            try:
                left = left[self._socket.send(left) :]
            except OSError:
                self.finish()  # what the buffer said before it closed the connection
        if left:
            self.answer.lasting = False  # nothing else may follow a part of a request

    def receive(self) -> None:
        """Wait for the next part of the answer."""
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
            if data:
                self.answer.feed(data)
            else:
                self.answer.end()
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except TimeoutError as error:
            raise self._silent() from error
        except (OSError, MalformedAnswer) as error:
            message = f"the connection to the buffer at {self._address} broke before it answered"
            raise BufferUnreachable(message) from error

    def finish(self) -> None:
        """Wait for all of the answer."""
        while not self.answer.complete:
            self.receive()

    def rest(self) -> None:
        """Note that the connection is not used any more for now."""
        self._unused_since = time.monotonic()

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def _has_news(self) -> bool:
        """Wait until something has come or can be sent; say whether something has come, be it the connection's end."""
        events = self._poll.poll(self._seconds * 1000)
        if not events:
            raise self._silent()
        return bool(events[0][1] & ~select.POLLOUT)

    def _silent(self) -> BufferSilent:
        return BufferSilent(f"the buffer at {self._address} did not answer in time")


class Connections:
    """The connections of this process; its threads share them, and each request has one for itself.

    Args:
        address: the buffer's base URL.
        kept: how many idle ones are kept at most.
        seconds: how long the buffer may neither send nor take anything.

    """

    def __init__(self, address: str, kept: int, seconds: float) -> None:
        self._address = address
        self._place = Place.of(address)
        self._kept = kept
        self._seconds = seconds
        self._idle: list[Connection] = []
        weakref.finalize(self, _close_all, self._idle)

    def ask(self, method: str, target: str, headers: Mapping[str, str], body: deque[bytes]) -> Answer:
        """Send a request and give its complete answer.

        Args:
            method: of HTTP.
            target: path and query.
            headers: those of this request only.
            body: in pieces, which are taken out as they are sent: a thread that waits for the answer, as most do, holds
                no segment.

        Raises:
            BufferUnreachable: there is no connection, or it broke.
            BufferSilent: no answer came in time.

        """
        with self._one() as connection:
            head = self._place.head(method, target, with_onward(headers), sum(map(len, body)))
            connection.send(head + body.popleft() if body else head)  # in one packet, where it is small
            while body:
                connection.send(body.popleft())
            connection.finish()
            return connection.answer

    def converse(self, target: str, headers: Mapping[str, str], chunks: Iterator[bytes]) -> Generator[Answer]:
        """POST a body that comes by and by; give the answer each time there is more of it, from its head on.

        Raises:
            BufferUnreachable: there is no connection, or it broke.
            BufferSilent: the buffer neither sends nor takes anything.

        """
        with self._one() as connection:
            answer = connection.answer
            connection.send(self._place.head("POST", target, with_onward(headers), None))
            for chunk in chunks:
                connection.send(framed(chunk))
                if answer.complete:
                    answer.lasting = False  # nothing else may follow a part of a request
                    break
                if answer.status:
                    yield answer
            else:
                connection.send(LAST_CHUNK)
            while not answer.complete:
                connection.receive()
                if answer.status and not answer.complete:
                    yield answer
            yield answer

    @contextmanager
    def _one(self) -> Iterator[Connection]:
        """Give a connection that nothing has been sent over yet; it is kept if the request ends well."""
        connection = self._open()
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        if connection.answer.complete and connection.answer.lasting and len(self._idle) < self._kept:
            connection.rest()
            self._idle.append(connection)
        else:
            connection.close()

    def _open(self) -> Connection:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return Connection(self._place, self._address, self._seconds)
            if connection.begin():
                return connection
            connection.close()


def _close_all(connections: list[Connection]) -> None:
    for connection in connections:
        connection.close()
