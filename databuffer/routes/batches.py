"""Batches: freeze, archive, thaw, list, manifest, verify."""

from collections.abc import Sequence

from fastapi import APIRouter, Response

from databuffer.buffer import Buffer
from databuffer.routes.common import Asker, Storage, json_response
from databuffer.storage.catalog import BatchRow
from databuffer.storage.clock import utc_text
from databuffer.verifier import since_repaired
from gwservice.asgi import JsonBody, OpenFileResponse, OptionalJsonBody
from gwwire.datastore import FlushOrder, FreezeOrder, FreezeOutcome, Outcome, OutcomeCode
from gwwire.decoding import decode_order
from gwwire.public import Batch, Batches, ThawOrder, Verification
from gwwire.tiering import ANYBODY, BatchLocality, BatchReplicas, Recall, RecallState, disk_until

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
    return json_response(Batches(await _batches(buffer, rows)))


@router.get("/batches/{batch}", summary="One batch")
async def one_batch(batch: str, buffer: Storage) -> Response:
    """Return a batch by its id."""
    return json_response((await _batches(buffer, [await buffer.queries.batch(batch)]))[0])


@router.get("/batches/{batch}/manifest", summary="Manifest of a sealed batch")
async def batch_manifest(batch: str, buffer: Storage) -> Response:
    """Return MANIFEST.json of a sealed batch."""
    return OpenFileResponse(await buffer.queries.manifest(batch), "application/json")


@router.post("/batches/{batch}/verify", summary="Verify an archived batch", status_code=202)
async def verify_batch(batch: str, buffer: Storage) -> Response:
    """Begin to compare every byte with the manifest; the batch's `verification` has the progress."""
    return json_response(await buffer.verifier.request(batch), 202)


@router.post("/batches/{batch}/recall", summary="Recall a batch from tape")
async def recall_batch(batch: str, buffer: Storage, asker: Asker = ANYBODY) -> Response:
    """Keep a batch readable for the asker, and begin its recall if it is on tape only; 202 until it can be read."""
    return _recall(await buffer.recalls.ask(batch, asker, again=True))


@router.get("/batches/{batch}/recall", summary="Recall of a batch")
async def recall_state(batch: str, buffer: Storage, asker: Asker = ANYBODY) -> Response:
    """Return how far the recall of a batch is, 202 until it can be read."""
    return _recall(await buffer.recalls.states.get(batch, asker))


@router.delete("/batches/{batch}/recall", summary="Release a recalled batch")
async def release_batch(batch: str, buffer: Storage, asker: Asker = ANYBODY) -> Response:
    """Release the asker's pin: the batch may leave the cache of the tape."""
    return json_response(await buffer.recalls.release(batch, asker))


def _recall(found: Recall) -> Response:
    response = json_response(found, 200 if found.state is RecallState.ONLINE else 202)
    if found.state is not RecallState.ONLINE:
        response.headers["Retry-After"] = str(max(found.seconds, 1))
    return response


async def _batches(buffer: Buffer, rows: Sequence[BatchRow]) -> list[Batch]:
    verifications, replicas = await buffer.verifier.verifications(rows), await buffer.tiers.localities(rows)
    return [_batch(row, verifications.get(row.id), *replicas.get(row.id, (BatchLocality.DISK, None))) for row in rows]


def _batch(
    row: BatchRow, verification: Verification | None, locality: BatchLocality, found: BatchReplicas | None
) -> Batch:
    leaves_disk = disk_until(found) if found else None
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
        verification=verification and since_repaired(verification, found.replicas if found else []),
        locality=locality,
        replicas=found.replicas if found else [],
        leaves_disk=None if leaves_disk is None else utc_text(round(leaves_disk * 10**9)),
    )
