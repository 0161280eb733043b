"""Holdings, their files, and the transactions that put and delete them."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from databuffer.buffer import Buffer
from databuffer.errors import NotFound, VolumeFailed
from databuffer.holdings.holdings import Page
from databuffer.holdings.table import HoldingFilter, TransactionFilter
from databuffer.holdings.uploads import Digests, digest_text, parse_digest
from databuffer.routes.common import Sender, Storage, json_response
from databuffer.routes.tier_response import TierResponse, head_from_catalog
from databuffer.storage.catalog.batches import FILES_RECORD
from gwservice.asgi import JsonBody, OpenFileResponse, no_such_range
from gwservice.body import body_pieces, read_body, require_json
from gwservice.headers import lists_etag
from gwservice.ranges import Unsatisfiable, requested_range
from gwwire.decoding import InvalidRequest, decode_order
from gwwire.file_manifest import member_name
from gwwire.holdings import (
    FileState,
    HoldingFile,
    HoldingPatch,
    TransactionKind,
    TransactionOrder,
    TransactionState,
    Upload,
    check_path,
    parse_tags,
)

router = APIRouter()

#: Bytes of an order; one with many files is larger than other orders.
_LARGEST_ORDER = 8_000_000
#: Digits of Upload-Offset.
_LONGEST_OFFSET = 18
_BYTES = "application/octet-stream"


async def _page(
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    after: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
    descending: bool = False,  # noqa: FBT001, FBT002 (a query parameter)
) -> Page:
    return Page(limit, after, descending)


async def _path(path: str) -> str:
    """Return the path in the address of a request, which has no slash in front there."""
    return check_path(f"/{path}")


Wanted = Annotated[Page, Depends(_page)]
FilePath = Annotated[str, Depends(_path)]
FileLimit = Annotated[int, Query(ge=1, le=10_000)]


@router.get("/holdings", summary="Holdings, a page at a time")
async def list_holdings(  # noqa: PLR0913, PLR0917 (the filters)
    buffer: Storage,
    sender: Sender,
    page: Wanted,
    user: str | None = None,
    group: str | None = None,
    label: str | None = None,
    tag: str | None = None,
    path: str | None = None,
    regex: str | None = None,
    deleted: bool = False,  # noqa: FBT001, FBT002 (a query parameter)
) -> Response:
    """Return the holdings that the sender may read, by id; `tag` is `k:v,…`, `regex` is found in labels."""
    wanted = HoldingFilter(user, group, label, None if tag is None else parse_tags(tag), path, deleted)
    return json_response(await buffer.holdings.holdings(sender, wanted, page, regex=regex))


@router.get("/holdings/{holding}", summary="One holding")
async def one_holding(holding: int, buffer: Storage, sender: Sender) -> Response:
    """Return a holding by its id."""
    return json_response(await buffer.holdings.holding(sender, holding))


@router.patch("/holdings/{holding}", summary="Change a holding")
async def patch_holding(holding: int, order: JsonBody, buffer: Storage, sender: Sender) -> Response:
    """Take `{"label", "tags"}`; return the holding."""
    return json_response(await buffer.holdings.patch(sender, holding, decode_order(HoldingPatch, order)))


@router.delete("/holdings/{holding}", summary="Delete a holding")
async def delete_holding(holding: int, buffer: Storage, sender: Sender) -> Response:
    """Delete a holding with its files; return the transaction, which can be undone."""
    return json_response(await buffer.holdings.delete(sender, holding))


@router.get("/holdings/{holding}/files", summary="Files of a holding, a page at a time")
async def list_files(  # noqa: PLR0913, PLR0917 (the filters)
    holding: int,
    buffer: Storage,
    sender: Sender,
    limit: FileLimit = 1000,
    after: str = "",
    path: str = "",
    regex: str | None = None,
) -> Response:
    """Return the files of a holding, by path; a `path` that ends with a slash is a folder."""
    page = await buffer.holdings.files(sender, holding, limit, after=after, path=path, regex=regex)
    return json_response(page)


@router.get("/holdings/{holding}/files/{path:name}", summary="The bytes of a file")
async def file_bytes(holding: int, path: FilePath, request: Request, buffer: Storage, sender: Sender) -> Response:
    """Return a file as it was put, with its SHA-256 as ETag and Repr-Digest; ranges are served.

    HEAD needs no tier.
    """
    found, file = await buffer.holdings.file(sender, holding, path)
    if found.sha256 is None:
        raise NotFound(f"{path} is a {found.type}, which has no bytes")
    headers = {"ETag": f'"{found.sha256}"', "Repr-Digest": digest_text(found.sha256)}
    if lists_etag(request.headers.get("if-none-match", ""), headers["ETag"]):
        if file:
            file.close()
        return Response(status_code=304, headers=headers)
    if file:
        return OpenFileResponse(file, _BYTES, headers)
    pack = FILES_RECORD + found.transaction
    if request.scope["context"].is_head and await buffer.tiers.is_in_tiers_only(pack):
        return head_from_catalog(found.size, _BYTES, headers)
    return await _from_tier(request, buffer, found, pack, headers)


@router.delete("/holdings/{holding}/files/{path:name}", summary="Delete a file")
async def delete_file(holding: int, path: FilePath, buffer: Storage, sender: Sender) -> Response:
    """Delete a file of a holding; return the transaction, which can be undone."""
    return json_response(await buffer.holdings.delete(sender, holding, path))


@router.get("/transactions", summary="Transactions, a page at a time")
async def list_transactions(  # noqa: PLR0913, PLR0917 (the filters)
    buffer: Storage,
    sender: Sender,
    page: Wanted,
    user: str | None = None,
    group: str | None = None,
    holding: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    job_label: str | None = None,
    kind: TransactionKind | None = None,
    state: TransactionState | None = None,
) -> Response:
    """Return the transactions that the sender may read, by number."""
    wanted = TransactionFilter(user, group, holding, job_label, kind)
    return json_response(await buffer.holdings.transactions(sender, wanted, page, state=state))


@router.post("/transactions", summary="Put files into a holding", status_code=201)
async def begin_transaction(request: Request, buffer: Storage, sender: Sender) -> Response:
    """Take `{"files", "label" or "holding", "tags", "job_label"}`; return the transaction and each file's state."""
    headers = dict(request.scope["headers"])
    require_json(headers)
    limit = min(request.app.state.max_body, _LARGEST_ORDER)
    body = b"".join(await read_body(request.receive, headers, limit=limit, limit_name="the limit of this order"))
    order = await asyncio.to_thread(decode_order, TransactionOrder, body)
    return json_response(await buffer.holdings.put(sender, order), 201)


