"""The routes of tiers and replicas, which are relayed; dslogic decides what a policy changes."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from glitchflow_api.openapi import described_order, json_response, responses
from glitchflow_api.routes import BatchId, Relayed
from gwwire import tiering

Asker = Annotated[str, Query(pattern=tiering.ASKER, description="a name for whom the batch is kept")]

_RECALL = json_response(tiering.Recall, 202)

router = APIRouter(default_response_class=Response, tags=["tiers"])


class RelayedForGroup(Relayed):
    """An answer of dslogic that says what the caller's group uses of its quotas."""

    for_group = True


@router.get("/tiers", responses=responses(tiering.Tiers))
async def tiers() -> Response:
    """Return the tiers, the disk first: what each can hold and holds, what waits for it, and its last error."""
    return RelayedForGroup()


@router.get("/batches/{batch}/replicas", responses=responses(tiering.BatchReplicas, 404, 409))
async def batch_replicas(batch: BatchId) -> Response:
    """Return the replicas of one archived batch, and its policy."""
    return Relayed()


@router.put("/batches/{batch}/tiering", **described_order(tiering.Tiering, tiering.BatchReplicas, 404, 409))
async def set_batch_tiering(batch: BatchId) -> Response:
    """Set the policy of one archived batch, and return its replicas.

    The steps that lead to the replicas of the policy are requested soon. A batch leaves the disk only when every tier
    of the policy has a verified replica of it.
    """
    return Relayed()


@router.post("/batches/{batch}/recall", responses=_RECALL | responses(tiering.Recall, 404, 409, 422, 503))
async def recall_batch(batch: BatchId, asker: Asker = tiering.ANYBODY) -> Response:
    """Keep a batch readable for the asker, and begin its recall if it is on tape only.

    However many ask, it is brought back once. The answer has the status 202 until the batch can be read.
    """
    return Relayed()


@router.get("/batches/{batch}/recall", responses=_RECALL | responses(tiering.Recall, 404, 422, 503))
async def recall_state(batch: BatchId, asker: Asker = tiering.ANYBODY) -> Response:
    """Return how far the recall of a batch is, its place in the queue, and until when it is kept for the asker."""
    return Relayed()


@router.delete("/batches/{batch}/recall", responses=responses(tiering.Recall, 404, 422, 503))
async def release_batch(batch: BatchId, asker: Asker = tiering.ANYBODY) -> Response:
    """Keep a batch no longer for the asker: it may leave the cache of the tape, and need another recall."""
    return Relayed()


@router.post("/tiering/plan", **described_order(tiering.TieringOrder, tiering.TieringPlan, 404, 409))
async def plan_tiering() -> Response:
    """Return what a policy changes for archived batches: copies, drops from the disk, and what cannot be done.

    Nothing is changed. Without a `tiering`, it is the policy of the datastore, as its settings say.
    """
    return Relayed()


@router.post("/tiering/apply", **described_order(tiering.TieringOrder, tiering.TieringPlan, 404, 409))
async def apply_tiering() -> Response:
    """Set the policy of archived batches, and return its plan; the moves are steps on the records of the batches.

    A batch leaves the disk only when every tier of the policy has a verified replica of it.
    """
    return Relayed()
