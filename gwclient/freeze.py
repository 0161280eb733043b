"""Wait until a batch is frozen for a user."""

import asyncio
import time
from collections.abc import Callable

from gwclient.client import GlitchflowClient
from gwclient.errors import HeldByAnother, NotAsExpected
from gwwire.public import TrainFrozen, TrainWaiting


def is_held_by(answer: TrainFrozen, user: str) -> bool:
    """Return whether a frozen batch is held by a user; an earlier gateway does not name the holder."""
    return answer.holder in {user, ""}


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
            reason, problem = "the batch is not complete yet", NotAsExpected
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
