"""POST /sendF: the route that stores segments, in front of the web framework."""

from contextlib import aclosing
from http import HTTPStatus

import msgspec
from fastapi import APIRouter, Response

from databuffer.buffer import Buffer
from databuffer.ingest.ndjson import store_lines
from gwservice.asgi import offer_ndjson
from gwservice.asgi_types import Receive, Scope, Send
from gwservice.body import body_pieces, media_type, read_body, require_json
from gwservice.correlation import RequestContext
from gwservice.headers import RAW_GROUP_HEADER, quota_headers
from gwservice.problems import send_whole
from gwwire.datastore import Outcome, OutcomeCode
from gwwire.segment import NDJSON

router = APIRouter()

_JSON = (b"content-type", b"application/json")
_NDJSON = (b"content-type", NDJSON.encode())


@router.api_route("/sendF", methods=["POST", "OPTIONS"])
async def offer() -> Response:
    """Answer OPTIONS with what a POST may carry; a POST itself is answered by `SegmentRoute`."""
    return offer_ndjson()


class SegmentRoute:
    """Stores the segments of a request: one as JSON, or many as NDJSON.

    Args:
        buffer: stores the segments.
        max_body: bytes of the largest segment.

    """

    path = "/sendF"

    def __init__(self, buffer: Buffer, max_body: int) -> None:
        self._ingest = buffer.ingest
        self._queries = buffer.queries
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request: RequestContext = scope["context"]
        key, group = _text(request, b"idempotency-key"), _text(request, RAW_GROUP_HEADER)
        if media_type(request.headers) == NDJSON:
            await self._store_lines(receive, send, key, group)
            return
        require_json(request.headers)
        pieces = await read_body(receive, request.headers, limit=self._max_body)
        stored = await self._ingest.append(pieces[0] if len(pieces) == 1 else b"".join(pieces), key, group)
        headers = [_JSON]
        if quota := self._queries.quota(group):
            headers += [(name.encode(), value.encode()) for name, value in quota_headers(quota).items()]
        outcome = Outcome(OutcomeCode.RES_CREATE, stored.receipt)
        await send_whole(send, HTTPStatus.CREATED, headers, msgspec.json.encode(outcome))

    async def _store_lines(self, receive: Receive, send: Send, key: str | None, group: str | None) -> None:
        answers = store_lines(self._ingest, body_pieces(receive), key=key, max_line=self._max_body, group=group)
        async with aclosing(answers):
            first = await anext(answers, b"")  # an error before the first answer is the answer
            await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": [_NDJSON]})
            await send({"type": "http.response.body", "body": first, "more_body": True})
            async for part in answers:
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _text(request: RequestContext, name: bytes) -> str | None:
    value = request.headers.get(name)
    return None if value is None else value.decode("latin-1")
