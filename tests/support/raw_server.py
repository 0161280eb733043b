"""A server that sends prepared bytes to its callers, one script for each connection."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"


class ServerConnection:
    """One connection, from the server's side."""

    def __init__(self, connection: socket.socket, requests: list[bytes]) -> None:
        connection.settimeout(60)
        self._socket = connection
        self._requests = requests
        self._received = b""

    def request(self) -> bytes:
        """Read a whole request; return its body, with the chunk lines of a chunked one."""
        head = self.head()
        chunked = b"transfer-encoding: chunked" in head.lower()
        length = next((int(line[15:]) for line in head.lower().splitlines() if line.startswith(b"content-length:")), 0)
        body = self.until(b"0\r\n\r\n") if chunked else self.exactly(length)
        self._requests.append(body)
        return body

    def head(self) -> bytes:
        """Read a request's head."""
        return self.until(b"\r\n\r\n")

    def until(self, mark: bytes) -> bytes:
        """Read up to a mark."""
        looked_through = 0
        while (place := self._received.find(mark, max(0, looked_through - len(mark)))) < 0:
            looked_through = len(self._received)
            self._more()
        return self.exactly(place + len(mark))

    def exactly(self, number: int) -> bytes:
        """Read this number of bytes."""
        parts = [self._received]
        while (missing := number - sum(map(len, parts))) > 0:
            parts.append(self._socket.recv(max(missing, 1 << 16)))
            if not parts[-1]:
                raise EOFError
        whole = b"".join(parts)
        self._received = whole[number:]
        return whole[:number]

    def rest(self) -> int:
        """Read until the caller closes; return the number of bytes."""
        count = len(self._received)
        with suppress(ConnectionError):
            while data := self._socket.recv(1 << 20):
                count += len(data)
        return count

    def say(self, *parts: bytes) -> None:
        """Send the parts, each by itself."""
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            self._socket.sendall(part)

    def _more(self) -> None:
        data = self._socket.recv(1 << 16)
        if not data:
            raise EOFError
        self._received += data


Script = Callable[[ServerConnection], None]


@dataclass
class RawServer:
    """The server's address, the bodies it read completely, and the number of scripts that have ended."""

    url: str
    requests: list[bytes] = field(default_factory=list)
    ended: list[threading.Event] = field(default_factory=list)


@contextmanager
def raw_server(*scripts: Script, tls: ssl.SSLContext | None = None) -> Iterator[RawServer]:
    """Serve one connection after another, each by its script; further connections are refused."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        scheme = "https://localhost" if tls else "http://127.0.0.1"
        server = RawServer(f"{scheme}:{listener.getsockname()[1]}", ended=[threading.Event() for _ in scripts])

        live: list[socket.socket] = []

        def serve() -> None:
            for script, ended in zip(scripts, server.ended, strict=True):
                try:
                    connection, _ = listener.accept()
                    connection = tls.wrap_socket(connection, server_side=True) if tls else connection
                except OSError:  # the test is over
                    return
                live.append(connection)
                with connection, suppress(EOFError, OSError):
                    script(ServerConnection(connection, server.requests))
                ended.set()
            listener.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server
        finally:
            for each in (listener, *live):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            thread.join()


def answers_once(talk: ServerConnection) -> None:
    """Answer one request, and close."""
    talk.request()
    talk.say(OK)


def answers_always(talk: ServerConnection) -> None:
    """Answer until the caller closes."""
    while True:
        talk.request()
        talk.say(OK)


def closes_without_answer(talk: ServerConnection) -> None:
    """Read a request, and close without an answer."""
    talk.request()


def never_answers(talk: ServerConnection) -> None:
    """Read everything, and send nothing."""
    talk.rest()


#: Answers with the same content in different framings: the parts to send.
FRAMINGS = {
    "length": [b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nETag: x\r\n\r\n", b"strain"],
    "chunks": [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\netag: x\r\n\r\n2\r\nst\r\n",
        b"4\r\nrain\r\n",
        b"0\r\n\r\n",
    ],
    "until the end": [b"HTTP/1.1 200 OK\r\nETAG: x\r\n\r\nst", b"rain"],
    "after an interim answer": [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nETag: x\r\n\r\nstrain",
    ],
}
#: Incomplete answers.
BROKEN = {
    "nothing": b"",
    "no HTTP": b"220 mail.example ESMTP\r\n",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "half a body": b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nst",
    "chunks without an end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nst\r\n",
}
