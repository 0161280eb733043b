"""Reading the body of a request from ASGI: whole or piece by piece, with limits of size and time."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from typing import Any

from gwservice.asgi_types import Message, Receive
from gwwire.problems import ProblemCode, ProblemError

_JSON, _RAW_JSON = "application/json", b"application/json"
#: Bytes of the largest order; a reasonable one has less than a tenth of it.
ORDER_LIMIT = 64 * 1024


class UnsupportedMediaType(ProblemError, code=ProblemCode.UNSUPPORTED_MEDIA_TYPE):
    """The body has a media type that this route does not accept, or is compressed."""


class TooLarge(ProblemError, code=ProblemCode.TOO_LARGE):
    """The body is larger than this service accepts."""


class BodyLate(ProblemError, code=ProblemCode.TIMEOUT):
    """The body was not received in time."""


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


def media_type(headers: Mapping[bytes, bytes]) -> str:
    """Return the media type of a request's body; JSON if the request does not name one."""
    given = headers.get(b"content-type", _RAW_JSON)
    return _JSON if given == _RAW_JSON else given.decode("latin-1").partition(";")[0].strip().lower()


def require_json(headers: Mapping[bytes, bytes]) -> None:
    """Raise UnsupportedMediaType if the body is not JSON."""
    if media_type(headers) != _JSON:
        raise UnsupportedMediaType(f"expected {_JSON}, got {headers[b'content-type'].decode('latin-1')}")


def refuse_encoded(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Raise UnsupportedMediaType if the body of a request is compressed: no service decodes it."""
    codings = b",".join(value for name, value in headers if name == b"content-encoding").decode("latin-1")
    if any(coding.strip().lower() not in {"", "identity"} for coding in codings.split(",")):
        detail = f"Content-Encoding: {codings} is not supported; send the body uncompressed"
        raise UnsupportedMediaType(detail, field="Content-Encoding")


async def read_body(
    receive: Receive,
    headers: Mapping[bytes, bytes],
    *,
    limit: int,
    seconds: float | None = None,
    limit_name: str = "MAX_BODY",
) -> list[bytes]:
    """Read a body of at most `limit` bytes within `seconds`, and return it in pieces.

    Raise TooLarge if it is larger, BodyLate if it is not complete in time, ClientGone if the client closed the
    connection.
    """
    if int(headers.get(b"content-length", 0)) > limit:
        raise _too_large(limit, limit_name)
    pieces: list[bytes] = []
    size, more = _add(await receive(), pieces)  # the server limits the wait for each piece
    if more:
        try:
            async with asyncio.timeout(seconds):
                while more and size <= limit:
                    added, more = _add(await receive(), pieces)
                    size += added
        except TimeoutError as error:
            raise body_late(seconds or 0) from error
    if size > limit:
        raise _too_large(limit, limit_name)
    return pieces


async def body_pieces(receive: Receive) -> AsyncIterator[bytes]:
    """Yield a body piece by piece; raise BodyLate or ClientGone as `read_body` does."""
    more = True
    while more:
        pieces: list[bytes] = []
        size, more = _add(await receive(), pieces)
        if size:
            yield pieces[0]


async def while_connected(receive: Receive, answering: Coroutine[Any, Any, None]) -> None:
    """Answer a request whose body was read; stop, and raise ClientGone, when the client closes the connection."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.ensure_future(answering), asyncio.ensure_future(gone())]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise ClientGone
        tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _add(message: Message, pieces: list[bytes]) -> tuple[int, bool]:
    if message["type"] != "http.request":
        raise ClientGone
    piece = message.get("body", b"")
    pieces.append(piece)
    return len(piece), message.get("more_body", False)


def _too_large(limit: int, name: str) -> TooLarge:
    return TooLarge(f"the body is larger than {limit} bytes ({name})")


def body_late(seconds: float) -> BodyLate:
    """Return the error of a body that was not received within BODY_TIMEOUT."""
    return BodyLate(f"the body was not received within {seconds:g} s (BODY_TIMEOUT)")
