"""The gateway's endpoints: parse, call, answer."""

import logging
from functools import partial
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse
from starlette.routing import Route

from glitchflow_api.datapath import PATH
from glitchflow_api.events import EventStream, Hub
from glitchflow_api.gate import Gate
from glitchflow_api.logic_client import LogicClient
from glitchflow_api.models import CoverageQuery, SegmentQuery
from glitchflow_api.openapi import answered, described, described_stream, json_body, problems, text
from glitchflow_api.problem_pages import problem_section, problems_page
from glitchflow_api.sessions import CurrentCaller, refuse_other_user
from gwservice.asgi import JsonBody, offer_ndjson
from gwservice.asgi_types import Receive, Send
from gwservice.asgi_types import Scope as AsgiScope
from gwservice.metrics import CONTENT_TYPE, exposition
from gwservice.relay import Relay
from gwwire.datastore import FlushOrder
from gwwire.decoding import decode_order
from gwwire.public import (
    Batch,
    Batches,
    Claim,
    ClaimOrder,
    CleanAnswer,
    CleanOrder,
    Coverage,
    Health,
    LogTail,
    Manifest,
    NameList,
    Overview,
    ReleaseOrder,
    Scope,
    SegmentPage,
    State,
    Stats,
    ThawAnswer,
    ThawOrder,
    TrainFrozen,
    TrainOrder,
    TrainWaiting,
    Verification,
)
from gwwire.segment import Segment

router = APIRouter()
log = logging.getLogger(__name__)


async def _logic(request: Request) -> LogicClient:  # async: FastAPI would send a plain function to a thread
    client: LogicClient = request.app.state.logic
    return client


Logic = Annotated[LogicClient, Depends(_logic)]
LastEventId = Annotated[int | None, Header(ge=0, lt=2**63, description="seq of the last event that was heard")]
BatchId = Annotated[str, Path(pattern=r"^[\w.-]+$", max_length=200, description="as in the list of batches")]
SegmentName = Annotated[str, Path(pattern=r"^[\w.-]+$", max_length=200, description="a file name")]


