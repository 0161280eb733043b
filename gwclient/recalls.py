"""Recall batches from tape for the time of a block, and wait for recalls."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

from gwclient.client import GlitchflowClient
from gwclient.errors import GatewayError
from gwwire.public import SegmentRecord
from gwwire.tiering import BatchLocality, Recall, RecallState


@asynccontextmanager
async def recalled(client: GlitchflowClient, records: Iterable[SegmentRecord]) -> AsyncIterator[None]:
    """Ask for those batches of segments that are on tape; let the datastore evict them again after the block.

    One that cannot be recalled is not reported: reading its segments fails.
    """
    asker = f"get-{uuid4().hex}"
    asked: list[str] = []
    try:
        for batch in dict.fromkeys(each.batch for each in records if each.locality is BatchLocality.TAPE):
            with suppress(GatewayError):
                await client.recall(batch, asker)
                asked.append(batch)
        yield
    finally:
        for batch in asked:
            with suppress(GatewayError):
                await client.release(batch, asker)


async def wait_for_recalls(
    client: GlitchflowClient, batches: Sequence[str], poll: float, on_change: Callable[[Recall], object]
) -> list[Recall]:
    """Wait until recalls have ended, and return them; `on_change` is called with each that changed meanwhile."""
    last: dict[str, Recall] = {}
    while True:
        for batch in batches:
            found = await client.recall_state(batch)
            before = last.get(batch)
            last[batch] = found
            if before is None or _shown(before) != _shown(found):
                on_change(found)
        if all(each.state not in {RecallState.QUEUED, RecallState.RUNNING} for each in last.values()):
            return list(last.values())
        await asyncio.sleep(poll)


def _shown(recall: Recall) -> tuple[RecallState, int, int | None]:
    return recall.state, recall.percent, recall.position
