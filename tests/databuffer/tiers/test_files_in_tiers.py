"""The files of a transaction reach the tiers of the policy as one pack, leave the disk, and are read from anywhere."""

import hashlib
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from databuffer.__main__ import main
from databuffer.app import create_app, create_store
from databuffer.buffer import Buffer
from databuffer.errors import NotFound, OnTape, TierFailed
from databuffer.holdings import holdings
from databuffer.settings import BufferSettings
from databuffer.storage.catalog.batches import FILES_RECORD
from databuffer.storage.clock import steady_ns
from databuffer.tiers.backends.tape_library.library import TapeTier
from databuffer.tiers.backends.tape_library.robot import TapeManners
from databuffer.tiers.packs.pack import files_key
from databuffer.tiers.recalls import reading
from databuffer.tiers.upkeep import discards, file_seals
from databuffer.tiers.upkeep.rebuild import rebuild
from gwwire.decoding import InvalidRequest
from gwwire.holdings import NewFile, Transaction, TransactionOrder
from gwwire.manifest import MANIFEST, decode_manifest
from gwwire.records import StepState
from gwwire.tiering import DISK, BatchLocality, ReplicaState, Tiering
from tests.support.archives import CountingTier, OpenBuffer, archive, until
from tests.support.file_packs import ANYBODY, pack_states, put_files, read_file, read_from_tier, send_file, until_packed

pytestmark = pytest.mark.anyio

VERIFIED, LOST, EVICTED = ReplicaState.VERIFIED, ReplicaState.LOST, ReplicaState.EVICTED
KEPT, DROPPED = Tiering(("object",)), Tiering(("object",), 0)
FILES = {"/data/a.h5": b"a" * 3000, "/data/notes.md": b"notes", "/data/empty": b""}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("databuffer.tiers.moves.staged_reading._POLL_SECONDS", 0.01)


@pytest.fixture
def objects(settings: BufferSettings) -> Callable[[], list[bytes]]:
    """Return a function that returns the contents on the disk."""
    root = settings.DTVOLROOT / ".holdings" / "objects"
    return lambda: sorted(path.read_bytes() for path in root.glob("*/*"))


def client_of(buffer: Buffer) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(create_app(buffer, max_body=1000))
    return httpx2.AsyncClient(transport=transport, base_url="http://buffer")


async def localities(buffer: Buffer, of: Transaction) -> set[BatchLocality | None]:
    page = await buffer.holdings.files(ANYBODY, of.holding, 100)
    return {each.locality for each in page.files}


