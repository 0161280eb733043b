"""A recall waits for space that others keep, and lets those go first that fit; what can never fit is refused."""

import asyncio
from pathlib import Path

import pytest

from databuffer.buffer import Buffer
from databuffer.errors import RecallTooLarge
from databuffer.tiers.backends.tape_library.library import TapeTier
from databuffer.tiers.recalls import cache
from gwwire.tiering import RecallState, ReplicaState, Tiering
from tests.support.archives import CountingTier, OpenBuffer, archive, until
from tests.support.recalls import online

pytestmark = pytest.mark.anyio

#: Packs of three segments have some 5600 bytes: two of them fit, and one with a single segment.
CAPACITY = 16_500


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_POLL_SECONDS", 0.02)
    monkeypatch.setattr(cache, "_TURN_SECONDS", 0.05)
    monkeypatch.setattr("databuffer.tiers.moves.staged_reading._POLL_SECONDS", 0.01)


async def on_tape(buffer: Buffer, count: int = 3) -> str:
    batch, _ = await archive(buffer, Tiering(("tape",), 0), count)
    await until(buffer, batch, {"tape": ReplicaState.VERIFIED})
    return batch


async def test_recalls_that_fit_are_made_while_others_wait_until_somebody_releases_space(
    opening: OpenBuffer, tmp_path: Path, tape: TapeTier
) -> None:
    buffer = await opening(CountingTier(tmp_path / "object", capacity=CAPACITY), tape)
    first, second, third, fourth = [await on_tape(buffer) for _ in range(4)]
    small = await on_tape(buffer, 1)
    for batch in (first, second):
        await buffer.recalls.ask(batch, "b")
        await online(buffer, batch)
    for batch, asker in ((third, "a"), (fourth, "get-" + 32 * "0"), (small, "a")):
        await buffer.recalls.ask(batch, asker)
    await online(buffer, small)
    kept = f"can begin; kept are {first} (b), {second} (b), {small} (a)"
    for batch in (third, fourth):  # each says what it saw when it had its turn last
        async with asyncio.timeout(60):
            while not ((waiting := await buffer.recalls.states.get(batch, "a")).reason or "").endswith(kept):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert waiting.state in {RecallState.RUNNING, RecallState.QUEUED}
    assert buffer.recalls.full_since is not None
    await buffer.recalls.release(first, "b")
    await buffer.recalls.release(second, "b")
    for batch in (third, fourth):
        await online(buffer, batch)
    assert buffer.recalls.full_since is None


async def test_batches_of_one_asker_that_do_not_fit_together_are_refused_at_once(
    opening: OpenBuffer, tmp_path: Path, tape: TapeTier
) -> None:
    buffer = await opening(CountingTier(tmp_path / "object", capacity=CAPACITY), tape)
    first, second, third = [await on_tape(buffer) for _ in range(3)]
    await buffer.recalls.ask(first, "a")
    await buffer.recalls.ask(second, "a")
    kept = r"a recall of [\d,]+ bytes besides [\d,]+ that are kept for the same asker, who can release them"
    limit = r"packs in tier object may have 16,500 \(OBJECT_HIGH_WATER\); ask for fewer batches at once$"
    with pytest.raises(RecallTooLarge, match=rf"{kept}: {limit}"):
        await buffer.recalls.ask(third, "a")
    assert (await buffer.recalls.states.get(third, "a")).state is RecallState.NEARLINE
    assert (await buffer.recalls.states.get(third, "a")).pinned is None
    assert (await buffer.recalls.ask(third, "b")).state in {RecallState.QUEUED, RecallState.RUNNING}
