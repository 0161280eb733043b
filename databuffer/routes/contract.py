"""The routes of the original system: counts, state, names, log, freeze, flush."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Header, Query, Response

from databuffer.routes.common import Storage, json_response
from gwservice.asgi import JsonBody, OptionalJsonBody
from gwservice.headers import GROUP_HEADER
from gwwire.datastore import FlushOrder, FreezeOrder, FreezeOutcome, Outcome, OutcomeCode
from gwwire.decoding import decode_order
from gwwire.public import NameList

router = APIRouter()


@router.get("/stat", summary="Counts of the batch in hand")
async def stat(buffer: Storage, group: Annotated[str | None, Header(alias=GROUP_HEADER)] = None) -> Response:
    """Return `{"n_itm", "buff_size"}`, those of the next batch where segments go there, and the group's `quota`."""
    return json_response(msgspec.structs.replace(buffer.queries.stats, quota=buffer.queries.quota(group)))


@router.get("/dstat", summary="State of the datastore")
async def dstat(buffer: Storage) -> Response:
    """Return `{"dstatus", "user", "token"}`."""
    return json_response(buffer.queries.description)


@router.get("/overview", summary="Everything at a glance")
async def overview(buffer: Storage) -> Response:
    """Return state, counts, channels, room and health in one answer; its cost does not grow with what is stored."""
    return json_response(await buffer.queries.overview())


@router.get("/dumpF", summary="Files of the batch in hand")
async def dump_files(buffer: Storage) -> Response:
    """Return `{"nmlist": [names]}`, in the order they were stored."""
    return json_response(NameList(await buffer.queries.names()))


@router.get("/dumpLogF", summary="Log of the batch in hand")
async def dump_log(buffer: Storage, last: Annotated[int | None, Query(ge=1, le=10_000)] = None) -> Response:
    """Return the lines of LogStream.json as a list, or the newest `last` of them; the oldest come first."""
    return Response(b"[" + b",".join(await buffer.queries.log_lines(last)) + b"]", media_type="application/json")


@router.post("/upddsc", summary="Freeze the batch", status_code=201)
async def update_description(order: JsonBody, buffer: Storage) -> Response:
    """Freeze the batch for `{"user", "token"}`; a frozen one stays its holder's."""
    frozen = await buffer.batches.freeze(decode_order(FreezeOrder, order))
    outcome = FreezeOutcome(
        OutcomeCode.STAT_UPD,
        f"Frozen by {frozen.holder}: {frozen.stats.n_itm} segments, {frozen.stats.buff_size} bytes",
        frozen.stats.n_itm,
        frozen.stats.buff_size,
        frozen.holder,
        frozen.batch,
        frozen.digest,
    )
    return json_response(outcome, 201)


@router.post("/cleanall", summary="Archive the batch", status_code=201)
async def clean_all(order: OptionalJsonBody, buffer: Storage) -> Response:
    """Move the batch into the folder `DAY HOUR MIN`; the next one, or an empty one, takes its place.

    An order of `{"batch": id}` is refused where another batch is in hand; no other body is needed.
    """
    archived = await buffer.batches.flush(decode_order(FlushOrder, order) if order else FlushOrder())
    body = (
        f"Archived {archived.stats.n_itm} segments, {archived.stats.buff_size} bytes in {archived.folder.name!r}"
        if archived.folder
        else "There was nothing to archive"
    )
    return json_response(Outcome(OutcomeCode.STAT_UPD, body), 201)
