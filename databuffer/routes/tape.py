"""The WLCG Tape REST API: stage requests, and where the bytes of paths are."""

from fastapi import APIRouter, Response

from databuffer.routes.common import Sender, Storage, json_response
from gwservice.asgi import JsonBody
from gwwire.decoding import decode_order
from gwwire.tape import PathList, StageAccepted, StageOrder

router = APIRouter(prefix="/tape")


@router.post("/stage", summary="Stage files", status_code=201)
async def stage(order: JsonBody, buffer: Storage, sender: Sender) -> Response:
    """Take `{"files": [{"path"}]}`; return `{"requestId"}`."""
    paths = [file.path for file in decode_order(StageOrder, order).files]
    return json_response(StageAccepted(await buffer.stage_requests.begin(sender, paths)), 201)


@router.get("/stage/{request}", summary="State of a stage request")
async def stage_state(request: str, buffer: Storage, sender: Sender) -> Response:
    """Return how far the files of a stage request are."""
    return json_response(await buffer.stage_requests.get(sender, request))


@router.post("/stage/{request}/cancel", summary="Cancel files of a stage request")
async def cancel(request: str, order: JsonBody, buffer: Storage, sender: Sender) -> Response:
    """Take `{"paths"}`."""
    await buffer.stage_requests.cancel(sender, request, decode_order(PathList, order).paths)
    return Response()


@router.delete("/stage/{request}", summary="Cancel and forget a stage request")
async def delete(request: str, buffer: Storage, sender: Sender) -> Response:
    """Release all files of a stage request."""
    await buffer.stage_requests.delete(sender, request)
    return Response()


@router.post("/release/{request}", summary="Release files of a stage request")
async def release(request: str, order: JsonBody, buffer: Storage, sender: Sender) -> Response:
    """Take `{"paths"}`."""
    await buffer.stage_requests.release(sender, request, decode_order(PathList, order).paths)
    return Response()


@router.post("/archiveinfo", summary="Where files are")
async def archive_info(order: JsonBody, buffer: Storage, sender: Sender) -> Response:
    """Take `{"paths"}`; return `[{"path", "locality"}]`, or `error` instead of the second."""
    return json_response(await buffer.stage_requests.archive_info(sender, decode_order(PathList, order).paths))
