"""The gateway's endpoints: parse, call, answer."""

import logging
from functools import partial
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse
from starlette.routing import Route

from glitchflow_api.access import Caller
from glitchflow_api.admission import Admission
from glitchflow_api.datapath import PATH
from glitchflow_api.docs_page import docs_file, docs_page
from glitchflow_api.events import EventStream, Hub, parse_seq
from glitchflow_api.logic_client import LogicClient, group_header
from glitchflow_api.models import CoverageQuery, QueryParameters, SegmentQuery
from glitchflow_api.openapi import described_order, described_stream, json_response, problems, responses, text
from glitchflow_api.problem_pages import problem_section, problems_page
from glitchflow_api.sessions import CurrentCaller, refuse_other_user
from glitchflow_api.while_allowed import while_allowed
from gwservice.asgi import JsonBody, offer_ndjson
from gwservice.asgi_types import Receive, Scope, Send
from gwservice.correlation import RequestContext
from gwservice.metrics import CONTENT_TYPE, exposition
from gwservice.relay import Relay
from gwwire import public
from gwwire.datastore import FlushOrder
from gwwire.decoding import decode_order
from gwwire.facets import Facets
from gwwire.overview import Overview
from gwwire.segment import Segment

router = APIRouter(default_response_class=Response)
log = logging.getLogger(__name__)


async def _logic(request: Request) -> LogicClient:  # async: FastAPI would send a plain function to a thread
    client: LogicClient = request.app.state.logic
    return client


Logic = Annotated[LogicClient, Depends(_logic)]
LastEventId = Annotated[str, Header(description="seq of the last event received; any other text is ignored")]
BatchId = Annotated[str, Path(pattern=r"^[\w.-]+$", max_length=200, description="as in the list of batches")]
SegmentName = Annotated[str, Path(pattern=r"^[\w.-]+$", max_length=200, description="a file name")]


