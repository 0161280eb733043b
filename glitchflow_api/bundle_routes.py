"""The gateway's routes of bundles: described here, relayed without decoding."""

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Response

from glitchflow_api.bundle_socket import PATH as READY
from glitchflow_api.errors import NotAHandshake
from glitchflow_api.openapi import described_archive, described_order, described_socket, json_response, responses
from glitchflow_api.record_routes import RelayedWaiting
from glitchflow_api.while_allowed import WhileAllowed
from gwwire.bundles import Bundle, BundleOrder
from gwwire.public import Scope
from gwwire.records import LONGEST_WAIT

router = APIRouter(default_response_class=Response, tags=["archive"])

BundleId = Annotated[str, Path(pattern=r"^\w+$", max_length=64, description="as in the answer to POST /bundles")]
Range = Annotated[str | None, Header(description="one range of bytes", examples=["bytes=1000000-"])]
Wait = Annotated[float, Query(ge=0, le=LONGEST_WAIT, description="s to wait for a change while it is being built")]
Percent = Annotated[int | None, Query(ge=0, le=100, description="with `wait`: the percent that is known already")]
IfRange = Annotated[str | None, Header(description="the ETag of the part that the client has already")]


class RelayedForGroup(RelayedWaiting):
    """An answer of dslogic for which files may be built, which count for the quota of the caller's group."""

    for_group = True


_ORDER = described_order(BundleOrder, Bundle, 404)


@router.post("/bundles", **{**_ORDER, "responses": {**_ORDER["responses"], **json_response(Bundle, 202)}})
async def make_bundle() -> Response:
    """Make a bundle: the files of what a query selects, or of named segments, as one archive.

    The answer has 200 if the archive can be downloaded, 202 while it is being built. The query is evaluated each time:
    the answer is true up to the seq `as_of`. If nothing else matches than before, it is the same bundle, whose `Age` is
    in the header; if a matching segment arrived, it is another one.
    """
    return RelayedForGroup()


@router.get("/bundles/{bundle}", responses=responses(Bundle, 404))
async def one_bundle(bundle: BundleId, wait: Wait = 0, after: Percent = None) -> Response:
    """Return a bundle, with its state and how much of the archive is built.

    With `wait`, the answer comes when the archive is no longer being built, or after that time; with `after` too, also
    when the percent is another.
    """
    return RelayedWaiting()


@router.get(READY, status_code=101, responses=described_socket())
async def bundle_ready(bundle: BundleId) -> Response:
    """Open a WebSocket, which says how far the archive is built.

    Each change is a text: `BUILDING 42%`, and at last `READY`, `FAILED` with the reason, `CANCELLED` or `EXPIRED`; then
    it is closed with 1000. Other codes are 1001 (the gateway stops: connect again), 1008 (the credential is no longer
    valid) and 1011 (the bundle does not exist any more). What a client sends is ignored.
    """
    raise NotAHandshake("this is a WebSocket; GET /bundles/{bundle} has the state")


@router.get("/bundles/{bundle}/archive", responses=described_archive())
async def bundle_archive(bundle: BundleId, range: Range = None, if_range: IfRange = None) -> Response:  # noqa: A002 (the header's name)
    """Return the archive of a bundle: a tar that begins with Info.json, or for the format `manifest` a list as JSON.

    Its length is known from the start, and its ETag changes with any of its bytes. An archive that was deleted is made
    again, with the same bytes. A download ends when its credential is no longer valid.
    """
    return WhileAllowed(RelayedForGroup(), Scope.READ)


@router.delete("/bundles/{bundle}", responses=responses(Bundle, 404))
async def cancel_bundle(bundle: BundleId) -> Response:
    """Stop the building of an archive, or delete it; the next order makes it again."""
    return RelayedForGroup()