async def test_files_are_copied_dropped_and_read_from_the_tier_with_the_same_bytes(
    opening: OpenBuffer, tier: CountingTier, objects: Callable[[], list[bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    buffer = await opening(tier, holding_tiering=DROPPED)
    made = await put_files(buffer, FILES, label="spectra")
    assert await localities(buffer, made) == {BatchLocality.DISK}
    await until_packed(buffer, made, {"object": VERIFIED})
    assert objects() == []
    assert {path: await read_file(buffer, made, path) for path in FILES} == FILES
    assert await localities(buffer, made) == {BatchLocality.DISK}
    file = tier.root / files_key(made.id)
    with tarfile.open(file) as tar:
        assert tar.getnames() == ["MANIFEST.json", "files/data/a.h5", "files/data/empty", "files/data/notes.md"]
    assert main(["pack", "verify", str(file)]) == 0
    assert f"transaction {made.id}, 3 files" in capsys.readouterr().out
    [_, overview] = (await buffer.tier_overview.overview()).tiers
    assert (overview.replicas, overview.bytes) == (1, file.stat().st_size)
    while {await step(buffer, made, name) for name in ("copy:object", "drop:disk")} != {StepState.DONE}:
        pass  # it is stored after the replicas
    record = await buffer.records.get(FILES_RECORD + made.id)
    assert {each.name for each in record.steps} == {"copy:object", "drop:disk"}
    assert record.conditions == {"holding": made.holding}, "everybody may read records"


async def test_the_disk_keeps_files_as_long_as_the_policy_says_and_restores_what_it_lost(
    opening: OpenBuffer, tier: CountingTier, objects: Callable[[], list[bytes]], settings: BufferSettings
) -> None:
    buffer = await opening(tier, holding_tiering=KEPT)
    files = FILES | {f"/data/same{number}.h5": FILES["/data/a.h5"] for number in range(8)}
    made = await put_files(buffer, files)
    await until_packed(buffer, made, {DISK: VERIFIED, "object": VERIFIED})
    for path in (settings.DTVOLROOT / ".holdings" / "objects").glob("*/*"):
        path.unlink()
    assert {path: await read_file(buffer, made, path) for path in files} == files, "from the tier meanwhile"
    await buffer.records.request(FILES_RECORD + made.id, "copy:disk")
    while (await step(buffer, made, "copy:disk")) is not StepState.DONE:
        pass
    assert objects() == sorted(FILES.values()), "each content once"


async def step(buffer: Buffer, of: Transaction, name: str) -> StepState | None:
    found = (await buffer.records.steps_named(name)).get(FILES_RECORD + of.id)
    return found.state if found else None


async def test_without_a_policy_files_stay_and_a_later_one_is_for_all(
    opening: OpenBuffer, tier: CountingTier, objects: Callable[[], list[bytes]]
) -> None:
    buffer = await opening(tier)
    made = await put_files(buffer, FILES)
    await buffer._sweep.sweep()  # noqa: SLF001 (now)
    assert await pack_states(buffer, made) == {}
    await buffer.close()
    buffer = await opening(tier, holding_tiering=KEPT)
    await until_packed(buffer, made, {DISK: VERIFIED, "object": VERIFIED})
    await buffer.close()
    buffer = await opening(tier, holding_tiering=DROPPED)
    await until_packed(buffer, made, {"object": VERIFIED})
    assert objects() == []


async def test_a_content_that_another_file_needs_stays_on_the_disk(
    opening: OpenBuffer, tier: CountingTier, objects: Callable[[], list[bytes]]
) -> None:
    buffer = await opening(tier, holding_tiering=DROPPED)
    waiting = await buffer.holdings.put(ANYBODY, TransactionOrder([NewFile("/w", size=1), NewFile("/x", size=5)]))
    await send_file(buffer, waiting.transaction, "/x", b"notes")
    made = await put_files(buffer, FILES)
    await until_packed(buffer, made, {"object": VERIFIED})
    assert objects() == [b"notes"], "a transaction that has not ended has it"
    await buffer.holdings.uploads.give_up(ANYBODY, waiting.transaction.id, "/w", "gone")
    await until_packed(buffer, waiting.transaction, {"object": VERIFIED})
    assert objects() == []
    assert await read_file(buffer, made, "/data/notes.md") == b"notes"


async def test_files_on_tape_only_are_recalled_by_the_first_reader(
    opening: OpenBuffer, tier: CountingTier, tmp_path: Path
) -> None:
    (tmp_path / "tape").mkdir()
    tape = TapeTier("tape", tmp_path / "tape", TapeManners(mount=0.0, seek=0.0))
    buffer = await opening(tier, tape, holding_tiering=Tiering(("tape",), 0))
    made = await put_files(buffer, FILES)
    await until_packed(buffer, made, {"tape": VERIFIED})
    assert await localities(buffer, made) == {BatchLocality.TAPE}
    async with client_of(buffer) as client:
        head = await client.head(f"/holdings/{made.holding}/files/data/a.h5")
    assert (head.status_code, head.headers["Content-Length"], head.headers["Accept-Ranges"]) == (200, "3000", "bytes")
    assert not await buffer.records.steps_named("recall"), "HEAD recalls nothing"
    with pytest.raises(OnTape, match=f"files/{made.id} is on tape"):
        await read_file(buffer, made, "/data/a.h5")
    await until_packed(buffer, made, {"object": VERIFIED, "tape": VERIFIED})
    assert {path: await read_file(buffer, made, path) for path in FILES} == FILES
    assert await localities(buffer, made) == {BatchLocality.DISK_AND_TAPE}
    assert tier.written == [files_key(made.id)]


async def test_head_of_what_only_a_tier_has_is_answered_while_the_tier_is_away(
    opening: OpenBuffer, tier: CountingTier
) -> None:
    buffer = await opening(tier, holding_tiering=DROPPED)
    made = await put_files(buffer, FILES)
    await until_packed(buffer, made, {"object": VERIFIED})
    batch, folder = await archive(buffer, DROPPED)
    name = decode_manifest((folder / MANIFEST).read_bytes()).segments[0].name
    await until(buffer, batch, {"object": VERIFIED})
    tier.down = True
    async with client_of(buffer) as client:
        for path in (f"/segments/{name}", f"/holdings/{made.holding}/files/data/a.h5"):
            head, got = await client.head(path), await client.get(path)
            assert (head.status_code, got.json()["code"]) == (200, "tier-failed")
            tier.down = False
            got = await client.get(path)
            tier.down = True
            compared = "etag", "content-length", "content-type", "accept-ranges"
            assert {each: head.headers[each] for each in compared} == {each: got.headers[each] for each in compared}


async def test_an_altered_manifest_makes_no_replica_of_files_lost_and_is_restored(
    opening: OpenBuffer, settings: BufferSettings, tier: CountingTier
) -> None:
    buffer = await opening(tier, holding_tiering=DROPPED)
    made = await put_files(buffer, FILES)
    await until_packed(buffer, made, {"object": VERIFIED})
    manifest = settings.DTVOLROOT / ".holdings" / "packs" / made.id / MANIFEST
    before = manifest.read_text()
    digest = hashlib.sha256(FILES["/data/a.h5"]).hexdigest()
    manifest.write_text(before.replace(digest, ("1" if digest[0] == "0" else "0") + digest[1:]))
    assert await read_from_tier(buffer, made, "/data/a.h5", 0, 3000) == FILES["/data/a.h5"]
    assert manifest.read_text() == before
    assert await pack_states(buffer, made) == {"object": VERIFIED}


async def test_with_the_disk_as_the_cache_of_the_tape_files_come_back_to_it(
    opening: OpenBuffer, tmp_path: Path, objects: Callable[[], list[bytes]]
) -> None:
    (tmp_path / "tape").mkdir()
    tape = TapeTier("tape", tmp_path / "tape", TapeManners(mount=0.0, seek=0.0))
    buffer = await opening(tape, holding_tiering=Tiering(("tape",), 0))
    made = await put_files(buffer, FILES)
    await until_packed(buffer, made, {"tape": VERIFIED})
    with pytest.raises(OnTape):
        await read_file(buffer, made, "/data/a.h5")
    await until_packed(buffer, made, {DISK: VERIFIED, "tape": VERIFIED})
    assert objects() == sorted(FILES.values())
    await buffer.recalls.release(FILES_RECORD + made.id, "readers")
    await until_packed(buffer, made, {"tape": VERIFIED})
    assert objects() == []


@pytest.mark.parametrize("limit", [10**6, 100], ids=["in memory", "streamed"])
async def test_a_file_that_differs_in_the_tier_is_not_sent_and_a_range_is(
    opening: OpenBuffer, tier: CountingTier, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr(reading, "_LARGEST_IN_MEMORY", limit)
    buffer = await opening(tier, holding_tiering=DROPPED)
    made = await put_files(buffer, FILES)
    await until_packed(buffer, made, {"object": VERIFIED})
    assert await read_from_tier(buffer, made, "/data/a.h5", 10, 20) == b"a" * 10
    assert await read_file(buffer, made, "/data/a.h5") == FILES["/data/a.h5"]
    file = tier.root / files_key(made.id)
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"aaaa", b"aaab", 1))
    with pytest.raises(TierFailed, match=r"/data/a\.h5 .*differs in sha256"):
        await read_file(buffer, made, "/data/a.h5")
    assert await pack_states(buffer, made) == {"object": LOST}


async def test_a_pack_goes_when_all_its_files_were_deleted_and_until_then_nothing_of_it(
    opening: OpenBuffer, tier: CountingTier, monkeypatch: pytest.MonkeyPatch, objects: Callable[[], list[bytes]]
) -> None:
    buffer = await opening(tier, holding_tiering=KEPT)
    made = await put_files(buffer, FILES)
    await until_packed(buffer, made, {DISK: VERIFIED, "object": VERIFIED})
    deletion = await buffer.holdings.delete(ANYBODY, made.holding, "/data/notes.md")

    async def purge() -> None:
        """Purge and sweep as if HOLDING_GRACE were over for everything."""
        with monkeypatch.context() as patch:
            for module in (holdings, discards, file_seals):
                patch.setattr(module, "steady_ns", lambda: steady_ns() + 8 * 86_400 * 10**9)
            await buffer.holdings.purge()
            await buffer._sweep.sweep()  # noqa: SLF001 (now)
            if wanted := await step(buffer, made, "discard"):
                while wanted is not StepState.DONE:
                    wanted = await step(buffer, made, "discard")
                await buffer.holdings.purge()
                await buffer._sweep.sweep()  # noqa: SLF001 (again, after the purge)
            else:
                with pytest.raises(NotFound, match="HOLDING_GRACE"):
                    await buffer.holdings.undo(ANYBODY, deletion.id)

    await purge()
    assert len(objects()) == 3
    assert await pack_states(buffer, made) == {DISK: VERIFIED, "object": VERIFIED}
    await buffer.holdings.delete(ANYBODY, made.holding)
    await purge()
    assert await pack_states(buffer, made) == {}
    assert not list((tier.root / "files").iterdir())
    assert objects() == []
    with pytest.raises(NotFound):
        await buffer.holdings.holding(ANYBODY, made.holding)


async def test_a_lost_ledger_finds_the_packs_again_by_their_manifests(opening: OpenBuffer, tier: CountingTier) -> None:
    buffer = await opening(tier, holding_tiering=DROPPED)
    made = await put_files(buffer, FILES)
    await until_packed(buffer, made, {"object": VERIFIED})
    with buffer._store.catalog.database.writing() as connection:  # noqa: SLF001 (a backup from before the pack)
        for table in ("file_packs", "replicas", "tierings"):
            connection.exec_driver_sql(f"DELETE FROM {table}")  # noqa: S608 (names of tables)
    await buffer.close()
    buffer = await opening(tier, holding_tiering=DROPPED)
    await until_packed(buffer, made, {"object": VERIFIED})
    assert {path: await read_file(buffer, made, path) for path in FILES} == FILES
    assert tier.written == [files_key(made.id)], "it was not written again"


async def test_after_the_loss_of_the_volume_a_rebuild_makes_the_files_readable(
    opening: OpenBuffer, tier: CountingTier, settings: BufferSettings
) -> None:
    buffer = await opening(tier, holding_tiering=KEPT)
    made, one = await put_files(buffer, FILES), await put_files(buffer, {"/one": b"1"})
    for each in (made, one):
        await until_packed(buffer, each, {DISK: VERIFIED, "object": VERIFIED})
    await buffer.close()
    shutil.rmtree(settings.DTVOLROOT)
    settings.DTVOLROOT.mkdir()
    store = create_store(settings)
    findings = list(rebuild(store, [tier]))
    missing = "in object, and the manifest is not on the volume"
    assert {finding.what for finding in findings} == {
        f"transaction {made.id}, 3 files: {missing}",
        f"transaction {one.id}, 1 file: {missing}",
    }
    for finding in findings:
        assert finding.repair
        finding.repair()
    store.close()
    buffer = await opening(tier, holding_tiering=KEPT)
    await until_packed(buffer, made, {"object": VERIFIED})
    assert {path: await read_file(buffer, made, path) for path in FILES} == FILES


async def test_a_transaction_whose_files_are_a_pack_takes_no_more(opening: OpenBuffer, tier: CountingTier) -> None:
    buffer = await opening(tier, holding_tiering=KEPT)
    made = await put_files(buffer, FILES)
    await until_packed(buffer, made, {DISK: VERIFIED, "object": VERIFIED})
    more = [NewFile(path) for path in (*FILES, "/more")]
    with pytest.raises(InvalidRequest, match="has ended"):
        await buffer.holdings.put(ANYBODY, TransactionOrder(more, id=made.id))
