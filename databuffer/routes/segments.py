"""Segments: store, list, coverage, files."""

from contextlib import aclosing
from email.utils import formatdate
from http import HTTPStatus
from typing import Annotated
from urllib.parse import unquote

import msgspec
from fastapi import APIRouter, Query, Request, Response

from databuffer.buffer import Buffer
from databuffer.ingest.keys import LineKeys, key_of_one
from databuffer.ingest.ndjson import store_lines
from databuffer.routes.common import Storage, json_response
from databuffer.routes.tier_response import head_from_catalog
from databuffer.storage.catalog import CataloguedSegment
from databuffer.storage.clock import utc_text
from gwservice.asgi import OpenFileResponse, offer_ndjson
from gwservice.asgi_types import Receive, Scope, Send
from gwservice.body import body_pieces, media_type, read_body, require_json
from gwservice.correlation import RequestContext
from gwservice.headers import RAW_GROUP_HEADER, lists_etag, quota_headers
from gwservice.problems import send_whole
from gwwire.datastore import Outcome, OutcomeCode
from gwwire.public import SegmentPage, SegmentRecord
from gwwire.query import parse_parameters
from gwwire.segment import NDJSON
from gwwire.tiering import BatchLocality

router = APIRouter()

_JSON = (b"content-type", b"application/json")
_NDJSON = (b"content-type", NDJSON.encode())


@router.api_route("/sendF", methods=["POST", "OPTIONS"])
async def offer() -> Response:
    """Answer OPTIONS with the media types of a POST; `SegmentRoute` answers the POST itself."""
    return offer_ndjson()


class SegmentRoute:
    """Stores the segments of a request, one as JSON or many as NDJSON, of at most `max_body` bytes each."""

    path = "/sendF"

    def __init__(self, buffer: Buffer, max_body: int) -> None:
        self._ingest = buffer.ingest
        self._queries = buffer.queries
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request: RequestContext = scope["context"]
        name = request.headers.get(RAW_GROUP_HEADER)
        group = None if name is None else unquote(name)
        if media_type(request.headers) == NDJSON:
            await self._store_lines(receive, send, LineKeys(request.headers), group)
            return
        require_json(request.headers)
        key = key_of_one(request.headers)
        pieces = await read_body(receive, request.headers, limit=self._max_body)
        stored = await self._ingest.append(pieces[0] if len(pieces) == 1 else b"".join(pieces), key, group)
        headers = [_JSON]
        if quota := self._queries.quota(group):
            headers += [(name.encode(), value.encode()) for name, value in quota_headers(quota).items()]
        outcome = Outcome(OutcomeCode.RES_CREATE, stored.receipt)
        await send_whole(send, HTTPStatus.CREATED, headers, msgspec.json.encode(outcome))

    async def _store_lines(self, receive: Receive, send: Send, keys: LineKeys, group: str | None) -> None:
        answers = store_lines(self._ingest, body_pieces(receive), keys=keys, max_line=self._max_body, group=group)
        async with aclosing(answers):
            first = await anext(answers, b"")  # an error before the first answer is the answer
            await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": [_NDJSON]})
            await send({"type": "http.response.body", "body": first, "more_body": True})
            async for part in answers:
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


@router.get("/segments", summary="Stored segments, a page at a time")
async def list_segments(
    request: Request,
    buffer: Storage,
    after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    before: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
) -> Response:
    """Return the segments that a query selects, in the order they were stored.

    The next page begins after the seq `after` of this one, so that no segment is repeated or missing. With `before`,
    a seq, the newest come first, and the next page begins before the last of this one.
    """
    query = parse_parameters(request.query_params.multi_items())
    found = await buffer.search.segments(query, after, limit + 1, before)
    page = found[:limit]
    newest = max((row.seq for row in page), default=after)
    where = await buffer.tiers.localities_of({row.batch for row in page})
    records = [_record(row, where.get(row.batch, BatchLocality.DISK)) for row in page]
    return json_response(SegmentPage(records, newest, len(found) > limit))


@router.get("/coverage", summary="Stored time spans")
async def coverage(
    request: Request, buffer: Storage, limit: Annotated[int, Query(ge=1, le=100_000)] = 2000
) -> Response:
    """Return the spans without a gap of the segments that a query selects, by channel and sample spacing.

    With more than `limit` of a channel, the smallest gaps are ignored.
    """
    query = parse_parameters(request.query_params.multi_items())
    return json_response(await buffer.search.coverage(query, limit))


@router.get("/segments/{name}", summary="A segment's file")
async def segment_file(name: str, request: Request, buffer: Storage) -> Response:
    """Return a segment as it was stored, with its SHA-256 as ETag; ranges are served. HEAD needs no tier."""
    found = await buffer.queries.segment(name)
    etag = f'"{found.sha256}"'
    if lists_etag(request.headers.get("if-none-match", ""), etag):
        return Response(status_code=304, headers={"ETag": etag})
    headers = {"ETag": etag, "Last-Modified": formatdate(found.stored / 10**9, usegmt=True)}
    if request.scope["context"].is_head and await buffer.tiers.is_in_tiers_only(found.batch):
        return head_from_catalog(found.bytes, "application/json", headers)
    return OpenFileResponse(await buffer.queries.segment_file(name), "application/json", headers)


def _record(row: CataloguedSegment, locality: BatchLocality) -> SegmentRecord:
    values = row.name, row.batch, row.bytes, row.sha256, row.channel, row.t0, row.dt, row.n, utc_text(row.stored)
    return SegmentRecord(row.seq, *values, locality)
