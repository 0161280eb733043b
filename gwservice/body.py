"""Reading the body of a request from ASGI: whole or piece by piece, with limits of size and time."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from gwservice.asgi_types import Receive
from gwwire.problems import ProblemCode, ProblemError

_JSON = "application/json"
#: Bytes of the largest order; no sensible one has a tenth of it.
ORDER_LIMIT = 64 * 1024


class UnsupportedMediaType(ProblemError):
    """The body has a media type that this route does not accept."""

    code = ProblemCode.UNSUPPORTED_MEDIA_TYPE


class TooLarge(ProblemError):
    """The body is larger than this service accepts."""

    code = ProblemCode.TOO_LARGE


class BodyLate(ProblemError):
    """The body was not received in time."""

    code = ProblemCode.TIMEOUT


class ClientGone(Exception):
    """The client closed the connection before its request was complete."""


def media_type(headers: Mapping[bytes, bytes]) -> str:
    """Return the media type of a request's body; JSON if the request does not name one."""
    given = headers.get(b"content-type")
    return _JSON if given is None else given.decode("latin-1").partition(";")[0].strip().lower()


def require_json(headers: Mapping[bytes, bytes]) -> None:
    """Raise UnsupportedMediaType if the body is not JSON."""
    if media_type(headers) != _JSON:
        raise UnsupportedMediaType(f"expected {_JSON}, got {headers[b'content-type'].decode('latin-1')}")


async def read_body(
    receive: Receive,
    headers: Mapping[bytes, bytes],
    *,
    limit: int,
    seconds: float | None = None,
    limit_name: str = "MAX_BODY",
) -> list[bytes]:
    """Read a body of at most `limit` bytes within `seconds`, and return it in pieces.

    Raises:
        TooLarge: it is larger; it is not read to its end.
        BodyLate: it is not complete in time.
        ClientGone: the client closed the connection.

    """
    if int(headers.get(b"content-length", 0)) > limit:
        raise _too_large(limit, limit_name)
    pieces: list[bytes] = []
    left = limit
    try:
        async with asyncio.timeout(seconds):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise ClientGone
                piece = message.get("body", b"")
                left -= len(piece)
                if left < 0:
                    raise _too_large(limit, limit_name)
                pieces.append(piece)
                if not message.get("more_body", False):
                    return pieces
    except TimeoutError as error:
        raise _late(seconds) from error


async def body_pieces(receive: Receive, seconds: float | None = None) -> AsyncIterator[bytes]:
    """Yield a body piece by piece, each within `seconds`.

    Raises:
        BodyLate: the next piece is not received in time.
        ClientGone: the client closed the connection.

    """
    more = True
    while more:
        try:
            async with asyncio.timeout(seconds):
                message = await receive()
        except TimeoutError as error:
            raise _late(seconds) from error
        if message["type"] != "http.request":
            raise ClientGone
        more = message.get("more_body", False)
        if piece := message.get("body", b""):
            yield piece


def _too_large(limit: int, name: str) -> TooLarge:
    return TooLarge(f"the body is larger than {limit} bytes ({name})")


def _late(seconds: float | None) -> BodyLate:
    return BodyLate(f"the body did not come within {seconds:g} s (BODY_TIMEOUT)")
