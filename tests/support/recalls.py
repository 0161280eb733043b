"""Segments of a buffer with a tape, read as clients do."""

import asyncio
import hashlib
from contextlib import suppress
from pathlib import Path

from databuffer.buffer import Buffer
from databuffer.errors import OnTape
from gwwire.tiering import DISK, RecallState, ReplicaState, Tiering
from tests.support.archives import CountingTier, archive, performed, until

_VERIFIED, _EVICTED = ReplicaState.VERIFIED, ReplicaState.EVICTED


def names_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("gwb*.json"))


async def read(buffer: Buffer, name: str) -> str:
    """Return the SHA-256 of a segment that is read."""
    with await buffer.queries.segment_file(name) as file:
        return hashlib.sha256(file.read()).hexdigest()


async def read_in_the_end(buffer: Buffer, name: str) -> str:
    """Read a segment as a client does that waits for its recall."""
    async with asyncio.timeout(60):
        while True:
            with suppress(OnTape):
                return await read(buffer, name)
            await asyncio.sleep(0.02)


async def online(buffer: Buffer, batch: str) -> None:
    async with asyncio.timeout(60):
        while (await buffer.recalls.states.get(batch, "a")).state is not RecallState.ONLINE:  # noqa: ASYNC110 (what a client does)
            await asyncio.sleep(0.02)


async def there_and_back(buffer: Buffer, tier: CountingTier) -> None:
    """Archive a batch to the object store and the tape, drop all but the tape, and read it after its recall."""
    batch, folder = await archive(buffer, Tiering(("object", "tape")))
    await until(buffer, batch, {DISK: _VERIFIED, "object": _VERIFIED, "tape": _VERIFIED})
    digests = {name: await read(buffer, name) for name in names_of(folder)}
    pack = tier.file(batch).read_bytes()
    await buffer.tiers.set_tiering(batch, Tiering(("object", "tape"), 0))
    await until(buffer, batch, {"object": _VERIFIED, "tape": _VERIFIED})
    assert {name: await read(buffer, name) for name in digests} == digests, "from the object store"
    assert (await performed(buffer, batch, "drop:object"))["stays"] is None
    assert not tier.file(batch).exists()
    await until(buffer, batch, {"object": _EVICTED, "tape": _VERIFIED})
    assert {name: await read_in_the_end(buffer, name) for name in digests} == digests, "after a recall"
    await online(buffer, batch)
    assert tier.file(batch).read_bytes() == pack
