"""The change feed."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Query, Response

from databuffer.routes.common import Storage
from databuffer.routes.records import Wanted
from gwservice.asgi_types import Receive, Scope, Send
from gwservice.body import while_connected
from gwwire.records import Feed
from gwwire.segment import NDJSON

router = APIRouter()


class _Stream(Response):
    """Sends parts until they end or the client disconnects."""

    media_type = NDJSON

    def __init__(self, parts: AsyncIterator[bytes]) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (ASGI's shape)
        """Send the parts."""
        await while_connected(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._parts):  # type: ignore[type-var]  # a generator
            async for part in self._parts:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@router.get("/changes", summary="Records as they change")
async def read_changes(
    buffer: Storage,
    wanted: Wanted,
    since: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    feed: Feed = Feed.ONCE,
    heartbeat: Annotated[float, Query(ge=1, le=60)] = 30,
) -> Response:
    """Send records that changed after a seq, as NDJSON; `continuous` goes on with what changes later."""
    await buffer.records.check_seq(since)
    return _Stream(buffer.feed.read(wanted, since, feed, heartbeat))
