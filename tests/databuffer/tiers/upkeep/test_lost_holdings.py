"""Holdings are found again by the manifests of their packs when the catalog is lost, or the volume too."""

import shutil
from collections.abc import Callable

import pytest
from msgspec import structs

from databuffer.__main__ import main
from databuffer.app import create_store
from databuffer.buffer import Buffer
from databuffer.holdings.contents import Contents
from databuffer.holdings.holdings import Page
from databuffer.holdings.rows import Caller
from databuffer.holdings.table import HoldingFilter, TransactionFilter
from databuffer.settings import BufferSettings
from databuffer.tiers.upkeep.rebuild import rebuild
from gwwire.holdings import (
    FileState,
    Holding,
    HoldingFile,
    HoldingPatch,
    NewFile,
    PathType,
    Transaction,
    TransactionOrder,
    TransactionState,
)
from gwwire.manifest import MANIFEST
from gwwire.tiering import DISK, ReplicaState, Tiering
from tests.support.archives import CountingTier, OpenBuffer
from tests.support.file_packs import ANYBODY, put_files, read_file, send_file, until_packed

pytestmark = pytest.mark.anyio

VERIFIED = ReplicaState.VERIFIED
KEPT, DROPPED = Tiering(("object",)), Tiering(("object",), 0)
ALICE, BOB = Caller("alice", "detchar"), Caller("bob", "burst")
FILES = {"/data/a.h5": b"a" * 3000, "/data/notes.md": b"notes"}


@pytest.fixture
def lose_catalog(settings: BufferSettings) -> Callable[[], None]:
    """Return a function that deletes the catalog and the backups of its ledger."""

    def lose() -> None:
        for path in settings.ADMROOT.glob("catalog*"):
            path.unlink()
        shutil.rmtree(settings.DTVOLROOT / ".ledger", ignore_errors=True)

    return lose


async def packed(buffer: Buffer, where: dict[str, ReplicaState]) -> Transaction:
    """Put files into a holding, and close the buffer when their pack is where it should be."""
    made = await put_files(buffer, FILES, label="spectra")
    await until_packed(buffer, made, where)
    await buffer.close()
    return made


@pytest.fixture
def lose_everything(settings: BufferSettings, lose_catalog: Callable[[], None]) -> Callable[..., None]:
    """Return a function that deletes volume and catalog, and restores the manifests from a tier."""

    def lose(tier: CountingTier) -> None:
        lose_catalog()
        shutil.rmtree(settings.DTVOLROOT)
        settings.DTVOLROOT.mkdir()
        for path in settings.ADMROOT.iterdir():
            path.unlink()
        restore_manifests(settings, tier)

    return lose


def restore_manifests(settings: BufferSettings, tier: CountingTier) -> None:
    """Restore from a tier what the volume lacks."""
    store = create_store(settings)
    for finding in rebuild(store, [tier]):
        assert finding.repair
        finding.repair()
    store.close()


async def all_holdings(buffer: Buffer) -> list[Holding]:
    return (await buffer.holdings.holdings(ANYBODY, HoldingFilter(), Page(100))).holdings


async def all_files(buffer: Buffer, holding: int) -> list[HoldingFile]:
    """Return the files of a holding, with their times in whole ms: manifests have floats."""
    page = await buffer.holdings.files(ANYBODY, holding, 10)
    return [structs.replace(each, stored=round(each.stored or 0, 3)) for each in page.files]


async def sweep(buffer: Buffer) -> None:
    buffer._sweep._reconciled = None  # noqa: SLF001 (as after a start)
    await buffer._sweep.sweep()  # noqa: SLF001 (now)