@router.get("/transactions/{transaction}", summary="One transaction")
async def one_transaction(transaction: str, buffer: Storage, sender: Sender) -> Response:
    """Return a transaction by its id, with its state and percent."""
    return json_response(await buffer.holdings.transaction(sender, transaction))


@router.post("/transactions/{transaction}/undo", summary="Undo a deletion")
async def undo_transaction(transaction: str, buffer: Storage, sender: Sender) -> Response:
    """Restore what a transaction deleted; return it."""
    return json_response(await buffer.holdings.undo(sender, transaction))


@router.get("/transactions/{transaction}/files", summary="Files of a transaction, a page at a time")
async def transaction_files(  # noqa: PLR0913, PLR0917 (the filters)
    transaction: str,
    buffer: Storage,
    sender: Sender,
    limit: FileLimit = 1000,
    after: str = "",
    state: FileState | None = None,
) -> Response:
    """Return the files that a transaction put or deleted, by path, with the reasons of failures."""
    return json_response(await buffer.holdings.files_of(sender, transaction, limit, after=after, state=state))


@router.get("/transactions/{transaction}/files/{path:name}", summary="How much of a file has arrived")
async def upload_progress(transaction: str, path: FilePath, buffer: Storage, sender: Sender) -> Response:
    """Return a file of a transaction; `Upload-Offset` says how many of its bytes have arrived."""
    row, received = await buffer.holdings.uploads.progress(sender, transaction, path)
    return _upload(await buffer.holdings.upload(row, received))


@router.put("/transactions/{transaction}/files/{path:name}", summary="Send bytes of a file")
async def send_bytes(transaction: str, path: FilePath, request: Request, buffer: Storage, sender: Sender) -> Response:
    """Append the body to what has arrived of a file up to `Upload-Offset`; the last byte makes it complete."""
    given = request.headers.get("upload-offset")
    if given is not None and (not (given.isascii() and given.isdigit()) or len(given) > _LONGEST_OFFSET):
        raise InvalidRequest("Upload-Offset: expected the number of bytes that have arrived", field="Upload-Offset")
    digests = Digests(*(parse_digest(name, request.headers.get(name)) for name in ("Content-Digest", "Repr-Digest")))
    offset = None if given is None else int(given)
    receiving = buffer.holdings.uploads.receive(
        sender, transaction, path, body_pieces(request.receive), offset, digests
    )
    return _upload(await buffer.holdings.upload(*await receiving))


@router.delete("/transactions/{transaction}/files/{path:name}", summary="Give a file up")
async def give_up_file(
    transaction: str, path: FilePath, buffer: Storage, sender: Sender, reason: str = "given up by its sender"
) -> Response:
    """Fail a file that still waits for bytes; return it."""
    row = await buffer.holdings.uploads.give_up(sender, transaction, path, reason)
    return _upload(await buffer.holdings.upload(row, 0))


async def _from_tier(
    request: Request, buffer: Buffer, found: HoldingFile, pack: str, headers: dict[str, str]
) -> Response:
    """Return the bytes of a file that the disk does not have."""
    try:
        span = requested_range(
            request.headers.get("range"), request.headers.get("if-range"), found.size, headers["ETag"]
        )
    except Unsatisfiable:
        return no_such_range(found.path, found.size, headers)
    start, stop = span or (0, found.size)
    stream = await buffer.tier_reader.stream(pack, member_name(found.path), start, stop)
    if stream is None:
        raise VolumeFailed(f"{found.path} does not have its {found.size} bytes on the volume")
    return TierResponse(stream, found.size, span, _BYTES, headers)


def _upload(found: Upload) -> Response:
    response = json_response(found)
    response.headers["Upload-Offset"] = str(found.received)
    response.headers["Upload-Complete"] = "?1" if found.file.state is FileState.COMPLETE else "?0"
    return response
