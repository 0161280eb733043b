"""The datastore as a whole: counts, state, names, log, overview, metrics, probes."""

from contextlib import suppress
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response

from databuffer.errors import VolumeError
from databuffer.metrics import bundle_gauges, gauges, step_gauges
from databuffer.routes.common import Group, Storage, json_response
from databuffer.tiers.upkeep.metrics import tier_gauges
from gwservice.metrics import CONTENT_TYPE, exposition
from gwwire.public import NameList
from gwwire.records import StepOverview

router = APIRouter()


@router.get("/stat", summary="Counts of the current batch")
async def stat(buffer: Storage, group: Group = None) -> Response:
    """Return `{"n_itm", "buff_size"}`, those of the next batch if there is one, and the group's `quota`."""
    return json_response(msgspec.structs.replace(buffer.queries.stats, quota=buffer.queries.quota(group)))


@router.get("/dstat", summary="State of the datastore")
async def dstat(buffer: Storage) -> Response:
    """Return `{"dstatus", "user", "token"}`."""
    return json_response(buffer.queries.description)


@router.get("/overview", summary="Overview")
async def overview(buffer: Storage) -> Response:
    """Return state, counts, channels, free space, tiers and health; the cost does not grow with the stored data."""
    return json_response(buffer.tier_overview.added_to(await buffer.queries.overview()))


@router.get("/dumpF", summary="Files of the current batch")
async def dump_files(buffer: Storage) -> Response:
    """Return `{"nmlist": [names]}`, in the order they were stored."""
    return json_response(NameList(await buffer.queries.names()))


@router.get("/dumpLogF", summary="Log of the current batch")
async def dump_log(buffer: Storage, last: Annotated[int | None, Query(ge=1, le=10_000)] = None) -> Response:
    """Return the lines of LogStream.json as a list, or the newest `last` of them; the oldest come first."""
    return Response(b"[" + b",".join(await buffer.queries.log_lines(last)) + b"]", media_type="application/json")


@router.get("/metrics", summary="Metrics for Prometheus")
async def metrics(buffer: Storage) -> Response:
    """Return the counters since the start, and the current gauges."""
    tiers = buffer.tier_overview
    overview = tiers.added_to(await buffer.queries.overview())
    steps: list[StepOverview] = []
    held: dict[str, int] = {}
    with suppress(VolumeError):  # the overview reports it
        steps, held = (await buffer.records.steps()).steps, await buffer.bundles.space.held()
    found = [
        *gauges(overview),
        *step_gauges(steps, overview.time),
        *bundle_gauges(held, buffer.bundles.space.quota.limit),
    ]
    found += tier_gauges(overview, tiers.census, tiers.scrub_every, buffer.recalls.full_since)
    return Response(exposition(found), media_type=CONTENT_TYPE)


@router.get("/healthz", summary="Is the process alive?")
async def health() -> dict[str, str]:
    """Answer 200 while the process is running."""
    return {"status": "ok"}


@router.get("/readyz", summary="Can it store segments?")
async def ready(buffer: Storage) -> dict[str, str]:
    """Answer 200 while the volume can be written to."""
    await buffer.queries.check_ready()
    return {"status": "ready"}
