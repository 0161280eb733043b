"""One HTTP/1.1 request and its answer, on a connection of its own. Every call blocks.

The body of a request is sent when the server has agreed (`Expect: 100-continue`), so that it can name another server
first, as storage systems do. An answer that ends early is an error, whatever part of it came.
"""

import math
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import h11

from databuffer.tiers.tier import TierError
from gwservice.upstream_connection import Origin

#: Bytes of a read; the memory of larger ones costs more time than they save.
_RECEIVED = 1 << 16
#: Bytes that have to be sent within `_SILENT_SECONDS`.
_SENT = 1 << 20
#: Bytes of a chunk that `body` yields.
_CHUNK = 1 << 20
_CONNECT_SECONDS = 10.0
#: Longest time without a byte from the server, which may have to fetch a file from another disk.
_SILENT_SECONDS = 120.0
#: A server that does not know `Expect` sends nothing until it has the body.
_CONTINUE_SECONDS = 2.0


class Interrupted(Exception):
    """There is no complete answer, or it asks to try again: the same request may succeed later.

    `pause` is the time in seconds that the server asked for.
    """

    def __init__(self, reason: str, pause: float = 0.0) -> None:
        super().__init__(reason)
        self.pause = pause


@dataclass(frozen=True, slots=True)
class Answer:
    """The status, the headers by lower-case name, and, if it was read, the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class Exchange:
    """A connection to a server for one request, closed when the block ends; `place` is for messages."""

    def __init__(self, origin: Origin, tls: ssl.SSLContext, place: str, until: float = math.inf) -> None:
        """Connect. An answer that is not complete at the time `until`, as of `time.monotonic`, is an error.

        Methods raise Interrupted if the network or the server fails.
        """
        self._http = h11.Connection(h11.CLIENT)
        self._head: h11.Response | None = None
        self._place = place
        self._until = until
        with self._interrupted():
            self._socket = _connected(origin, tls)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send_head(self, method: str, target: str, headers: Iterable[tuple[str, str]]) -> None:
        """Send the head of the request."""
        with self._interrupted():
            request = h11.Request(method=method, target=target, headers=[*headers, ("Connection", "close")])
        self._send(request)

    def agrees(self) -> bool:
        """Wait until the server agrees to the body; return False if it has answered without it."""
        self._socket.settimeout(_CONTINUE_SECONDS)
        try:
            event = self._next()
        except _Silent:
            return True
        finally:
            self._socket.settimeout(_SILENT_SECONDS)
        self._head = event if isinstance(event, h11.Response) else None
        return self._head is None

    def send_body(self, chunks: Iterable[bytes]) -> None:
        """Send the body, of as many bytes as the head said; an exception of `chunks` is raised as it is."""
        for chunk in chunks:
            for start in range(0, len(chunk), _SENT):
                self._send(h11.Data(data=chunk[start : start + _SENT]))
        self._send(h11.EndOfMessage())

    def answer(self) -> Answer:
        """Return the answer without its body."""
        while self._head is None:
            event = self._next()
            self._head = event if isinstance(event, h11.Response) else None
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in self._head.headers}
        return Answer(self._head.status_code, headers)

    def body(self) -> Iterator[bytes]:
        """Yield the body of the answer."""
        yield from (b"".join(parts) for parts in self._parts() if parts)

    def _parts(self) -> Iterator[list[bytes]]:
        """Yield parts of the body that are a chunk together; those that came before an error, before it is raised."""
        parts: list[bytes] = []
        try:
            while isinstance(event := self._next(), h11.Data):
                parts.append(event.data)
                if sum(map(len, parts)) >= _CHUNK:
                    yield parts
                    parts = []
        except Interrupted:
            yield parts
            raise
        yield parts

    def _send(self, event: h11.Event) -> None:
        with self._interrupted():
            for part in self._http.send_with_data_passthrough(event) or ():
                self._socket.sendall(part)

    def _next(self) -> object:
        with self._interrupted():
            while True:
                event = self._http.next_event()
                if event is not h11.NEED_DATA:
                    return event
                if time.monotonic() > self._until:
                    raise _Silent(f"{self._place}: the answer did not end in time")
                self._http.receive_data(self._socket.recv(_RECEIVED))

    @contextmanager
    def _interrupted(self) -> Iterator[None]:
        """Raise Interrupted instead of errors of the network, or TierError if the certificate is not trusted."""
        try:
            yield
        except ssl.SSLCertVerificationError as error:
            reason = f"the server's certificate is not trusted (SSL_CERT_FILE): {error.verify_message}"
            raise TierError(f"{self._place}: {reason}") from error
        except TimeoutError as error:
            raise _Silent(f"{self._place}: the server did not answer in time") from error
        except (h11.LocalProtocolError, UnicodeError) as error:  # of an address that a redirect names
            raise TierError(f"{self._place}: the server's name, or the path, is not valid: {error}") from error
        except h11.RemoteProtocolError as error:
            raise Interrupted(f"{self._place}: the answer ended early, or is not HTTP") from error
        except OSError as error:
            reason = f"the server cannot be reached, or the connection broke: {error.strerror or error}"
            raise Interrupted(f"{self._place}: {reason}") from error


class _Silent(Interrupted):
    """The server sent nothing for some time."""


def _connected(origin: Origin, tls: ssl.SSLContext) -> socket.socket:
    connection = socket.create_connection((origin.host, origin.port), _CONNECT_SECONDS)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if origin.tls:
            connection = tls.wrap_socket(connection, server_hostname=origin.host)
        connection.settimeout(_SILENT_SECONDS)
    except BaseException:
        connection.close()
        raise
    return connection
