"""Reads while a tier does not answer: it delays nobody who can be served by another one."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from databuffer.buffer import Buffer
from databuffer.errors import TierFailed
from databuffer.tiers.backends.folder import FolderTier
from databuffer.tiers.recalls import reading
from gwwire.tiering import ReplicaState, Tiering
from tests.support.archives import CountingTier, archive, until
from tests.support.recalls import names_of

pytestmark = pytest.mark.anyio
VERIFIED = ReplicaState.VERIFIED
OpenBuffer = Callable[..., Awaitable[Buffer]]


class HangingTier(CountingTier):
    """A tier that answers nothing while it hangs."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.answers = threading.Event()
        self.answers.set()
        self.reads = 0

    def _check(self) -> None:
        self.answers.wait()

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        self.reads += 1
        return super().read(key, start, stop)


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[HangingTier]:
    tier = HangingTier(tmp_path / "hanging")
    yield tier
    tier.answers.set()


@pytest.fixture
def second(tmp_path: Path) -> FolderTier:
    (tmp_path / "second").mkdir()
    return FolderTier("second", tmp_path / "second")


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_PATIENCE_SECONDS", 1.0)
    monkeypatch.setattr(reading, "_SHORT_PATIENCE_SECONDS", 0.5)


async def test_another_replica_is_read_and_the_next_time_it_is_the_first(
    opening: OpenBuffer, hanging: HangingTier, second: FolderTier
) -> None:
    buffer = await opening(hanging, second)
    batch, folder = await archive(buffer, Tiering(("object", "second"), 0))
    names = names_of(folder)
    await until(buffer, batch, {"object": VERIFIED, "second": VERIFIED})
    hanging.answers.clear()
    (await buffer.queries.segment_file(names[0])).close()
    probe = buffer.tier_reader._mover.access.probes["object"]  # noqa: SLF001 (what the next read goes by)
    while not probe.error:  # noqa: ASYNC110 (it tells nobody)
        await asyncio.sleep(0.05)
    before = hanging.reads
    (await buffer.queries.segment_file(names[1])).close()
    assert hanging.reads == before


async def test_the_only_tier_that_has_a_batch_is_named_and_readers_of_others_are_not_delayed(
    opening: OpenBuffer, hanging: HangingTier, second: FolderTier
) -> None:
    buffer = await opening(hanging, second)
    first, first_folder = await archive(buffer, Tiering(("object",), 0))
    other, other_folder = await archive(buffer, Tiering(("second",), 0))
    [name, *_], [other_name, *_] = names_of(first_folder), names_of(other_folder)
    await until(buffer, first, {"object": VERIFIED})
    await until(buffer, other, {"second": VERIFIED})
    hanging.answers.clear()
    stuck = [asyncio.create_task(buffer.queries.segment_file(name)) for _ in range(20)]
    await asyncio.sleep(0.1)
    (await buffer.queries.segment_file(other_name)).close()
    reading_it = [thread for thread in threading.enumerate() if thread.name == "tier-read-object"]
    assert len(reading_it) == 8
    assert all(thread.daemon for thread in reading_it), "they would delay the end of the process"
    for task in stuck:
        with pytest.raises(TierFailed, match="tier object has not answered for 1 s"):
            await task