def _json(answer: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")


class Relayed(Response):
    """The answer of dslogic, undecoded.

    Args:
        target: path and query at dslogic, or None for those of the request.

    """

    def __init__(self, target: bytes | None = None) -> None:
        super().__init__()
        self._target = target

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Relay the request."""
        relay: Relay = scope["app"].state.relay
        await relay.relay(scope["context"], scope, receive, send, self._target)


@router.get("/stats", tags=["batch"], responses=described(Stats), response_class=Response)
async def stats(caller: CurrentCaller, logic: Logic) -> Response:
    """Count the batch in hand, and tell what is left of the caller's quota."""
    return _json(await logic.stats(caller.group))


@router.get("/dumpbuf", tags=["batch"], responses=described(NameList), response_class=Response)
async def dumpbuf(logic: Logic) -> Response:
    """List the files of the batch in hand, in the order they were stored."""
    return _json(await logic.names())


@router.get("/desc", tags=["batch"], responses=described(State), response_class=Response)
async def desc(logic: Logic) -> Response:
    """Tell the state of the datastore."""
    return _json(State((await logic.description()).dstatus))


@router.get("/overview", tags=["page"], responses=described(Overview), response_class=Response)
async def overview() -> Response:
    """Tell everything at a glance: state, fill, channels, room, health; it costs the same however much is stored."""
    return Relayed()


@router.get("/events", tags=["page"], responses=described_stream(), response_class=Response)
async def events(request: Request, last_event_id: LastEventId = None) -> Response:
    """Tell what happens, as it happens: `overview` when something changed, `segments` that were stored, `problem`.

    The id of an event is a seq: who comes again with the last one as `Last-Event-ID` hears of the segments since. An
    event has 200 segments at most, the last ones; `more` says that there are others in between, to be read from
    /segments. After a `problem` nothing is known until the next `overview`.
    """
    hub: Hub = request.app.state.events
    gate: Gate = request.app.state.gate
    return EventStream(hub, hub.join(last_event_id), partial(gate.still_allows, request.scope["context"], Scope.READ))


async def _offer(_: Request) -> Response:
    return offer_ndjson()


#: What is POSTed never comes here, see `datapath`.
data_route = Route(PATH, _offer, methods=["POST", "OPTIONS"])


@router.post(
    "/train",
    tags=["batch"],
    openapi_extra=json_body(TrainOrder),
    responses=described(TrainFrozen | TrainWaiting, 400, 413, 415, 422, 507),
    response_class=Response,
)
async def train(body: JsonBody, caller: CurrentCaller, logic: Logic) -> Response:
    """Freeze the batch for training, once it is large enough.

    A freeze is idempotent for its holder; a batch that somebody else froze stays theirs, and `holder` says so.
    """
    refuse_other_user(caller, body)
    frozen = await logic.freeze(body)
    if frozen is None:
        return _json(TrainWaiting())
    return _json(TrainFrozen(frozen.n_itm, frozen.buff_size, frozen.holder, frozen.batch, frozen.digest))


@router.post(
    "/thaw",
    tags=["batch"],
    openapi_extra=json_body(ThawOrder),
    responses=described(ThawAnswer, 400, 403, 413, 415, 422, 507),
    response_class=Response,
)
async def thaw(body: JsonBody, caller: CurrentCaller, logic: Logic) -> Response:
    """Open the frozen batch again, for the one who froze it; nothing is archived."""
    refuse_other_user(caller, body)
    return _json(ThawAnswer("OPERATIONAL", (await logic.thaw(body)).body))


@router.post(
    "/cleanbuf",
    tags=["batch"],
    openapi_extra=json_body(CleanOrder),
    responses=described(CleanAnswer, 400, 409, 413, 415, 422, 507),
    response_class=Response,
)
async def cleanbuf(body: JsonBody, logic: Logic) -> Response:
    """Archive the batch and begin an empty one.

    With a `batch`, nothing is done where another one is in hand by now: what was decided about one batch never
    befalls the next.
    """
    order = decode_order(CleanOrder, body)
    outcome = await logic.flush(FlushOrder(order.batch))
    log.info("cleaned (%r): %s", order.msg, outcome.body, extra={"event": "flush"})
    return _json(CleanAnswer("CLEANED", outcome.body))


@router.get("/batches", tags=["archive"], responses=described(Batches), response_class=Response)
async def batches() -> Response:
    """List all batches, the oldest first: the archived ones, the one in hand, and the next one where there is one."""
    return Relayed()


@router.get("/batches/{batch}", tags=["archive"], responses=described(Batch, 404), response_class=Response)
async def one_batch(batch: BatchId) -> Response:
    """Tell about one batch."""
    return Relayed()


@router.get("/batches/{batch}/manifest", tags=["archive"], responses=described(Manifest, 404), response_class=Response)
async def batch_manifest(batch: BatchId) -> Response:
    """Give the manifest of a sealed batch: every segment with its checksum."""
    return Relayed()


@router.post(
    "/batches/{batch}/claim",
    tags=["work"],
    openapi_extra=json_body(ClaimOrder),
    responses=described(Claim, 400, 404, 409, 413, 415, 422, 507),
    response_class=Response,
)
async def claim_batch(batch: BatchId) -> Response:
    """Give a frozen batch to one worker, so that no two work on it at the same time.

    The claim ends with its lease, or with a release. The same worker asking again renews it; another one is told who
    has the batch, and after how many seconds to ask again.
    """
    return Relayed()


@router.post(
    "/batches/{batch}/release",
    tags=["work"],
    openapi_extra=json_body(ReleaseOrder),
    responses=described(Claim, 400, 404, 409, 413, 415, 422, 507),
    response_class=Response,
)
async def release_batch(batch: BatchId) -> Response:
    """End a worker's claim."""
    return Relayed()


@router.post(
    "/batches/{batch}/verify",
    tags=["archive"],
    status_code=202,
    responses=described(Verification, 404, 409, 422, status=202),
    response_class=Response,
)
async def verify_batch(batch: BatchId) -> Response:
    """Begin to compare an archived batch with its manifest, byte for byte, in the background.

    The batch's `verification` tells how far that is, and in the end whether the batch is intact; asking again while it
    is under way changes nothing.
    """
    return Relayed()


@router.get("/segments", tags=["archive"], responses=described(SegmentPage, 422), response_class=Response)
async def segments(wanted: Annotated[SegmentQuery, Query()]) -> Response:
    """List stored segments, in the order they were stored, a page at a time.

    The next page begins after the `after` of this one: none is told twice and none left out, whatever is stored
    meanwhile. With `before` the newest come first, and the next page begins before the last of this one.
    """
    return Relayed()


@router.get("/coverage", tags=["archive"], responses=described(Coverage, 404, 422), response_class=Response)
async def coverage(wanted: Annotated[CoverageQuery, Query()]) -> Response:
    """Tell what stretches of time are stored, by channel and sample spacing, as `[start, stop, segments]`."""
    return Relayed()


@router.get("/log", tags=["page"], responses=described(LogTail, 422), response_class=Response)
async def log_tail(
    logic: Logic, last: Annotated[int, Query(ge=1, le=10_000, description="so many lines at most")] = 100
) -> Response:
    """Give the newest lines of the batch's log, a stored segment each; the oldest of them come first."""
    return _json(await logic.log_tail(last))


@router.get("/segments/{name}", tags=["archive"], responses=described(Segment, 404), response_class=Response)
async def segment_file(name: SegmentName) -> Response:
    """Give a segment as it was stored. Its ETag is its SHA-256; ranges are served."""
    return Relayed()


@router.get("/dspage", tags=["page"], responses=problems(), response_class=Response)
async def dspage() -> Response:
    """Show the status page: a shell without data, which asks the routes above."""
    return Relayed(b"/?at=gateway")


@router.get("/static/{version}/{name}", include_in_schema=False)
async def static(
    version: Annotated[str, Path(pattern=r"^\w+$")],
    name: Annotated[str, Path(pattern=r"^\w[\w.-]*$")],
) -> Response:
    """Give a part of the status page."""
    return Relayed()


@router.get("/problems", tags=["page"], responses=text("the page, as Markdown"), response_class=PlainTextResponse)
async def problem_pages() -> str:
    """Tell about every problem: what happened, whose fault it is, what to do."""
    return problems_page()


@router.get(
    "/problems/{code}", tags=["page"], responses=text("the section, as Markdown", 404), response_class=PlainTextResponse
)
async def problem_page(code: Annotated[str, Path(examples=["queue-full"])]) -> str:
    """Tell about one problem; the `type` of a problem document leads here."""
    return problem_section(code)


@router.get("/metrics", tags=["operation"], response_class=PlainTextResponse)
async def metrics() -> Response:
    """Give the gateway's numbers for Prometheus; the tiers below have their own."""
    return Response(exposition(), media_type=CONTENT_TYPE)


@router.get("/healthz", tags=["probes"], responses=answered(Health), response_class=Response)
async def healthz() -> Response:
    """Answer as long as the process can."""
    return _json(Health("ok"))


@router.get("/readyz", tags=["probes"], responses=described(Health), response_class=Response)
async def readyz(logic: Logic) -> Response:
    """Answer 200 while every tier below answers the one above it.

    A full volume is no reason to be away: the buffer says so, and answers everything else.
    """
    await logic.stats()
    return _json(Health("ready"))
