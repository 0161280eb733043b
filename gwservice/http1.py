"""HTTP/1.1 as a caller speaks it, without a socket: requests become bytes, and bytes become answers."""

import string
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import httptools

#: What ends a body that was sent in chunks.
LAST_CHUNK = b"0\r\n\r\n"
_FINAL = 200


class MalformedAnswer(Exception):
    """What came is no HTTP answer; the connection is of no use any more."""


class Place(NamedTuple):
    """Where a service is: the parts of its base URL."""

    host: str
    port: int
    tls: bool
    name: str
    path: str

    @classmethod
    def of(cls, url: str) -> "Place":
        """Take an `http://` or `https://` URL apart."""
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        return cls(parts.hostname or "", parts.port or (443 if tls else 80), tls, parts.netloc, parts.path)

    def head(self, method: str, target: str, headers: Mapping[str, str], length: int | None = 0) -> bytes:
        """Encode all of a request but its body.

        Args:
            method: `GET`, `POST`.
            target: path and query below the base URL; what may not stand in one is quoted.
            headers: beside those that every request has; a line break in one is refused.
            length: bytes of the body; None: it comes in chunks.

        Raises:
            ValueError: a header cannot be sent as it is.

        """
        framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
        if method == "GET":
            framing = "Accept: */*"
        lines = [
            f"{method} {quote(self.path + target, safe=string.punctuation)} HTTP/1.1",
            f"Host: {self.name}",
            framing,
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        head = "\r\n".join(lines)
        if head.count("\n") >= len(lines) or head.count("\r") >= len(lines) or "\0" in head:
            raise ValueError("a header with a line break in it cannot be passed on")
        return f"{head}\r\n\r\n".encode("latin-1")


def framed(chunk: bytes) -> bytes:
    """Give a part of a body that is sent in chunks."""
    return b"%x\r\n%b\r\n" % (len(chunk), chunk)


class Headers:
    """The headers of an answer; their names are the same in any case."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def get(self, key: str, /) -> str | None:
        """Give a header, None where there is none of that name."""
        return self._values.get(key.lower())

    def add(self, name: bytes, value: bytes) -> None:
        """Take a header; of several with one name the last one counts."""
        self._values[name.decode("latin-1").lower()] = value.decode("latin-1")


class Answer:
    """An answer, as far as it has come.

    Attributes:
        status: HTTP status; 0 until status and headers are there.
        headers: the answer's headers.
        complete: all of it is there.
        lasting: the connection may be used for another request after it.

    """

    def __init__(self) -> None:
        self.status = 0
        self.headers = Headers()
        self.complete = False
        self.lasting = False
        self._parts: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Take what came over the connection; what follows a complete answer spoils the connection, not the answer.

        Raises:
            MalformedAnswer: it is no HTTP.

        """
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                raise MalformedAnswer(str(error)) from error
            self.lasting = False

    def end(self) -> None:
        """Take the end of the connection: also the answer's, where it did not say how long it is.

        Raises:
            MalformedAnswer: the answer is not complete.

        """
        unbounded = self.headers.get("Content-Length") is None and self.headers.get("Transfer-Encoding") is None
        if not self.complete and not (self.status and unbounded):
            raise MalformedAnswer("the connection ended before the answer did")
        self.complete, self.lasting = True, False

    def take(self) -> bytes:
        """Give the part of the body that has come since this was asked last."""
        part = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        return part

    # ---- what the parser calls

    def on_message_begin(self) -> None:
        """Begin: an answer, or one after an interim answer such as 100."""
        if self.complete:
            raise ValueError("there is more than one answer")
        self.headers = Headers()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self.headers.add(name, value)

    def on_headers_complete(self) -> None:
        """Take the status, unless this is an interim answer."""
        status = self._parser.get_status_code()
        if status >= _FINAL:
            self.status = status
            self.lasting = self._parser.should_keep_alive()

    def on_body(self, part: bytes) -> None:
        """Take a part of the body."""
        self._parts.append(part)

    def on_message_complete(self) -> None:
        """Note the end."""
        self.complete = bool(self.status)
