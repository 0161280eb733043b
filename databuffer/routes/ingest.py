"""POST /sendF: the route that stores segments, in front of the web framework."""

from http import HTTPStatus

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from databuffer.buffer import Buffer
from databuffer.ingest.ndjson import store_lines
from gwservice.asgi import DuplexResponse, body_pieces, media_type, offer_ndjson, problem_response, read_json
from gwservice.passing import GROUP_HEADER
from gwservice.ratelimit import quota_headers
from gwwire.datastore import Outcome, OutcomeCode
from gwwire.problems import ProblemError
from gwwire.segment import NDJSON

router = APIRouter()


@router.api_route("/sendF", methods=["POST", "OPTIONS"])
async def offer() -> Response:
    """Answer OPTIONS with what a POST may carry; a POST itself is answered by `SegmentRoute`."""
    return offer_ndjson()


class SegmentRoute:
    """Stores the segments of POST /sendF: one as JSON, or many as NDJSON; other requests go to `app`.

    The routing and argument handling of a web framework would take longer than everything else that is done for a
    segment on the event loop.
    """

    path = "/sendF"

    def __init__(self, app: ASGIApp, buffer: Buffer, max_body: int) -> None:
        self._app = app
        self._buffer = buffer
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or scope["path"] != self.path or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        try:
            response = await self._store(Request(scope, receive))
        except ProblemError as error:
            response = problem_response(error.problem(), error.retry_after)
        await response(scope, receive, send)

    async def _store(self, request: Request) -> Response:
        ingest, queries = self._buffer.ingest, self._buffer.queries
        key, group = request.headers.get("idempotency-key"), request.headers.get(GROUP_HEADER)
        if media_type(request) == NDJSON:
            lines = store_lines(ingest, body_pieces(request), key=key, max_line=self._max_body, group=group)
            return await DuplexResponse.of(lines)
        stored = await ingest.append(await read_json(request), key, group)
        content = msgspec.json.encode(Outcome(OutcomeCode.RES_CREATE, stored.receipt))
        answer = Response(content, HTTPStatus.CREATED, media_type="application/json")
        if quota := queries.quota(group):
            answer.headers.update(quota_headers(quota))
        return answer
