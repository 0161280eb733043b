"""Stored segments: pages, coverage, files."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from databuffer.routes.common import GpsTime, Storage, json_response
from databuffer.storage.catalog import CataloguedSegment, SegmentFilter
from databuffer.storage.clock import utc_text
from gwservice.asgi import OpenFileResponse
from gwwire.public import SegmentPage, SegmentRecord

router = APIRouter()


@router.get("/segments", summary="Stored segments, a page at a time")
async def list_segments(  # noqa: PLR0913, PLR0917 (one for each thing that can be asked for)
    buffer: Storage,
    batch: str | None = None,
    channel: str | None = None,
    start: GpsTime = None,
    stop: GpsTime = None,
    after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    before: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
) -> Response:
    """Return segments of a batch, a channel, a half-open GPS span, in the order they were stored.

    The next page begins after the seq `after` of this one: none is told twice and none left out, whatever is stored
    meanwhile. With `before`, a seq, the newest come first, and the next page begins before the last of this one.
    """
    found = await buffer.queries.segments(SegmentFilter(batch, channel, start, stop, after, limit + 1, before))
    page = found[:limit]
    newest = max((row.seq for row in page), default=after)
    return json_response(SegmentPage([_record(row) for row in page], newest, len(found) > limit))


@router.get("/coverage", summary="What stretches of time are stored")
async def coverage(  # noqa: PLR0913, PLR0917 (one for each thing that can be asked for)
    buffer: Storage,
    batch: str | None = None,
    channel: str | None = None,
    start: GpsTime = None,
    stop: GpsTime = None,
    limit: Annotated[int, Query(ge=1, le=100_000)] = 2000,
) -> Response:
    """Return the spans without a gap, by channel and sample spacing, that reach into a half-open GPS span.

    With more than `limit` of a channel, the smallest gaps are taken for none.
    """
    return json_response(await buffer.queries.coverage(SegmentFilter(batch, channel, start, stop, limit=limit)))


@router.get("/segments/{name}", summary="A segment's file")
async def segment_file(name: str, request: Request, buffer: Storage) -> Response:
    """Return a segment as it was stored, with its SHA-256 as ETag; ranges are served."""
    etag = f'"{(await buffer.queries.segment(name)).sha256}"'
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": etag})
    return OpenFileResponse(await buffer.queries.segment_file(name), "application/json", {"ETag": etag})


def _record(row: CataloguedSegment) -> SegmentRecord:
    return SegmentRecord(
        row.seq, row.name, row.batch, row.bytes, row.sha256, row.channel, row.t0, row.dt, row.n, utc_text(row.stored)
    )
