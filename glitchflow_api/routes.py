"""The gateway's endpoints: parse, call, answer."""

import logging
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from glitchflow_api.logic_client import LogicClient
from glitchflow_api.models import (
    CleanAnswer,
    CleanOrder,
    Health,
    NameList,
    Segment,
    State,
    Stats,
    StreamAnswer,
    TrainFrozen,
    TrainOrder,
    TrainWaiting,
)
from glitchflow_api.openapi import json_body, problems
from gwservice.asgi import JsonBody
from gwwire.datastore import FROZEN_TEXT, decode_clean_order

router = APIRouter()
log = logging.getLogger(__name__)


def _logic(request: Request) -> LogicClient:
    client: LogicClient = request.app.state.logic
    return client


Logic = Annotated[LogicClient, Depends(_logic)]


@router.get("/stats", tags=["batch"], responses=problems())
async def stats(logic: Logic) -> Stats:
    """Count the batch in hand."""
    counts = await logic.stats()
    return Stats(n_itm=counts.n_itm, buff_size=counts.buff_size)


@router.get("/dumpbuf", tags=["batch"], responses=problems())
async def dumpbuf(logic: Logic) -> NameList:
    """List the files of the batch in hand, in the order they were stored."""
    return NameList(nmlist=(await logic.names()).nmlist)


@router.get("/desc", tags=["batch"], responses=problems())
async def desc(logic: Logic) -> State:
    """Tell the state of the datastore."""
    return State(resp=(await logic.description()).dstatus.value)


@router.post(
    "/streamdata",
    tags=["data"],
    openapi_extra=json_body(Segment),
    responses=problems(400, 413, 415, 422, 507),
)
async def streamdata(body: JsonBody, logic: Logic) -> StreamAnswer:
    """Store one segment.

    CREATED means that the segment is on the disk and counted; FROZEN means that it was not taken.
    """
    outcome = await logic.stream(body)
    if outcome is None:
        return StreamAnswer(resp="FROZEN", body=FROZEN_TEXT)
    return StreamAnswer(resp="CREATED", body=outcome.body)


@router.post(
    "/train",
    tags=["batch"],
    openapi_extra=json_body(TrainOrder),
    responses=problems(400, 413, 415, 422, 507),
)
async def train(body: JsonBody, logic: Logic) -> TrainFrozen | TrainWaiting:
    """Freeze the batch for training, once it is large enough.

    A freeze is idempotent for its holder; a batch that somebody else froze stays theirs, and `holder` says so.
    """
    frozen = await logic.freeze(body)
    if frozen is None:
        return TrainWaiting()
    return TrainFrozen(n_f=frozen.n_itm, bt_wrt=frozen.buff_size, holder=frozen.holder)


@router.post(
    "/cleanbuf",
    tags=["batch"],
    openapi_extra=json_body(CleanOrder),
    responses=problems(400, 413, 415, 422, 507),
)
async def cleanbuf(body: JsonBody, logic: Logic) -> CleanAnswer:
    """Archive the batch and begin an empty one."""
    order = decode_clean_order(body)
    outcome = await logic.flush()
    log.info("cleaned (%r): %s", order.msg, outcome.body)
    return CleanAnswer(body=outcome.body)


@router.get("/dspage", tags=["page"], responses=problems(), response_class=Response)
async def dspage(logic: Logic) -> Response:
    """Show the status page."""
    page = await logic.get("/")
    return Response(page.body, media_type=page.content_type)


@router.get("/static/{name}", include_in_schema=False)
async def static(name: Annotated[str, Path(pattern=r"^\w[\w.-]*$")], logic: Logic) -> Response:
    """Give a part of the status page."""
    part = await logic.get(f"/static/{name}")
    return Response(part.body, media_type=part.content_type)


@router.get("/healthz", tags=["probes"])
async def healthz() -> Health:
    """Answer as long as the process can."""
    return Health(status="ok")


@router.get("/readyz", tags=["probes"], responses=problems())
async def readyz(logic: Logic) -> Health:
    """Answer 200 while segments can be stored: every tier below is asked."""
    await logic.get("/readyz")
    return Health(status="ready")
