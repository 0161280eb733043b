"""The buffer's endpoints: parse, call, answer."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from databuffer.buffer import Buffer
from databuffer.meters import at_this_moment
from databuffer.ndjson import store_lines
from databuffer.storage.catalog import BatchRow, CataloguedSegment, SegmentFilter
from databuffer.storage.clock import utc_text
from gwservice.asgi import (
    DuplexResponse,
    JsonBody,
    OptionalJsonBody,
    body_pieces,
    media_type,
    offer_ndjson,
    problem_response,
    read_json,
)
from gwservice.metrics import CONTENT_TYPE, exposition
from gwservice.open_file import OpenFileResponse
from gwservice.passing import GROUP_HEADER
from gwservice.ratelimit import quota_headers
from gwwire.datastore import FlushOrder, FreezeOrder, FreezeOutcome, Outcome, OutcomeCode
from gwwire.decoding import decode_order
from gwwire.problems import ProblemError
from gwwire.public import (
    Batch,
    Batches,
    Claim,
    ClaimOrder,
    NameList,
    ReleaseOrder,
    SegmentPage,
    SegmentRecord,
    ThawOrder,
    Verification,
)
from gwwire.segment import NDJSON

router = APIRouter()


async def _buffer(request: Request) -> Buffer:  # async: FastAPI would send a plain function to a thread
    buffer: Buffer = request.app.state.buffer
    return buffer


Storage = Annotated[Buffer, Depends(_buffer)]
#: GPS seconds in a query.
GpsTime = Annotated[float | None, Query(allow_inf_nan=False)]


def _json(content: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


# ---- the way of the data


async def send_file(request: Request) -> Response:
    """Store segments, durably, and answer when that is done: one as JSON, or many as NDJSON, a line each.

    This is where nearly every request goes. It is a plain route of Starlette's, with a door of its own: the machinery
    of a web framework takes longer than all else that is done for a segment on the event loop.
    """
    if request.method == "OPTIONS":
        return offer_ndjson()
    buffer = await _buffer(request)
    key, group = request.headers.get("idempotency-key"), request.headers.get(GROUP_HEADER)
    if media_type(request) == NDJSON:
        max_line = request.app.state.max_body
        lines = store_lines(buffer, body_pieces(request), key=key, max_line=max_line, group=group)
        return await DuplexResponse.of(lines)
    stored = await buffer.append(await read_json(request), key, group)
    answer = _json(Outcome(OutcomeCode.RES_CREATE, f"Written {stored.name} for {stored.size} bytes"), 201)
    if quota := buffer.quota(group):
        answer.headers.update(quota_headers(quota))
    return answer


data_route = Route("/sendF", send_file, methods=["POST", "OPTIONS"])


class SegmentDoor:
    """Lets segments in before layers and routes that answer everything else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] != data_route.path:
            await self._app(scope, receive, send)
            return
        try:
            response = await send_file(Request(scope, receive))
        except ProblemError as error:
            response = problem_response(error.problem(), error.retry_after)
        await response(scope, receive, send)


# ---- the rest of the original contract


@router.get("/stat", summary="Counts of the batch in hand")
async def stat(buffer: Storage, group: Annotated[str | None, Header(alias=GROUP_HEADER)] = None) -> Response:
    """Give `{"n_itm", "buff_size"}`, those of the next batch where segments go there, and the group's `quota`."""
    return _json(msgspec.structs.replace(buffer.stats, quota=buffer.quota(group)))


@router.get("/dstat", summary="State of the datastore")
async def dstat(buffer: Storage) -> Response:
    """Give `{"dstatus", "user", "token"}`."""
    return _json(buffer.description)


@router.get("/overview", summary="Everything at a glance")
async def overview(buffer: Storage) -> Response:
    """Give state, counts, channels, room and health in one answer, at a cost that does not grow with what is stored."""
    return _json(await buffer.overview())


@router.get("/dumpF", summary="Files of the batch in hand")
async def dump_files(buffer: Storage) -> Response:
    """Give `{"nmlist": [names]}`, in the order they were stored."""
    return _json(NameList(await buffer.names()))


@router.get("/dumpLogF", summary="Log of the batch in hand")
async def dump_log(buffer: Storage, last: Annotated[int | None, Query(ge=1, le=10_000)] = None) -> Response:
    """Give the lines of LogStream.json as a list, or the newest `last` of them; the oldest come first."""
    return Response(b"[" + b",".join(await buffer.log_lines(last)) + b"]", media_type="application/json")


@router.post("/upddsc", summary="Freeze the batch", status_code=201)
async def update_description(order: JsonBody, buffer: Storage) -> Response:
    """Freeze the batch for `{"user", "token"}`; a frozen one stays its holder's."""
    frozen = await buffer.freeze(decode_order(FreezeOrder, order))
    outcome = FreezeOutcome(
        OutcomeCode.STAT_UPD,
        f"Frozen by {frozen.holder}: {frozen.stats.n_itm} segments, {frozen.stats.buff_size} bytes",
        frozen.stats.n_itm,
        frozen.stats.buff_size,
        frozen.holder,
        frozen.batch,
        frozen.digest,
    )
    return _json(outcome, 201)


@router.post("/cleanall", summary="Archive the batch", status_code=201)
async def clean_all(order: OptionalJsonBody, buffer: Storage) -> Response:
    """Move the batch into the folder `DAY HOUR MIN`; the next one, or an empty one, takes its place.

    An order of `{"batch": id}` is refused where another batch is in hand; no other body is needed.
    """
    archived = await buffer.flush(decode_order(FlushOrder, order) if order else FlushOrder())
    body = (
        f"Archived {archived.stats.n_itm} segments, {archived.stats.buff_size} bytes in {archived.folder.name!r}"
        if archived.folder
        else "There was nothing to archive"
    )
    return _json(Outcome(OutcomeCode.STAT_UPD, body), 201)


