"""The gateway's routes of holdings and transactions: described here, relayed without decoding, with their caller."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Response

from glitchflow_api.access import Caller
from glitchflow_api.admission import Admission
from glitchflow_api.bundle_routes import IfRange, Range
from glitchflow_api.errors import Unauthorized
from glitchflow_api.logic_client import caller_headers
from glitchflow_api.models import FilesQuery, HoldingsQuery, TransactionFilesQuery, TransactionsQuery
from glitchflow_api.openapi import (
    described_holding_file,
    described_order,
    described_progress,
    described_upload,
    json_response,
    responses,
)
from glitchflow_api.routes import Relayed
from glitchflow_api.while_allowed import WhileAllowed
from gwservice.asgi_types import Receive, Scope, Send
from gwservice.body import body_pieces
from gwservice.correlation import RequestContext
from gwservice.relay import target_of
from gwwire import holdings, public

router = APIRouter(default_response_class=Response, tags=["holdings"])

HoldingId = Annotated[int, Path(ge=1, lt=2**63)]
TransactionId = Annotated[str, Path(pattern=r"^[\w-]+$", max_length=64, description="as in the answer that began it")]
FilePath = Annotated[
    str,
    Path(
        description="the path of the file, without the slash in front; each part between slashes is percent-encoded",
        examples=["data/run%201/a.h5"],
    ),
]
Offset = Annotated[
    int, Header(ge=0, lt=10**18, description="bytes that have arrived: the body continues there", examples=[0])
]
ContentDigest = Annotated[
    str | None, Header(description="SHA-256 of this body (RFC 9530), in Base64", examples=["sha-256=:…:"])
]
ReprDigest = Annotated[str | None, Header(description="SHA-256 of the whole file", examples=["sha-256=:…:"])]
Reason = Annotated[str, Query(min_length=1, max_length=500, description="why the file cannot be sent")]


class RelayedForCaller(Relayed):
    """The answer of dslogic to a request that it receives with the user and the group of the caller."""

    relay = "file_relay"

    def headers_of(self, caller: Caller) -> bytes:
        """Return the headers that name the caller."""
        return caller_headers(caller.name, caller.group, is_admin=public.Scope.ADMIN in caller.scopes)


class RelayedUpload(RelayedForCaller):
    """The same for a body of any size, which is not kept in memory."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Relay the request as long as its sender may store files."""
        request: RequestContext = scope["context"]
        admission: Admission = scope["app"].state.admission

        async def while_allowed() -> AsyncIterator[bytes]:
            async for piece in body_pieces(receive):
                if not await admission.still_allows(request, public.Scope.STREAM):
                    raise Unauthorized("the credential is no longer valid, or no longer allows this")
                yield piece

        lines, relay = self.headers_of(request.caller), self.relay_of(scope)
        await relay.stream(request, send, target_of(scope), while_allowed(), lines, method=b"PUT")


@router.get("/holdings", responses=responses(holdings.HoldingPage, 422))
async def list_holdings(wanted: Annotated[HoldingsQuery, Query()]) -> Response:
    """List the holdings that the caller or the caller's group has, a page at a time.

    The next page begins after the `after` of this one.
    """
    return RelayedForCaller()


@router.get("/holdings/{holding}", responses=responses(holdings.Holding, 404, 422))
async def one_holding(holding: HoldingId) -> Response:
    """Return one holding."""
    return RelayedForCaller()


@router.patch("/holdings/{holding}", **described_order(holdings.HoldingPatch, holdings.Holding, 404, 409))
async def patch_holding(holding: HoldingId) -> Response:
    """Change the label and tags of a holding of the caller."""
    return RelayedForCaller()


@router.delete("/holdings/{holding}", responses=responses(holdings.Transaction, 404, 422, 507))
async def delete_holding(holding: HoldingId) -> Response:
    """Delete a holding with all its files; during HOLDING_GRACE, the transaction can be undone."""
    return RelayedForCaller()


@router.get("/holdings/{holding}/files", responses=responses(holdings.FilePage, 404, 422))
async def list_files(holding: HoldingId, wanted: Annotated[FilesQuery, Query()]) -> Response:
    """List the files of a holding, by path, a page at a time."""
    return RelayedForCaller()


