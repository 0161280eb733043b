"""Wait until a batch is frozen for a user, or until a step is done on it."""

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing, suppress

from msgspec import UNSET

from gwclient.amounts import unit_of
from gwclient.client import GlitchflowClient
from gwclient.errors import GatewayError, HeldByAnother, NotAsExpected
from gwwire.public import TrainFrozen, TrainWaiting
from gwwire.records import ARCHIVED, Mark, Record, StepState


def is_held_by(answer: TrainFrozen, user: str) -> bool:
    """Return whether a frozen batch is held by a user; an earlier gateway does not name the holder."""
    return answer.holder in {user, ""}


async def waiting_text(client: GlitchflowClient) -> str:
    """Return how full the batch is, or only that it is not complete if the gateway does not know."""
    with suppress(GatewayError):
        overview = await client.overview()
        if overview.max_size is not UNSET:
            unit, name = unit_of(max(overview.max_size, 1000))
            full = round(overview.max_size / unit, 1)
            stats = await client.stats()  # the overview may be older than the last push
            size = max(min(stats.buff_size / unit, full - 0.1), 0)  # a batch that waits is not full
            return f"the batch has {size:.1f} of {full:.1f} {name} (MAX_SIZE)"
    return "the batch is not complete yet"


async def until_frozen(  # noqa: PLR0913, PLR0917 (an order and how to repeat it)
    client: GlitchflowClient,
    user: str,
    token: str,
    poll: float,
    deadline: float | None,
    say: Callable[[str], object],
) -> TrainFrozen:
    """Order the freeze every `poll` s until the batch is frozen for `user`; `say` is called with each new reason.

    After `deadline` s, raise HeldByAnother if another user holds the batch, else NotAsExpected.
    """
    began = time.monotonic()
    said = ""
    while True:
        answer = await client.train(user, token)
        problem: type[NotAsExpected]
        if isinstance(answer, TrainWaiting):
            reason, problem = await waiting_text(client), NotAsExpected
        elif is_held_by(answer, user):
            return answer
        else:
            reason, problem = f"{answer.holder} holds the batch", HeldByAnother
        if deadline is not None and time.monotonic() - began + poll > deadline:
            raise problem(f"{reason}, and the deadline of {deadline:g} s is over")
        if reason != said:
            said = reason
            say(f"{reason}; asking every {poll:g} s")
        await asyncio.sleep(poll)


async def until_done(client: GlitchflowClient, batch: str, step: str) -> None:
    """Wait until a step is done on a batch, or the batch is archived; raise NotAsExpected if the step FAILED."""
    record = await client.records.get(f"batch/{batch}")
    async with aclosing(client.records.changes(since=record.seq, follow=True, kind=record.kind)) as changes:
        while not _is_done(record, step):
            change: Record | Mark = await anext(changes)
            if isinstance(change, Record) and change.id == record.id:
                record = change


def _is_done(record: Record, step: str) -> bool:
    for each in record.steps:
        if each.name == step and each.state is StepState.FAILED:
            raise NotAsExpected(f"step {step} of {record.id} failed: {each.reason}")
    return any(each.name in {step, ARCHIVED} and each.state is StepState.DONE for each in record.steps)
