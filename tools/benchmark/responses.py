"""A minimal parser of HTTP/1.1 responses: the generator shares the machine with the services it measures."""

from dataclasses import dataclass

_HEAD_END = b"\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True)
class Response:
    """A complete response."""

    status: int
    body: bytes
    keeps: bool

    def created(self) -> int:
        """Return the number of segments acknowledged: one for a 201, else the number of CREATED in the body."""
        if self.status == 201:  # noqa: PLR2004 (HTTP's own number)
            return 1
        return self.body.count(b'"CREATED"') if self.status == 200 else 0  # noqa: PLR2004 (HTTP's own number)


def parse_response(received: bytearray, *, ended: bool = False) -> Response | None:
    """Return the response, or None if it is incomplete; `ended`: the server closed the connection."""
    end = received.find(_HEAD_END)
    if end < 0:
        return None
    head = bytes(received[:end]).lower()
    body = bytes(received[end + len(_HEAD_END) :])
    length = _header(head, b"content-length")
    chunked = _header(head, b"transfer-encoding") == b"chunked"
    if chunked:
        whole = body == _LAST_CHUNK or body.endswith(b"\r\n" + _LAST_CHUNK)
    else:
        whole = len(body) >= int(length) if length is not None else ended
    if not whole:
        return None
    keeps = head.startswith(b"http/1.1") and _header(head, b"connection") != b"close" and (chunked or bool(length))
    return Response(int(head[9:12]), _join_chunks(body) if chunked else body, keeps)


def _header(head: bytes, name: bytes) -> bytes | None:
    start = head.find(b"\r\n" + name + b":")
    if start < 0:
        return None
    start += len(name) + 3
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else None].strip()


def _join_chunks(body: bytes) -> bytes:
    chunks: list[bytes] = []
    place = 0
    while True:
        line_end = body.index(b"\r\n", place)
        size = int(body[place:line_end].partition(b";")[0], 16)
        if not size:
            return b"".join(chunks)
        chunks.append(body[line_end + 2 : line_end + 2 + size])
        place = line_end + 2 + size + 2
