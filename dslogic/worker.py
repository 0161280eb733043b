"""Gunicorn's threaded worker, whose threads no slow sender can hold."""

import threading
import time
from collections.abc import Callable, Iterable
from socket import SHUT_RD, socket
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from gunicorn.http.body import ChunkedReader
from gunicorn.workers import gthread

from dslogic.errors import BodyLate
from dslogic.settings import LogicSettings
from gwwire.segment import NDJSON

#: How long a thread waits for a new connection to say something, before gunicorn's loop does.
_FIRST_WORD_SECONDS = 0.1
_LOOKS = 4
_LONGEST_LOOK = 1.0


class Deadlines:
    """Ends reads that take too long: the reading side of their socket is closed under them.

    A time-out of the socket would not do, because each byte begins it anew. One thread looks for all of a process.
    """

    def __init__(self, shortest: float) -> None:
        self._due: dict[socket, float] = {}
        self._interval = min(_LONGEST_LOOK, shortest / _LOOKS)
        threading.Thread(target=self._look_on, name="deadlines", daemon=True).start()

    def begin(self, connection: socket, seconds: float) -> None:
        """Let reads from a connection go on for so long."""
        self._due[connection] = time.monotonic() + seconds

    def end(self, connection: socket) -> bool:
        """Let them go on without end; False: it was too late already."""
        return self._due.pop(connection, None) is not None

    def _look_on(self) -> None:
        while True:
            time.sleep(self._interval)
            now = time.monotonic()
            for connection, due in list(self._due.items()):
                if due <= now and self.end(connection):
                    _stop_reading(connection)


def _stop_reading(connection: socket) -> None:
    try:
        connection.shutdown(SHUT_RD)
    except OSError:  # its thread has closed it meanwhile
        return


class TimelyBody:
    """The body of a request: it comes within `seconds`, or of a stream its next piece.

    Every method raises BodyLate where it does not.
    """

    def __init__(self, environ: WSGIEnvironment, deadlines: Deadlines, seconds: float) -> None:
        self._body = environ["wsgi.input"]
        self._connection: socket = environ["gunicorn.socket"]
        self._deadlines = deadlines
        self._seconds = seconds
        self._streamed = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() == NDJSON
        self._in_pieces = self._streamed and isinstance(self._body.reader, ChunkedReader)
        self._until: float | None = None

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes, or all; of a stream in chunks the next piece, which may be shorter."""
        read = self._next_piece if self._in_pieces else self._body.read
        return self._timely(read, None if size < 0 else size)

    def readline(self, size: int = -1) -> bytes:
        """Read a line."""
        return self._timely(self._body.readline, None if size < 0 else size)

    def _next_piece(self, size: int | None) -> bytes:
        """Read what is there, once anything is: gunicorn's own waits for all of `size`, small lines for minutes."""
        first: bytes = self._body._read_reader(1)  # noqa: SLF001 (the way by which gunicorn learns of a failure)
        there = self._body.reader.buf.tell()
        rest: bytes = self._body.reader.read(there if size is None else min(size - 1, there))
        return first + rest

    def _timely(self, read: Callable[[int | None], bytes], size: int | None) -> bytes:
        now = time.monotonic()
        if self._until is None or self._streamed:
            self._until = now + self._seconds
        self._deadlines.begin(self._connection, self._until - now)
        failure: OSError | None = None
        try:
            piece = read(size)
        except OSError as error:
            failure = error
        if not self._deadlines.end(self._connection):
            raise BodyLate(f"the body did not come within {self._seconds:g} s (BODY_TIMEOUT)") from failure
        if failure:
            raise failure
        return piece


class Worker(gthread.ThreadWorker):  # type: ignore[misc]  # gunicorn ships no types
    """A worker whose threads wait for the headers and the body of a request only so long."""

    def init_process(self) -> None:
        """Begin, in a process of its own."""
        settings = LogicSettings.load()
        self._header_seconds, self._body_seconds = settings.HEADER_TIMEOUT, settings.BODY_TIMEOUT
        self._deadlines = Deadlines(min(self._header_seconds, self._body_seconds))
        super().init_process()

    def load_wsgi(self) -> None:
        """Put the end of the wait for the headers, and the wait for the body, in front of the application."""
        super().load_wsgi()
        application = self.wsgi

        def timely(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            self._deadlines.end(environ["gunicorn.socket"])
            environ["wsgi.input"] = TimelyBody(environ, self._deadlines, self._body_seconds)
            return application(environ, start_response)

        self.wsgi: WSGIApplication = timely

    def handle(self, conn: Any) -> Any:
        """Carry out the next request of a connection."""
        if not conn.initialized and not conn.wait_for_data(_FIRST_WORD_SECONDS):
            return gthread._DEFER  # noqa: SLF001 (how gunicorn's own `handle` gives a connection back to the loop)
        connection = conn.sock
        self._deadlines.begin(connection, self._header_seconds)
        try:
            return super().handle(conn)
        finally:
            self._deadlines.end(connection)