@router.get("/holdings/{holding}/files/{path:name}", responses=described_holding_file())
async def file_bytes(holding: HoldingId, path: FilePath, range: Range = None, if_range: IfRange = None) -> Response:  # noqa: A002 (the header's name)
    """Return the bytes of a file. Its ETag is its SHA-256, which is also in `Repr-Digest`; ranges are served.

    A download ends when its credential is no longer valid.
    """
    return WhileAllowed(RelayedForCaller(), public.Scope.READ)


@router.delete("/holdings/{holding}/files/{path:name}", responses=responses(holdings.Transaction, 404, 422, 507))
async def delete_file(holding: HoldingId, path: FilePath) -> Response:
    """Delete a file of a holding; during HOLDING_GRACE, the transaction can be undone."""
    return RelayedForCaller()


@router.get("/transactions", responses=responses(holdings.TransactionPage, 422))
async def list_transactions(wanted: Annotated[TransactionsQuery, Query()]) -> Response:
    """List the transactions of the caller and the caller's group, with their states, a page at a time."""
    return RelayedForCaller()


_ORDER = described_order(holdings.TransactionOrder, holdings.TransactionMade, 404, 409)
_MADE = {status: answer for status, answer in _ORDER["responses"].items() if status != 200}  # noqa: PLR2004 (OK)


@router.post(
    "/transactions",
    status_code=201,
    **{**_ORDER, "responses": {**_MADE, **json_response(holdings.TransactionMade, 201)}},
)
async def begin_transaction() -> Response:
    """Begin to put files into a holding, which is made if the caller has none of that label.

    Each file is answered: the bytes of those that are WAITING are sent next. A file whose path the holding has already,
    or that is twice in the list, fails; the others go on. Directories and links are complete at once.
    """
    return RelayedForCaller()


@router.get("/transactions/{transaction}", responses=responses(holdings.Transaction, 404, 422))
async def one_transaction(transaction: TransactionId) -> Response:
    """Return one transaction, with its state and percent."""
    return RelayedForCaller()


@router.post("/transactions/{transaction}/undo", responses=responses(holdings.Transaction, 404, 409, 422, 507))
async def undo_transaction(transaction: TransactionId) -> Response:
    """Restore what a transaction deleted; a file whose path is taken by now stays deleted, and a warning says so."""
    return RelayedForCaller()


@router.get("/transactions/{transaction}/files", responses=responses(holdings.FilePage, 404, 422))
async def transaction_files(transaction: TransactionId, wanted: Annotated[TransactionFilesQuery, Query()]) -> Response:
    """List the files that a transaction put or deleted, by path, with the reasons of failures."""
    return RelayedForCaller()


@router.get("/transactions/{transaction}/files/{path:name}", responses=described_progress())
async def upload_progress(transaction: TransactionId, path: FilePath) -> Response:
    """Return a file of a transaction, and how many of its bytes have arrived; HEAD has them in `Upload-Offset`."""
    return RelayedForCaller()


@router.put("/transactions/{transaction}/files/{path:name}", **described_upload())
async def send_bytes(
    transaction: TransactionId,
    path: FilePath,
    upload_offset: Offset = 0,
    content_digest: ContentDigest = None,
    repr_digest: ReprDigest = None,
) -> Response:
    """Send bytes of a file: all of them, or those after `Upload-Offset`, in any number of requests.

    The last byte makes the file complete, which is durable when the answer arrives. After a broken connection, HEAD
    says how many bytes have arrived; those that follow are sent next. If bytes differ from their digest, they are
    dropped: those of the request with `Content-Digest`, all of them with `Repr-Digest`.
    """
    return RelayedUpload()


@router.delete("/transactions/{transaction}/files/{path:name}", responses=described_progress(409, 507))
async def give_up_file(transaction: TransactionId, path: FilePath, reason: Reason = "") -> Response:
    """Fail a file that still waits for bytes, because its sender cannot send them."""
    return RelayedForCaller()
