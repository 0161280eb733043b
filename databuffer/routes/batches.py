"""Batches: freeze, archive, thaw, list, manifest, verify."""

from fastapi import APIRouter, Response

from databuffer.routes.common import Storage, json_response
from databuffer.storage.catalog import BatchRow
from databuffer.storage.clock import utc_text
from gwservice.asgi import JsonBody, OpenFileResponse, OptionalJsonBody
from gwwire.datastore import FlushOrder, FreezeOrder, FreezeOutcome, Outcome, OutcomeCode
from gwwire.decoding import decode_order
from gwwire.public import Batch, Batches, ThawOrder, Verification

router = APIRouter()


@router.post("/upddsc", summary="Freeze the batch", status_code=201)
async def update_description(order: JsonBody, buffer: Storage) -> Response:
    """Freeze the batch for `{"user", "token"}`; a batch that is frozen keeps its holder."""
    frozen = await buffer.batches.freeze(decode_order(FreezeOrder, order))
    count, size = frozen.stats.n_itm, frozen.stats.buff_size
    body = f"Frozen by {frozen.holder}: {count} segments, {size} bytes"
    outcome = FreezeOutcome(OutcomeCode.STAT_UPD, body, count, size, frozen.holder, frozen.batch, frozen.digest)
    return json_response(outcome, 201)


@router.post("/cleanall", summary="Archive the batch", status_code=201)
async def clean_all(order: OptionalJsonBody, buffer: Storage) -> Response:
    """Move the batch into the folder `DAY HOUR MIN`; `{"batch", "holder"}` is refused if they are others."""
    archived = await buffer.batches.flush(decode_order(FlushOrder, order) if order else FlushOrder())
    body = (
        f"Archived {archived.stats.n_itm} segments, {archived.stats.buff_size} bytes in {archived.folder.name!r}"
        if archived.folder
        else "There was nothing to archive"
    )
    return json_response(Outcome(OutcomeCode.STAT_UPD, body), 201)


@router.post("/thaw", summary="Open the frozen batch again", status_code=201)
async def thaw(order: JsonBody, buffer: Storage) -> Response:
    """Open the frozen batch again for its holder, `{"user", "token"}`; nothing is archived."""
    stats = await buffer.batches.thaw(decode_order(ThawOrder, order))
    body = f"Thawed: {stats.n_itm} segments, {stats.buff_size} bytes" if stats else "The batch was open already"
    return json_response(Outcome(OutcomeCode.STAT_UPD, body), 201)


@router.get("/batches", summary="All batches")
async def batches(buffer: Storage) -> Response:
    """Return `{"batches": […]}`, the oldest first."""
    rows = await buffer.queries.batches()
    verifications = await buffer.verifier.verifications(rows)
    return json_response(Batches([_batch(row, verifications.get(row.id)) for row in rows]))


@router.get("/batches/{batch}", summary="One batch")
async def one_batch(batch: str, buffer: Storage) -> Response:
    """Return a batch by its id."""
    row = await buffer.queries.batch(batch)
    return json_response(_batch(row, (await buffer.verifier.verifications([row])).get(row.id)))


@router.get("/batches/{batch}/manifest", summary="Manifest of a sealed batch")
async def batch_manifest(batch: str, buffer: Storage) -> Response:
    """Return MANIFEST.json of a sealed batch."""
    return OpenFileResponse(await buffer.queries.manifest(batch), "application/json")


@router.post("/batches/{batch}/verify", summary="Verify an archived batch", status_code=202)
async def verify_batch(batch: str, buffer: Storage) -> Response:
    """Begin to compare every byte with the manifest; the batch's `verification` has the progress."""
    return json_response(await buffer.verifier.request(batch), 202)


def _batch(row: BatchRow, verification: Verification | None) -> Batch:
    return Batch(
        id=row.id,
        state=row.state,
        opened=utc_text(row.opened),
        frozen=utc_text(row.frozen) if row.frozen else None,
        archived=utc_text(row.archived) if row.archived else None,
        holder=row.holder,
        n_itm=row.n_itm,
        buff_size=row.buff_size,
        path=row.path,
        digest=row.digest,
        verification=verification,
    )
