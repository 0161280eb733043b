"""Just enough of HTTP/1.1 to know when an answer is whole, and what it says.

The generator shares the machine with what it measures, so it reads no more of an answer than that.
"""

from dataclasses import dataclass

_HEAD_END = b"\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes
    keeps: bool

    def created(self) -> int:
        """Give how many segments it acknowledges: 201, or the word of the contract, once for each."""
        if self.status == 201:  # noqa: PLR2004 (HTTP's own number)
            return 1
        return self.body.count(b'"CREATED"') if self.status == 200 else 0  # noqa: PLR2004 (HTTP's own number)


def parse_response(received: bytearray, *, ended: bool = False) -> Answer | None:
    """Give the answer when it is whole; `received` is all that came since the request, `ended`: no more will come."""
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
    return Answer(int(head[9:12]), _join_chunks(body) if chunked else body, keeps)


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
