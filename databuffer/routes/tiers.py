"""Tiers: which there are, the replicas of batches, and the policy of one batch."""

from fastapi import APIRouter, Response

from databuffer.routes.common import Group, Storage, json_response
from gwservice.asgi import JsonBody
from gwwire.datastore import Replicas
from gwwire.decoding import decode_order
from gwwire.tiering import Tiering

router = APIRouter()


@router.get("/tiers", summary="All tiers")
async def tiers(buffer: Storage, group: Group = None) -> Response:
    """Return the tiers, the disk first: capacity, verified packs, waiting copies and the last error of each."""
    return json_response(await buffer.tier_overview.overview(group))


@router.get("/replicas", summary="Replicas of all archived batches")
async def all_replicas(buffer: Storage) -> Response:
    """Return `{"batches": […]}`, the oldest first."""
    return json_response(Replicas(await buffer.tiers.all_replicas()))


@router.get("/batches/{batch}/replicas", summary="Replicas of one archived batch")
async def batch_replicas(batch: str, buffer: Storage) -> Response:
    """Return the replicas of a batch, and its policy."""
    return json_response(await buffer.tiers.replicas(batch))


@router.put("/batches/{batch}/tiering", summary="Set the policy of one archived batch")
async def set_tiering(batch: str, order: JsonBody, buffer: Storage) -> Response:
    """Take `{"archive_to", "keep_on_disk"}`; return the replicas of the batch."""
    return json_response(await buffer.tiers.set_tiering(batch, decode_order(Tiering, order)))