@pytest.mark.parametrize("policy", [DROPPED, None], ids=["dropped", "without a policy"])
async def test_after_the_loss_of_volume_and_catalog_holdings_are_as_they_were(
    opening: OpenBuffer, tier: CountingTier, lose_everything: Callable[..., None], policy: Tiering | None
) -> None:
    buffer = await opening(tier, holding_tiering=DROPPED)
    await put_files(buffer, {"/other": b"other"}, label="other", caller=BOB)
    new = [
        NewFile("/data/a.h5", size=5, mode=0o640, mtime=1.5),
        NewFile("/data", PathType.DIRECTORY, mode=0o755),
        NewFile("/data/last", PathType.LINK, link="a.h5"),
    ]
    order = TransactionOrder(new, label="spectra", tags={"site": "LLO"}, job_label="nightly")
    made = (await buffer.holdings.put(ALICE, order)).transaction
    await send_file(buffer, made, "/data/a.h5", b"bytes")
    await until_packed(buffer, made, {"object": VERIFIED})
    [_, before] = await all_holdings(buffer)
    files = await all_files(buffer, made.holding)
    await buffer.close()
    lose_everything(tier)

    buffer = await opening(tier, holding_tiering=policy)
    await until_packed(buffer, made, {"object": VERIFIED})
    assert [each.label for each in await all_holdings(buffer)] == ["other", "spectra"]
    [found] = (await buffer.holdings.holdings(ALICE, HoldingFilter(), Page(10))).holdings
    assert (found.id, found.label, found.user, found.group, found.tags) == (
        2,
        "spectra",
        "alice",
        "detchar",
        order.tags,
    )
    assert (found.files, found.bytes) == (before.files, before.bytes) == (3, 5)
    assert found.created == pytest.approx(before.created, abs=1e-6)
    assert await all_files(buffer, found.id) == files
    assert await read_file(buffer, made, "/data/a.h5") == b"bytes"
    again = await buffer.holdings.transaction(ALICE, made.id)
    assert (again.job_label, again.files, again.complete, again.bytes) == ("nightly", 3, 3, 5)
    assert again.state is TransactionState.COMPLETE_WITH_WARNINGS
    assert "restored from the manifest" in again.warnings[0]
    await sweep(buffer)
    assert len(await all_holdings(buffer)) == 2, "once"


async def test_if_only_the_catalog_is_lost_the_bytes_on_the_disk_are_used(
    opening: OpenBuffer, tier: CountingTier, lose_catalog: Callable[[], None]
) -> None:
    made = await packed(await opening(tier, holding_tiering=KEPT), {DISK: VERIFIED, "object": VERIFIED})
    lose_catalog()
    buffer = await opening(tier, holding_tiering=KEPT)
    await until_packed(buffer, made, {DISK: ReplicaState.WRITTEN, "object": VERIFIED})
    shutil.rmtree(tier.root)
    assert {path: await read_file(buffer, made, path) for path in FILES} == FILES


async def test_if_only_the_catalog_is_lost_the_bytes_on_the_disk_are_compared_by_themselves(
    opening: OpenBuffer, tier: CountingTier, lose_catalog: Callable[[], None]
) -> None:
    made = await packed(await opening(tier, holding_tiering=KEPT), {DISK: VERIFIED, "object": VERIFIED})
    lose_catalog()
    buffer = await opening(tier, holding_tiering=KEPT, scrub_every=3600)
    await until_packed(buffer, made, {DISK: VERIFIED, "object": VERIFIED})


