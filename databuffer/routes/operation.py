"""Metrics and probes."""

from fastapi import APIRouter, Response

from databuffer.meters import at_this_moment
from databuffer.routes.common import Storage
from gwservice.metrics import CONTENT_TYPE, exposition

router = APIRouter()


@router.get("/metrics", summary="Numbers for Prometheus")
async def metrics(buffer: Storage) -> Response:
    """Return what was counted since the start, and what is at this moment."""
    return Response(exposition(at_this_moment(await buffer.queries.overview())), media_type=CONTENT_TYPE)


@router.get("/healthz", summary="Is the process alive?")
async def health() -> dict[str, str]:
    """Answer as long as the process can."""
    return {"status": "ok"}


@router.get("/readyz", summary="Can it store segments?")
async def ready(buffer: Storage) -> dict[str, str]:
    """Answer 200 while the volume can be written to."""
    await buffer.queries.check_ready()
    return {"status": "ready"}