def _json(answer: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")


class Relayed(Response):
    """The answer of dslogic, undecoded; `target` is the path and query, or None for those of the request.

    It ends when its credential is no longer valid.
    """

    relay = "relay"
    #: True if the request counts for the quota of the caller's group.
    for_group = False

    def __init__(self, target: bytes | None = None) -> None:
        super().__init__()
        self._target = target

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Relay the request."""
        request: RequestContext = scope["context"]
        allowed, headers = while_allowed(scope, send), self.headers_of(request.caller)
        await self.relay_of(scope).relay(request, scope, receive, allowed, self._target, headers)

    def headers_of(self, caller: Caller) -> bytes:
        """Return the headers that tell dslogic about the caller."""
        return group_header(caller.group) if self.for_group else b""

    def relay_of(self, scope: Scope) -> Relay:
        """Return the relay of the answer's kind."""
        relay: Relay = getattr(scope["app"].state, self.relay)
        return relay


class RelayedPage(Relayed):
    """A page, or a file that pages load; its time limit is short, so that a browser soon shows that dslogic hangs."""

    relay = "page_relay"


@router.get("/stats", tags=["batch"], responses=responses(public.Stats))
async def stats(caller: CurrentCaller, logic: Logic) -> Response:
    """Return the size of the current batch, and the caller's remaining quota."""
    return _json(await logic.stats(caller.group))


@router.get("/dumpbuf", tags=["batch"], responses=responses(public.NameList))
async def dumpbuf(logic: Logic) -> Response:
    """List the files of the current batch, in the order they were stored."""
    return _json(await logic.names())


@router.get("/desc", tags=["batch"], responses=responses(public.State))
async def desc(logic: Logic) -> Response:
    """Return the state of the datastore."""
    return _json(public.State((await logic.description()).dstatus))


@router.get("/overview", tags=["page"], responses=responses(Overview))
async def overview() -> Response:
    """Return state, size, channels, free space and health; the cost does not depend on the amount of stored data."""
    return Relayed()


@router.get("/events", tags=["page"], responses=described_stream())
async def events(request: Request, last_event_id: LastEventId = "") -> Response:
    """Send events as they happen: `overview` when something changed, `segments` that were stored, `problem`.

    The id of an event is a seq: a client that reconnects with the last one as `Last-Event-ID` receives the segments
    stored since. An event has at most the newest 200 segments; if `more` is true, read the others from /segments. After
    a `problem`, the state is unknown until the next `overview`.

    `change` has the records that changed, also if a step was begun or ended on them, each once with its id, kind, seq,
    status, last step, and the states of its steps; segments are among them only if somebody wrote to them. There is
    one such event a second with at most 100 records; `more` says that others changed too. It is not repeated after a
    reconnection: read /changes to miss nothing. `steps` has the list of /steps when it changed. `bundle` has how far
    the archive of a bundle is built, for each that is built.
    """
    hub: Hub = request.app.state.events
    admission: Admission = request.app.state.admission
    may_receive = partial(admission.still_allows, request.scope["context"], public.Scope.READ)
    return EventStream(hub, hub.join(parse_seq(last_event_id)), may_receive)


async def _offer(_: Request) -> Response:
    return offer_ndjson()


#: A POST is answered by `datapath`.
data_route = Route(PATH, _offer, methods=["POST", "OPTIONS"])


@router.post("/train", tags=["batch"], **described_order(public.TrainOrder, public.TrainFrozen | public.TrainWaiting))
async def train(body: JsonBody, caller: CurrentCaller, logic: Logic) -> Response:
    """Freeze the batch for training, once it is large enough.

    A freeze is idempotent for its holder. If another user froze the batch, nothing changes, and `holder` names them.
    """
    refuse_other_user(caller, body)
    frozen = await logic.freeze(body)
    if frozen is None:
        return _json(public.TrainWaiting())
    return _json(public.TrainFrozen(frozen.n_itm, frozen.buff_size, frozen.holder, frozen.batch, frozen.digest))


@router.post("/thaw", tags=["batch"], **described_order(public.ThawOrder, public.ThawAnswer, 403))
async def thaw(body: JsonBody, caller: CurrentCaller, logic: Logic) -> Response:
    """Open the frozen batch again, for its holder; nothing is archived."""
    refuse_other_user(caller, body)
    return _json(public.ThawAnswer("OPERATIONAL", (await logic.thaw(body)).body))


@router.post("/cleanbuf", tags=["batch"], **described_order(public.CleanOrder, public.CleanAnswer, 409))
async def cleanbuf(body: JsonBody, logic: Logic) -> Response:
    """Archive the current batch and open an empty one.

    With a `batch`, nothing is done if another batch has become current, so a decision about one batch never applies
    to the next. With a `holder`, nothing is done if somebody else has frozen the batch meanwhile. With a `tiering`,
    that policy says where this batch is kept, instead of the datastore's own.
    """
    order = decode_order(public.CleanOrder, body)
    outcome = await logic.flush(FlushOrder(order.batch, order.holder, tiering=order.tiering))
    log.info("cleaned (%r): %s", order.msg, outcome.body, extra={"event": "flush"})
    return _json(public.CleanAnswer("CLEANED", outcome.body))


@router.get("/batches", tags=["archive"], responses=responses(public.Batches))
async def batches() -> Response:
    """List all batches, the oldest first: the archived ones, the current one, and the next one if it exists."""
    return Relayed()


@router.get("/batches/{batch}", tags=["archive"], responses=responses(public.Batch, 404))
async def one_batch(batch: BatchId) -> Response:
    """Return one batch."""
    return Relayed()


@router.get("/batches/{batch}/manifest", tags=["archive"], responses=responses(public.Manifest, 404))
async def batch_manifest(batch: BatchId) -> Response:
    """Return the manifest of a sealed batch: every segment with its checksum."""
    return Relayed()


@router.post(
    "/batches/{batch}/verify",
    tags=["archive"],
    status_code=202,
    responses=responses(public.Verification, 404, 409, 422, status=202),
)
async def verify_batch(batch: BatchId) -> Response:
    """Start to compare an archived batch with its manifest, byte for byte, in the background.

    The batch's `verification` has the progress, and in the end the result. Another request while it is running changes
    nothing.
    """
    return Relayed()


@router.get("/segments", tags=["archive"], responses=responses(public.SegmentPage, 409, 422))
async def segments(wanted: Annotated[SegmentQuery, Query()]) -> Response:
    """List stored segments, in the order they were stored, a page at a time.

    The next page begins after the `after` of this one; no segment is repeated or left out, even if others are stored
    meanwhile. With `before`, the newest come first, and the next page begins before the last segment of this one.
    """
    return Relayed()


@router.get("/coverage", tags=["archive"], responses=responses(public.Coverage, 404, 422))
async def coverage(wanted: Annotated[CoverageQuery, Query()]) -> Response:
    """Return the time that the segments of a query cover, by channel and sample spacing, as `[start, stop, segments]`.

    There are at most 100,000 spans in all: with many channels, each has fewer than `limit`.
    """
    return Relayed()


@router.get("/facets", tags=["archive"], responses=responses(Facets, 422))
async def facets(wanted: Annotated[QueryParameters, Query()]) -> Response:
    """Return the filters that narrow a query: values with the number of their segments, and ranges of numbers.

    With several facilities, there are only the conditions that segments of each of them have.
    """
    return Relayed()


@router.get("/log", tags=["page"], responses=responses(public.LogTail, 422))
async def log_tail(
    logic: Logic, last: Annotated[int, Query(ge=1, le=10_000, description="maximum number of lines")] = 100
) -> Response:
    """Return the newest lines of the batch's log, one per stored segment, in the order they were written."""
    return _json(await logic.log_tail(last))


@router.get("/segments/{name}", tags=["archive"], responses=responses(Segment, 404))
async def segment_file(name: SegmentName) -> Response:
    """Return a segment as it was stored. Its ETag is its SHA-256; range requests are supported."""
    return Relayed()


@router.get("/", include_in_schema=False)
async def root() -> Response:
    """Redirect to the status page."""
    return RedirectResponse("dspage")


@router.get("/dspage", tags=["page"], responses=problems())
async def dspage() -> Response:
    """Return the status page; it contains no data and loads them from the other routes."""
    return RelayedPage(b"/?at=gateway")


@router.get("/search", tags=["page"], responses=problems())
async def search() -> Response:
    """Return the search page; it contains no data. Its query is a search, which the page reads in the browser."""
    return RelayedPage(b"/search?at=gateway")


@router.get("/static/{version}/{name}", include_in_schema=False)
async def static(
    version: Annotated[str, Path(pattern=r"^\w+$")],
    name: Annotated[str, Path(pattern=r"^\w[\w.-]*$")],
) -> Response:
    """Return a file of the pages."""
    return RelayedPage()


@router.get("/docs", include_in_schema=False)
async def docs() -> Response:
    """Return the interactive documentation of the routes."""
    return docs_page()


@router.get("/docs/{name}", include_in_schema=False)
async def docs_files(name: str) -> Response:
    """Return a file of the interactive documentation."""
    return docs_file(name)


@router.get("/redoc", include_in_schema=False)
async def redoc() -> Response:
    """Redirect to /docs, which has replaced this page."""
    return RedirectResponse("docs")


@router.get("/problems", tags=["page"], responses=text("the page, as Markdown"), response_class=PlainTextResponse)
async def problem_pages() -> str:
    """Return the documentation of every problem: what happened, the cause, what to do."""
    return problems_page()


@router.get(
    "/problems/{code}", tags=["page"], responses=text("the section, as Markdown", 404), response_class=PlainTextResponse
)
async def problem_page(code: Annotated[str, Path(examples=["queue-full"])]) -> str:
    """Return the documentation of one problem; the `type` of a problem document is this path."""
    return problem_section(code)


@router.get("/metrics", tags=["operation"], response_class=PlainTextResponse)
async def metrics() -> Response:
    """Return the gateway's metrics for Prometheus; the lower services have their own."""
    return Response(exposition(), media_type=CONTENT_TYPE)


@router.get("/healthz", tags=["probes"], responses=json_response(public.Health))
async def healthz() -> Response:
    """Answer 200 while the process is running."""
    return _json(public.Health("ok"))


@router.get("/readyz", tags=["probes"], responses=responses(public.Health))
async def readyz(logic: Logic) -> Response:
    """Answer 200 while every lower service answers.

    A full volume does not make the gateway unready, because only requests that write fail; `cannot_store` has the
    reason.
    """
    return _json(await logic.health())