async def test_the_label_is_the_last_one_and_of_two_files_at_a_path_the_last_one_stays(
    opening: OpenBuffer, tier: CountingTier, lose_everything: Callable[..., None]
) -> None:
    buffer = await opening(tier, holding_tiering=DROPPED)
    first = await put_files(buffer, FILES, label="old name")
    await until_packed(buffer, first, {"object": VERIFIED})
    await buffer.holdings.patch(ANYBODY, first.holding, HoldingPatch("new name", {"site": "LLO"}))
    await buffer.holdings.delete(ANYBODY, first.holding, "/data/notes.md")
    second = await put_files(buffer, {"/data/notes.md": b"new notes"}, label="new name")
    await until_packed(buffer, second, {"object": VERIFIED})
    await buffer.close()
    lose_everything(tier)

    buffer = await opening(tier, holding_tiering=DROPPED)
    for each in (first, second):
        await until_packed(buffer, each, {"object": VERIFIED})
    [found] = await all_holdings(buffer)
    assert (found.id, found.label, found.tags) == (first.holding, "new name", {"site": "LLO"})
    assert (found.files, found.bytes) == (2, 3000 + 9)
    assert await read_file(buffer, second, "/data/notes.md") == b"new notes"
    [a, notes] = (await buffer.holdings.files_of(ANYBODY, first.id, 10)).files
    assert (a.state, notes.state, notes.sha256 is not None) == (FileState.COMPLETE, FileState.DELETED, True)
    await buffer.holdings.delete(ANYBODY, found.id, "/data/notes.md")
    listed = await buffer.holdings.transactions(ANYBODY, TransactionFilter(holding=found.id), Page(10))
    earlier = next(each for each in listed.transactions if each.kind == "delete")
    assert (await buffer.holdings.undo(ANYBODY, earlier.id)).state is TransactionState.UNDONE
    assert await read_file(buffer, first, "/data/notes.md") == b"notes"


async def test_a_holding_that_was_made_since_is_left_alone(
    opening: OpenBuffer, tier: CountingTier, lose_everything: Callable[..., None], settings: BufferSettings
) -> None:
    buffer = await opening(tier, holding_tiering=DROPPED)
    old = await put_files(buffer, FILES, label="spectra", caller=ALICE)
    await until_packed(buffer, old, {"object": VERIFIED})
    await buffer.close()
    lose_everything(tier)
    packs = Contents(settings.DTVOLROOT / ".holdings").packs
    packs.rename(settings.DTVOLROOT / "kept")  # it is rebuilt later

    buffer = await opening(tier, holding_tiering=DROPPED)
    new = await put_files(buffer, {"/data/notes.md": b"new"}, label="spectra", caller=ALICE)
    await until_packed(buffer, new, {"object": VERIFIED})
    (settings.DTVOLROOT / "kept" / old.id).rename(packs / old.id)
    await sweep(buffer)
    await until_packed(buffer, old, {"object": VERIFIED})
    found = {each.label: each for each in await all_holdings(buffer)}
    assert {label: each.files for label, each in found.items()} == {"spectra": 1, old.id: 2}
    assert found["spectra"].id == old.holding == new.holding, "the id was given again"
    assert await read_file(buffer, new, "/data/notes.md") == b"new"
    [moved] = {each.holding for each in (await buffer.holdings.files_of(ALICE, old.id, 10)).files}
    assert moved == found[old.id].id


