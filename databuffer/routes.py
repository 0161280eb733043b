"""The buffer's endpoints: parse, call, answer."""

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from databuffer.buffer import Buffer
from gwservice.asgi import JsonBody
from gwwire.datastore import FreezeOutcome, Names, Outcome, OutcomeCode, decode_freeze_order

router = APIRouter()


def _buffer(request: Request) -> Buffer:
    buffer: Buffer = request.app.state.buffer
    return buffer


Storage = Annotated[Buffer, Depends(_buffer)]


def _json(content: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


@router.get("/stat", summary="Counts of the batch in hand")
async def stat(buffer: Storage) -> Response:
    """Give `{"n_itm", "buff_size"}`."""
    return _json(buffer.stats)


@router.get("/dstat", summary="State of the datastore")
async def dstat(buffer: Storage) -> Response:
    """Give `{"dstatus", "user", "token"}`."""
    return _json(buffer.description)


@router.get("/dumpF", summary="Files of the batch in hand")
async def dump_files(buffer: Storage) -> Response:
    """Give `{"nmlist": [names]}`, in the order they were stored."""
    return _json(Names(buffer.names))


@router.get("/dumpLogF", summary="Log of the batch in hand")
async def dump_log(buffer: Storage) -> Response:
    """Give the lines of LogStream.json as a list."""
    return Response(b"[" + b",".join(await buffer.log_lines()) + b"]", media_type="application/json")


@router.post("/sendF", summary="Store a segment", status_code=201)
async def send_file(body: JsonBody, buffer: Storage) -> Response:
    """Store one segment, durably, and answer when that is done."""
    stored = await buffer.append(body)
    return _json(Outcome(OutcomeCode.RES_CREATE, f"Written {stored.name} for {stored.size} bytes"), 201)


@router.post("/upddsc", summary="Freeze the batch", status_code=201)
async def update_description(order: JsonBody, buffer: Storage) -> Response:
    """Freeze the batch for `{"user", "token"}`; a frozen one stays its holder's."""
    frozen = await buffer.freeze(decode_freeze_order(order))
    body = f"Frozen by {frozen.holder}: {frozen.stats.n_itm} segments, {frozen.stats.buff_size} bytes"
    outcome = FreezeOutcome(OutcomeCode.STAT_UPD, body, frozen.stats.n_itm, frozen.stats.buff_size, frozen.holder)
    return _json(outcome, 201)


@router.post("/cleanall", summary="Archive the batch", status_code=201)
async def clean_all(buffer: Storage) -> Response:
    """Move the batch into the folder `DAY HOUR MIN` and begin an empty one."""
    archived = await buffer.flush()
    body = (
        f"Archived {archived.stats.n_itm} segments, {archived.stats.buff_size} bytes in {archived.folder.name!r}"
        if archived.folder
        else "There was nothing to archive"
    )
    return _json(Outcome(OutcomeCode.STAT_UPD, body), 201)


@router.get("/healthz", summary="Is the process alive?")
async def health() -> dict[str, str]:
    """Answer as long as the process can."""
    return {"status": "ok"}


@router.get("/readyz", summary="Can it store segments?")
async def ready(buffer: Storage) -> dict[str, str]:
    """Answer 200 while the volume can be written to."""
    await buffer.check()
    return {"status": "ready"}
