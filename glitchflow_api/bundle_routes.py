"""The gateway's routes of bundles: described here, relayed without decoding."""

from typing import Annotated

from fastapi import APIRouter, Header, Path, Response

from glitchflow_api.openapi import described_archive, described_order, json_response, responses
from glitchflow_api.record_routes import RelayedWaiting
from gwwire.bundles import Bundle, BundleOrder

router = APIRouter(default_response_class=Response, tags=["archive"])

BundleId = Annotated[str, Path(pattern=r"^\w+$", max_length=64, description="as in the answer to POST /bundles")]
Range = Annotated[str | None, Header(description="one range of bytes", examples=["bytes=1000000-"])]
IfRange = Annotated[str | None, Header(description="the ETag of the part that the client has already")]

_ORDER = described_order(BundleOrder, Bundle, 404)


@router.post("/bundles", **{**_ORDER, "responses": {**_ORDER["responses"], **json_response(Bundle, 202)}})
async def make_bundle() -> Response:
    """Make a bundle: the files of what a query selects, or of named segments, as one archive.

    The answer has 200 if the archive can be downloaded, 202 while it is being built. The query is evaluated each time:
    the answer is true up to the seq `as_of`. If nothing else matches than before, it is the same bundle, whose `Age` is
    in the header; if a matching segment arrived, it is another one.
    """
    return RelayedWaiting()


@router.get("/bundles/{bundle}", responses=responses(Bundle, 404))
async def one_bundle(bundle: BundleId) -> Response:
    """Return a bundle, with its state and how much of the archive is built."""
    return RelayedWaiting()


@router.get("/bundles/{bundle}/archive", responses=described_archive())
async def bundle_archive(bundle: BundleId, range: Range = None, if_range: IfRange = None) -> Response:  # noqa: A002 (the header's name)
    """Return the archive of a bundle: a tar that begins with Info.json, or for the format `manifest` a list as JSON.

    Its length is known from the start, and its ETag changes with any of its bytes. An archive that was deleted is made
    again, with the same bytes.
    """
    return RelayedWaiting()


@router.delete("/bundles/{bundle}", responses=responses(Bundle, 404))
async def cancel_bundle(bundle: BundleId) -> Response:
    """Stop the building of an archive, or delete it; the next order makes it again."""
    return RelayedWaiting()