async def test_a_manifest_that_cannot_be_used_is_reported_and_the_others_are(
    opening: OpenBuffer,
    tier: CountingTier,
    lose_catalog: Callable[[], None],
    settings: BufferSettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = await packed(await opening(tier, holding_tiering=DROPPED), {"object": VERIFIED})
    lose_catalog()
    packs = Contents(settings.DTVOLROOT / ".holdings").packs
    manifest = (packs / made.id / MANIFEST).read_bytes()
    wrong = {
        "malformed": b"{",
        "another": manifest,
        "huge": manifest.replace(made.id.encode(), b"huge").replace(b'"holding": 1', b'"holding": 9223372036854775808'),
        "late": manifest.replace(made.id.encode(), b"late").replace(b'"begun": ', b'"begun": 9'),
        "torn": manifest.replace(made.id.encode(), b"torn").replace(b'"sha256": "', b'"sha256": "x'),
    }
    for name, content in wrong.items():
        (packs / name).mkdir()
        (packs / name / MANIFEST).write_bytes(content)
    buffer = await opening(tier, holding_tiering=DROPPED)
    await until_packed(buffer, made, {"object": VERIFIED})
    await sweep(buffer)
    assert [each.label for each in await all_holdings(buffer)] == ["spectra"]
    told = [record for record in caplog.records if getattr(record, "event", "") == "holding-unknown"]
    assert {getattr(record, "transaction", "") for record in told} == wrong.keys()


async def test_fsck_leaves_contents_that_the_next_start_finds_again(
    opening: OpenBuffer,
    tier: CountingTier,
    lose_catalog: Callable[[], None],
    settings: BufferSettings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await packed(await opening(tier, holding_tiering=KEPT), {DISK: VERIFIED, "object": VERIFIED})
    lose_catalog()
    for name in ("DTVOLROOT", "DATAROOT", "ADMROOT", "LOGROOT"):
        monkeypatch.setenv(name, str(getattr(settings, name)))
    main(["fsck", "--repair"])
    assert len(list((settings.DTVOLROOT / ".holdings" / "objects").glob("*/*"))) == len(FILES)


@pytest.mark.parametrize("policy", [DROPPED, KEPT], ids=["dropped", "kept"])
@pytest.mark.parametrize("content", [b'{"transaction": "', b"", None], ids=["half", "empty", "missing"])
async def test_a_manifest_that_cannot_be_read_is_named_and_restored_from_its_pack(  # noqa: PLR0913, PLR0917 (two are parameters)
    opening: OpenBuffer,
    tier: CountingTier,
    lose_catalog: Callable[[], None],
    settings: BufferSettings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    policy: Tiering,
    content: bytes | None,
) -> None:
    where = {"object": VERIFIED} if policy is DROPPED else {DISK: VERIFIED, "object": VERIFIED}
    made = await packed(await opening(tier, holding_tiering=policy), where)
    lose_catalog()
    packs = Contents(settings.DTVOLROOT / ".holdings").packs
    manifest = packs / made.id / MANIFEST
    before = manifest.read_bytes()
    if content is None:
        manifest.unlink()
    else:
        manifest.write_bytes(content)
    buffer = await opening(tier, holding_tiering=policy)
    assert await all_holdings(buffer) == []
    await sweep(buffer)
    is_named = content is not None or policy is DROPPED  # else nothing says that there was a pack
    assert (await buffer.queries.overview()).left_out == is_named
    await buffer.close()
    assert ("`python -m databuffer tiers rebuild`" in caplog.text) == is_named
    for name in ("DTVOLROOT", "DATAROOT", "ADMROOT", "LOGROOT"):
        monkeypatch.setenv(name, str(getattr(settings, name)))
    if is_named:
        assert main(["fsck", "--repair"]) == 1
        assert f".holdings/packs/{made.id}: its manifest cannot be read: " in capsys.readouterr().out
    restore_manifests(settings, tier)
    assert manifest.read_bytes() == before
    buffer = await opening(tier, holding_tiering=policy)
    await sweep(buffer)
    assert [each.label for each in await all_holdings(buffer)] == ["spectra"]
    assert {path: await read_file(buffer, made, path) for path in FILES} == FILES
    await buffer.close()
    assert main(["fsck"]) == 0


@pytest.mark.parametrize("content", [b'{"transaction": "', b"", None], ids=["half", "empty", "missing"])
async def test_a_reader_gets_the_files_of_a_dropped_pack_and_its_manifest_is_restored(
    opening: OpenBuffer, tier: CountingTier, settings: BufferSettings, content: bytes | None
) -> None:
    made = await packed(await opening(tier, holding_tiering=DROPPED), {"object": VERIFIED})
    buffer = await opening(tier, holding_tiering=DROPPED)
    await until_packed(buffer, made, {"object": VERIFIED})
    manifest = Contents(settings.DTVOLROOT / ".holdings").packs / made.id / MANIFEST
    before = manifest.read_bytes()
    if content is None:
        manifest.unlink()
    else:
        manifest.write_bytes(content)
    assert {path: await read_file(buffer, made, path) for path in FILES} == FILES
    assert manifest.read_bytes() == before