# ---- batches and segments


@router.post("/thaw", summary="Open the frozen batch again", status_code=201)
async def thaw(order: JsonBody, buffer: Storage) -> Response:
    """Open the frozen batch again for its holder, `{"user", "token"}`; nothing is archived."""
    stats = await buffer.thaw(decode_order(ThawOrder, order))
    return _json(Outcome(OutcomeCode.STAT_UPD, f"Thawed: {stats.n_itm} segments, {stats.buff_size} bytes"), 201)


@router.get("/batches", summary="All batches")
async def batches(buffer: Storage) -> Response:
    """Give `{"batches": […]}`, the oldest first."""
    return _json(Batches([_batch(row, buffer.verification(row.id)) for row in await buffer.batches()]))


@router.get("/batches/{batch}", summary="One batch")
async def one_batch(batch: str, buffer: Storage) -> Response:
    """Give a batch by its id."""
    return _json(_batch(await buffer.batch(batch), buffer.verification(batch)))


@router.get("/batches/{batch}/manifest", summary="What a sealed batch holds")
async def batch_manifest(batch: str, buffer: Storage) -> Response:
    """Give MANIFEST.json of a sealed batch."""
    return OpenFileResponse(await buffer.manifest(batch), "application/json")


@router.post("/batches/{batch}/claim", summary="Claim a frozen batch")
async def claim_batch(batch: str, order: JsonBody, buffer: Storage) -> Response:
    """Give a frozen batch to `{"worker"}` alone for `lease` seconds; the same worker asking again renews it."""
    claim = await buffer.claim(batch, decode_order(ClaimOrder, order))
    return _json(Claim(claim.batch, claim.worker, claim.expires / 10**9))


@router.post("/batches/{batch}/release", summary="End a claim")
async def release_batch(batch: str, order: JsonBody, buffer: Storage) -> Response:
    """End the claim of `{"worker"}`."""
    await buffer.release(batch, decode_order(ReleaseOrder, order).worker)
    return _json(Claim(batch))


@router.post("/batches/{batch}/verify", summary="Verify an archived batch", status_code=202)
async def verify_batch(batch: str, buffer: Storage) -> Response:
    """Begin to compare every byte with the manifest; the batch's `verification` tells how far that is."""
    return _json(await buffer.verify(batch), 202)


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
    """Give segments of a batch, a channel, a half-open GPS span, in the order they were stored.

    The next page begins after the seq `after` of this one: none is told twice and none left out, whatever is stored
    meanwhile. With `before`, a seq, the newest come first, and the next page begins before the last of this one.
    """
    found = await buffer.segments(SegmentFilter(batch, channel, start, stop, after, limit + 1, before))
    page = found[:limit]
    newest = max((row.seq for row in page), default=after)
    return _json(SegmentPage([_record(row) for row in page], newest, len(found) > limit))


@router.get("/coverage", summary="What stretches of time are stored")
async def coverage(  # noqa: PLR0913, PLR0917 (one for each thing that can be asked for)
    buffer: Storage,
    batch: str | None = None,
    channel: str | None = None,
    start: GpsTime = None,
    stop: GpsTime = None,
    limit: Annotated[int, Query(ge=1, le=100_000)] = 2000,
) -> Response:
    """Give the spans without a gap, by channel and sample spacing, that reach into a half-open GPS span.

    With more than `limit` of a channel, the smallest gaps are taken for none.
    """
    return _json(await buffer.coverage(SegmentFilter(batch, channel, start, stop, limit=limit)))


@router.get("/segments/{name}", summary="A segment's file")
async def segment_file(name: str, request: Request, buffer: Storage) -> Response:
    """Give a segment as it was stored, with its SHA-256 as ETag; ranges are served."""
    etag = f'"{(await buffer.segment(name)).sha256}"'
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": etag})
    return OpenFileResponse(await buffer.segment_file(name), "application/json", {"ETag": etag})


# ---- for operators


@router.get("/metrics", summary="Numbers for Prometheus")
async def metrics(buffer: Storage) -> Response:
    """Give what was counted since the start, and what is at this moment."""
    return Response(exposition(at_this_moment(await buffer.overview())), media_type=CONTENT_TYPE)


@router.get("/healthz", summary="Is the process alive?")
async def health() -> dict[str, str]:
    """Answer as long as the process can."""
    return {"status": "ok"}


@router.get("/readyz", summary="Can it store segments?")
async def ready(buffer: Storage) -> dict[str, str]:
    """Answer 200 while the volume can be written to."""
    await buffer.check()
    return {"status": "ready"}


def _batch(row: BatchRow, verification: Verification | None) -> Batch:
    return Batch(
        id=row.id,
        state=row.state,
        opened=utc_text(row.opened),
        frozen=utc_text(row.frozen) if row.frozen else None,
        archived=utc_text(row.archived) if row.archived else None,
        holder=row.holder,
        n_itm=row.n_itm,
        buff_size=row.buff_size,
        path=row.path,
        digest=row.digest,
        verification=verification,
    )


def _record(row: CataloguedSegment) -> SegmentRecord:
    return SegmentRecord(
        row.seq, row.name, row.batch, row.bytes, row.sha256, row.channel, row.t0, row.dt, row.n, utc_text(row.stored)
    )
