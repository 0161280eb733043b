"""Answers with bytes that are in a tier."""

from collections.abc import Mapping

from fastapi import Response

from databuffer.tiers.recalls.reading import TierStream
from gwservice.asgi_types import Receive, Scope, Send
from gwservice.body import while_connected


def head_from_catalog(size: int, media_type: str, headers: Mapping[str, str]) -> Response:
    """Return the answer to HEAD for bytes that only tiers have; no tier is asked."""
    values = {**headers, "Accept-Ranges": "bytes", "Content-Length": str(size)}
    return Response(headers=values, media_type=media_type)


class TierResponse(Response):
    """Sends bytes of a file of `size` bytes while they are read; `span` is that of a request for a range."""

    def __init__(
        self, stream: TierStream, size: int, span: tuple[int, int] | None, media_type: str, headers: Mapping[str, str]
    ) -> None:
        start, stop = span or (0, size)
        values = {**headers, "Accept-Ranges": "bytes", "Content-Length": str(stop - start)}
        if span:
            values["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        super().__init__(status_code=206 if span else 200, headers=values, media_type=media_type)
        self._stream = stream

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        """Send the bytes; a connection whose bytes do not arrive or differ breaks before the last of them."""
        head = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(head)
        await while_connected(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        while portion := await self._stream.read():
            await send({"type": "http.response.body", "body": portion, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
