"""The `meta` of segments can still be searched if the disk has dropped them and the catalog is lost."""

import json
import shutil
from pathlib import Path

import pytest

from databuffer.buffer import Buffer
from databuffer.settings import BufferSettings
from databuffer.storage.dropped import META, read_meta
from gwwire.datastore import FlushOrder
from gwwire.tiering import DISK, ReplicaState
from tests.support.archives import AT_ONCE, CountingTier, OpenBuffer, until

pytestmark = pytest.mark.anyio

VERIFIED = ReplicaState.VERIFIED


async def archived(buffer: Buffer, *metas: dict[str, object]) -> tuple[str, Path]:
    """Archive a batch of segments with these `meta`, and drop it from the disk; return its id and folder."""
    for t0, meta in enumerate(metas):
        await buffer.ingest.append(json.dumps({"h": [0.5], "t": [t0, 1], "meta": meta}).encode())
    batch = (await buffer.queries.overview()).batch
    folder = (await buffer.batches.flush(FlushOrder(tiering=AT_ONCE))).folder
    await until(buffer, batch, {"object": VERIFIED})
    assert folder
    return batch, folder


def stored(buffer: Buffer, batch: str) -> dict[str, object]:
    """Return the conditions of a batch, by segment, without their order."""
    return {name: dict(found) for name, found in buffer._store.catalog.segments.conditions(batch).items()}  # noqa: SLF001 (as searches find them)


async def test_what_was_dropped_is_found_by_its_meta_after_the_loss_of_the_catalog(
    opening: OpenBuffer, tier: CountingTier, settings: BufferSettings
) -> None:
    buffer = await opening(tier)
    metas: tuple[dict[str, object], ...] = ({"snr": 8.25, "run": {"name": "O4a", "n": [1, True]}}, {}, {"run": "8"})
    batch, _ = await archived(buffer, *metas)
    before = stored(buffer, batch)
    assert len(before) == 2
    await buffer.close()
    for path in settings.ADMROOT.glob("catalog*"):
        path.unlink()
    shutil.rmtree(settings.DTVOLROOT / ".ledger", ignore_errors=True)
    buffer = await opening(tier)
    assert stored(buffer, batch) == before
    await until(buffer, batch, {"object": VERIFIED})
    await buffer.records.request(f"batch/{batch}", "copy:disk")
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})


async def test_a_batch_without_meta_has_no_file_of_it(opening: OpenBuffer, tier: CountingTier) -> None:
    buffer = await opening(tier)
    _, folder = await archived(buffer, {"channel": "L1:A"})
    assert not (folder / META).exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": {"b": null}}', b'{"a": 1}', b'{"a":' * 5000])
def test_a_file_that_is_malformed_is_ignored(tmp_path: Path, content: bytes) -> None:
    (tmp_path / META).write_bytes(content)
    assert read_meta(tmp_path) == {}
