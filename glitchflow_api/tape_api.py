"""The WLCG Tape REST API, version 1, over recalls from tape: for unmodified clients as gfal2, FTS and Rucio."""

from typing import Annotated
from urllib.parse import urlsplit

import msgspec
from fastapi import APIRouter, Path, Request, Response

from glitchflow_api.holding_routes import RelayedForCaller
from glitchflow_api.openapi import Responses, described_order, json_response, problems, responses
from glitchflow_api.sessions import public_url
from gwwire.tape import (
    STAGE_ID,
    ArchiveInfo,
    PathList,
    StageAccepted,
    StageOrder,
    StageRequest,
    TapeDiscovery,
    TapeEndpoint,
)

_PREFIX = "/api/tape/v1"

#: gfal2 calls these with a slash at the end, and does not follow a relative redirect.
SLASHED = frozenset({f"{_PREFIX}/stage/", f"{_PREFIX}/archiveinfo/"})

router = APIRouter(default_response_class=Response, tags=["tape"])

StageId = Annotated[str, Path(pattern=STAGE_ID, description="`requestId` of a stage request")]
#: Clients release without an id, too, and then send one of their own.
AnyId = Annotated[str, Path(pattern=r"^[A-Za-z0-9._-]+$", max_length=200, description="`requestId` of a stage request")]


class _RelayedForCaller(RelayedForCaller):
    """The answer for a caller, who may read some holdings, and has some stage requests."""

    relay = "relay"


_DONE: Responses = {200: {"description": "it is done"}}


@router.get("/.well-known/wlcg-tape-rest-api", responses=json_response(TapeDiscovery))
async def discover(request: Request) -> Response:
    """Return where the Tape REST API is."""
    uri = public_url(request, _PREFIX)
    found = TapeDiscovery(
        sitename=urlsplit(uri).hostname or "",
        description="GlitchFlow Datastore: gravitational-wave strain",
        endpoints=[TapeEndpoint(uri, "v1", {})],
    )
    return Response(msgspec.json.encode(found), media_type="application/json")


@router.post(f"{_PREFIX}/stage/", include_in_schema=False)
@router.post(f"{_PREFIX}/stage", status_code=201, **described_order(StageOrder, StageAccepted, status=201))
async def stage() -> Response:
    """Keep files readable, and begin the recall of those on tape; the answer is the id of the stage request.

    A file that does not exist, or cannot be recalled, is FAILED in the request, with its `error`; the others are
    staged. The request ends when its files are released, or after RECALL_PIN.
    """
    return _RelayedForCaller(b"/tape/stage")


@router.get(f"{_PREFIX}/stage/{{request}}", responses=responses(StageRequest, 404, 422))
async def stage_state(request: StageId) -> Response:
    """Return how far the files of a stage request of the caller's group are."""
    return _RelayedForCaller(f"/tape/stage/{request}".encode())


@router.post(f"{_PREFIX}/stage/{{request}}/cancel", **described_order(PathList, None, 404))
async def cancel(request: StageId) -> Response:
    """Cancel files of a stage request; paths that it does not have are ignored."""
    return _RelayedForCaller(f"/tape/stage/{request}/cancel".encode())


@router.delete(f"{_PREFIX}/stage/{{request}}", responses=_DONE | problems(404, 422))
async def delete(request: StageId) -> Response:
    """Cancel all files of a stage request, and forget it."""
    return _RelayedForCaller(f"/tape/stage/{request}".encode())


@router.post(f"{_PREFIX}/release/{{request}}", **described_order(PathList, None))
async def release(request: AnyId) -> Response:
    """Keep files no longer for a stage request; of one that does not exist, there is nothing to release."""
    return _RelayedForCaller(f"/tape/release/{request}".encode())


@router.post(f"{_PREFIX}/archiveinfo/", include_in_schema=False)
@router.post(f"{_PREFIX}/archiveinfo", **described_order(PathList, list[ArchiveInfo]))
async def archive_info() -> Response:
    """Return where the bytes of files are; one that does not exist has an `error` instead."""
    return _RelayedForCaller(b"/tape/archiveinfo")
