"""Tiers contain enough to rebuild the archives of a lost volume, and the replicas of a lost ledger."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs

from databuffer.__main__ import main
from databuffer.app import create_store
from databuffer.buffer import Buffer
from databuffer.errors import TierFailed
from databuffer.settings import BufferSettings
from databuffer.storage.catalog import BatchRow, CataloguedSegment, SegmentFilter
from databuffer.storage.dropped import TIERS
from databuffer.tiers.packs.pack import key_of
from databuffer.tiers.upkeep import rebuild, sweep
from gwwire.manifest import MANIFEST, decode_manifest, encode_manifest
from gwwire.public import BatchState
from gwwire.records import StepState
from gwwire.tiering import DISK, ReplicaState, Tiering
from tests.support.archives import OpenBuffer, performed, states, step_in, until
from tests.support.archives import archive as begin_to_archive
from tests.support.segments import segment_body

pytestmark = pytest.mark.anyio

VERIFIED, LOST, WRITTEN = ReplicaState.VERIFIED, ReplicaState.LOST, ReplicaState.WRITTEN
EVICTED = ReplicaState.EVICTED
OBJECT, TAPE, BOTH = (Tiering(names, 0) for names in (("object",), ("tape",), ("object", "tape")))


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "_PAUSE_SECONDS", 0.03)
    monkeypatch.setattr(rebuild, "_POLL_SECONDS", 0.03)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BufferSettings:
    """The settings of the buffer, which are those of the environment too, with an object store and a tape."""
    for tier in ("object", "tape"):
        (tmp_path / tier).mkdir()
    values = {
        "DTVOLROOT": tmp_path / "datavar",
        "DATAROOT": tmp_path / "datavar/data",
        "ADMROOT": tmp_path / "appdata/adm",
        "LOGROOT": tmp_path / "appdata/log",
        "OBJECT_HIGH_WATER": "100%",  # whatever else is on the disk
        "TIERS": f"object=file://{tmp_path}/object tape=folder://{tmp_path}/tape?mount=0.01&seek=0.01",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))
    return BufferSettings.load()


async def archive(buffer: Buffer, tiering: Tiering | None) -> str:
    """Archive a batch of three segments; return its id when it has the replicas of its policy."""
    batch, _ = await begin_to_archive(buffer, tiering)
    if tiering:
        kept = {} if tiering.keep_on_disk == 0 else {DISK: VERIFIED}
        await until(buffer, batch, kept | dict.fromkeys(tiering.archive_to, VERIFIED))
    return batch


async def segments(buffer: Buffer, batch: str) -> list[CataloguedSegment]:
    return await buffer.queries.segments(SegmentFilter(batch=batch))


def microseconds(*times: int | None) -> list[int]:
    """Return times in nanoseconds as a manifest has them."""
    return [(at or 0) // 1000 for at in times]


async def run(*arguments: str) -> int:
    return await asyncio.to_thread(main, arguments)


def lose(*folders: Path) -> None:
    """Empty folders, as a new disk is."""
    for folder in folders:
        shutil.rmtree(folder)
        folder.mkdir()


def object_file(settings: BufferSettings, batch: str) -> Path:
    return settings.DTVOLROOT.parent / "object" / key_of(batch)


async def test_archives_are_rebuilt_from_the_tiers_alone(
    open_buffer: OpenBuffer, settings: BufferSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    buffer = await open_buffer()
    wanted = {await archive(buffer, tiering): tiering for tiering in (OBJECT, TAPE, BOTH)}
    rows = {batch: await buffer.queries.batch(batch) for batch in wanted}
    hashes = {batch: (await buffer.tiers.replicas(batch)).replicas[0].sha256 for batch in wanted}
    names = {row.name for batch in wanted for row in await segments(buffer, batch)}
    await buffer.close()
    lose(settings.DTVOLROOT, settings.ADMROOT, settings.LOGROOT)
    assert await run("tiers", "rebuild") == 0
    assert "3 folders restored, 0 problems" in capsys.readouterr().out
    buffer = await open_buffer()
    for batch, tiering in wanted.items():
        await until(buffer, batch, dict.fromkeys(tiering.archive_to, VERIFIED))
        found, before = await buffer.queries.batch(batch), rows[batch]
        assert (found.state, found.n_itm, found.digest) == (BatchState.ARCHIVED, before.n_itm, before.digest)
        assert microseconds(found.opened, found.frozen) == microseconds(before.opened, before.frozen)
        assert {each.sha256 for each in (await buffer.tiers.replicas(batch)).replicas} == {hashes[batch]}
        assert await run("verify", str(settings.DTVOLROOT / found.path)) == 0
    assert {row.name for batch in wanted for row in await segments(buffer, batch)} == names
    assert (await archive(buffer, OBJECT)) not in wanted, "the datastore goes on"
    await buffer.close()
    assert await run("fsck") == 0
    assert await run("tiers", "rebuild") == 0
    assert "0 folders restored, 0 problems" in capsys.readouterr().out


async def test_a_lost_volume_gets_the_folders_back_under_the_names_of_the_catalog(
    open_buffer: OpenBuffer, settings: BufferSettings
) -> None:
    buffer = await open_buffer()
    sent = await buffer.ingest.submit(segment_body(7), "key").answered
    await archive(buffer, None)
    dropped, kept = await archive(buffer, OBJECT), await archive(buffer, Tiering(("object",)))
    rows = {batch: await buffer.queries.batch(batch) for batch in (dropped, kept)}
    seqs = {batch: [row.seq for row in await segments(buffer, batch)] for batch in rows}
    await buffer.close()
    lose(settings.DTVOLROOT)
    assert await run("tiers", "rebuild") == 0
    buffer = await open_buffer()
    for batch, row in rows.items():
        await until(buffer, batch, {"object": VERIFIED})
        assert await buffer.queries.batch(batch) == row
        assert [found.seq for found in await segments(buffer, batch)] == seqs[batch]
    again = await buffer.ingest.submit(segment_body(7), "key").answered
    assert again.name != sent.name, "what had no copy is stored again"


async def test_packs_that_cannot_be_used_are_named_and_the_others_restored(
    open_buffer: OpenBuffer, settings: BufferSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    buffer = await open_buffer()
    no_head, short, altered, whole, two = [await archive(buffer, tiering) for tiering in (*[OBJECT] * 4, BOTH)]
    await buffer.close()
    files = {batch: object_file(settings, batch) for batch in (no_head, short, altered, two)}
    contents = {batch: path.read_bytes() for batch, path in files.items()}
    files[no_head].write_bytes(b"x" + contents[no_head][1:])
    files[short].write_bytes(contents[short][:-1024])
    files[altered].write_bytes(contents[altered][:-2000] + b"x" + contents[altered][-1999:])
    files[two].write_bytes(b"")
    shutil.copy(object_file(settings, whole), object_file(settings, "another"))
    size = object_file(settings, whole).stat().st_size
    lose(settings.DTVOLROOT, settings.ADMROOT, settings.LOGROOT)
    assert await run("tiers", "rebuild") == 1
    told = capsys.readouterr().out
    assert f"{key_of(no_head)} in tier object cannot be used: it does not begin with MANIFEST.json" in told
    assert f"{key_of(two)} in tier object cannot be used: it does not begin with MANIFEST.json" in told
    assert f"{key_of('another')} in tier object cannot be used: it is the pack of batch {whole!r}" in told
    assert f"{key_of(short)} in tier object has {size - 1024} bytes, not {size}" in told
    assert f"{key_of(two)} in tier object has 0 bytes" in told
    assert "3 folders restored, 5 problems" in told
    buffer = await open_buffer()
    assert {row.id for row in await buffer.queries.batches() if row.archived} == {altered, whole, two}
    await until(buffer, whole, {"object": VERIFIED})
    await until(buffer, two, {"object": VERIFIED, "tape": VERIFIED})  # copied again from the tape
    await until(buffer, altered, {"object": LOST})


async def test_a_lost_ledger_is_filled_from_the_listings_of_the_tiers(
    open_buffer: OpenBuffer, settings: BufferSettings
) -> None:
    buffer = await open_buffer()
    kept, alone = await archive(buffer, Tiering(("object", "tape"))), await archive(buffer, None)
    await buffer.close()
    before = object_file(settings, kept).stat()
    lose(settings.ADMROOT, settings.DTVOLROOT / ".ledger")
    buffer = await open_buffer()
    await until(buffer, kept, {DISK: VERIFIED, "object": VERIFIED, "tape": VERIFIED})
    await until(buffer, alone, {DISK: WRITTEN})
    assert object_file(settings, kept).stat().st_ino == before.st_ino, "what is there is compared, not written again"


@pytest.mark.parametrize("state", [EVICTED, VERIFIED], ids=["deleted", "still there"])
async def test_what_was_evicted_is_not_copied_back_when_the_catalog_is_lost(
    open_buffer: OpenBuffer, settings: BufferSettings, state: ReplicaState
) -> None:
    buffer = await open_buffer()
    batch = await archive(buffer, BOTH)
    content = object_file(settings, batch).read_bytes()
    await performed(buffer, batch, "drop:object")
    await until(buffer, batch, {"object": EVICTED, "tape": VERIFIED})
    await buffer.close()
    if state is VERIFIED:  # it was named as evicted before it was deleted
        object_file(settings, batch).write_bytes(content)
    lose(settings.ADMROOT, settings.DTVOLROOT / ".ledger")
    buffer = await open_buffer()
    await until(buffer, batch, {"object": state, "tape": VERIFIED})
    for _ in range(3):
        await buffer._sweep.sweep()  # noqa: SLF001 (the next ones, now)
    assert states(await buffer.tiers.replicas(batch)) == {"object": state, "tape": VERIFIED}
    assert object_file(settings, batch).exists() == (state is VERIFIED)


async def test_a_batch_that_an_older_copy_of_the_volume_has_open_is_not_restored(
    open_buffer: OpenBuffer, settings: BufferSettings, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    buffer = await open_buffer()
    await buffer.ingest.submit(segment_body(7)).answered
    await buffer.close()
    shutil.copytree(settings.DTVOLROOT, tmp_path / "copy")
    buffer = await open_buffer()
    batch = await archive(buffer, OBJECT)
    await buffer.close()
    lose(settings.DTVOLROOT, settings.ADMROOT)
    shutil.copytree(tmp_path / "copy", settings.DTVOLROOT, dirs_exist_ok=True)
    assert await run("tiers", "rebuild") == 1
    assert f"batch {batch} is in object, and open or frozen on the volume, an older copy" in capsys.readouterr().out
    assert not list(settings.DTVOLROOT.glob("20*"))


async def test_nothing_is_restored_beside_a_buffer_or_from_half_of_the_tiers(
    open_buffer: OpenBuffer, settings: BufferSettings, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    buffer = await open_buffer()
    await archive(buffer, OBJECT)
    assert await run("tiers", "rebuild") == 1
    assert "another buffer (process" in capsys.readouterr().err
    await buffer.close()
    lose(settings.DTVOLROOT, settings.ADMROOT)
    (tmp_path / "tape").rename(tmp_path / "unmounted")
    assert await run("tiers", "rebuild") == 1
    assert capsys.readouterr().err.startswith("databuffer: tiers: tier tape: ")
    assert not list(settings.DTVOLROOT.glob("20*"))
    shutil.rmtree(settings.DTVOLROOT)
    assert await run("tiers", "rebuild") == 1
    assert capsys.readouterr().err == f"databuffer: tiers: DTVOLROOT {settings.DTVOLROOT} is not a folder\n"


# ---- manifests that are missing or malformed


def cut(manifest: Path) -> None:
    manifest.write_bytes(manifest.read_bytes()[: manifest.stat().st_size // 2])


def empty(manifest: Path) -> None:
    manifest.write_bytes(b"")


def remove(manifest: Path) -> None:
    manifest.unlink()


Damage = Callable[[Path], None]
damages = pytest.mark.parametrize("damage", [cut, empty, remove])


async def archived(buffer: Buffer) -> list[BatchRow]:
    return [row for row in await buffer.queries.batches() if row.archived]


def add_without_manifest(settings: BufferSettings, folder: Path) -> str:
    """Put an archive into the catalog as it was added without its manifest by an earlier version; return its id."""
    store = create_store(settings)
    store.catalog.open()
    row = next(row for row in store.catalog.batches.all() if row.path == folder.name)
    made = f"a{folder.name.replace(' ', '-')}"
    store.catalog.batches.drop(row.id)
    store.catalog.batches.put(BatchRow(made, BatchState.ARCHIVED, row.opened, row.path, archived=row.archived))
    store.close()
    return made


@damages
async def test_a_batch_that_only_tiers_have_is_left_out_until_its_manifest_is_restored(
    open_buffer: OpenBuffer,
    settings: BufferSettings,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    damage: Damage,
) -> None:
    buffer = await open_buffer()
    broken, other = await archive(buffer, OBJECT), await archive(buffer, OBJECT)
    rows = {batch: await buffer.queries.batch(batch) for batch in (broken, other)}
    names = [row.name for row in await segments(buffer, broken)]
    await buffer.close()
    folder = settings.DTVOLROOT / rows[broken].path
    policy = (folder / TIERS).read_bytes()
    lose(settings.ADMROOT, settings.DTVOLROOT / ".ledger")
    damage(folder / MANIFEST)
    for _ in range(2):
        caplog.clear()
        buffer = await open_buffer()
        assert [row.id for row in await archived(buffer)] == [other]
        assert (await buffer.queries.overview()).left_out == 1
        await buffer.close()
        assert f"not repaired: archive {folder.name!r} is not in the catalog, and cannot be read" in caplog.text
        assert "`python -m databuffer tiers rebuild`" in caplog.text
        assert await run("fsck") == 1
        assert f"archive {folder.name!r}: it cannot be read: " in capsys.readouterr().out
    assert await run("tiers", "rebuild") == 0
    assert "1 folder restored, 0 problems" in capsys.readouterr().out
    assert (folder / TIERS).read_bytes() == policy
    buffer = await open_buffer()
    await until(buffer, broken, {"object": VERIFIED})
    assert {row.id: row.digest for row in await archived(buffer)} == {id_: row.digest for id_, row in rows.items()}
    assert [row.name for row in await segments(buffer, broken)] == names
    assert (await buffer.tiers.replicas(broken)).tiering == OBJECT
    assert (await buffer.queries.overview()).left_out == 0
    await buffer.close()
    assert await run("fsck") == 0


@damages
@pytest.mark.parametrize("is_repaired", [False, True], ids=["at a start", "by fsck"])
async def test_a_batch_that_was_added_without_its_manifest_gets_its_id_when_the_manifest_is_back(
    open_buffer: OpenBuffer,
    settings: BufferSettings,
    capsys: pytest.CaptureFixture[str],
    damage: Damage,
    *,
    is_repaired: bool,
) -> None:
    buffer = await open_buffer()
    batch = await archive(buffer, OBJECT)
    row = await buffer.queries.batch(batch)
    await buffer.close()
    folder = settings.DTVOLROOT / row.path
    manifest = (folder / MANIFEST).read_bytes()
    made = add_without_manifest(settings, folder)
    damage(folder / MANIFEST)
    buffer = await open_buffer()
    assert await archived(buffer) == [], "left out"
    await buffer.close()
    add_again = create_store(settings)
    add_again.catalog.open()
    add_again.catalog.batches.put(BatchRow(made, BatchState.ARCHIVED, row.opened, row.path, archived=row.archived))
    add_again.close()
    (folder / MANIFEST).write_bytes(manifest)
    assert await run("fsck") == 1
    assert f"archive {folder.name!r} is batch {made} in the catalog" in capsys.readouterr().out
    if is_repaired:
        assert await run("fsck", "--repair") == 0
    buffer = await open_buffer()
    assert [(each.id, each.n_itm) for each in await archived(buffer)] == [(batch, row.n_itm)]
    await until(buffer, batch, {"object": VERIFIED})
    await buffer.close()
    assert await run("fsck") == 0


@damages
async def test_a_manifest_is_restored_beside_the_segments_that_the_disk_has(
    open_buffer: OpenBuffer, settings: BufferSettings, capsys: pytest.CaptureFixture[str], damage: Damage
) -> None:
    buffer = await open_buffer()
    batch = await archive(buffer, Tiering(("object",)))
    before = await buffer.queries.batch(batch)
    await buffer.close()
    folder = settings.DTVOLROOT / before.path
    lose(settings.ADMROOT, settings.DTVOLROOT / ".ledger")
    damage(folder / MANIFEST)
    assert await run("tiers", "rebuild") == 0
    assert "1 folder restored, 0 problems" in capsys.readouterr().out
    assert list(settings.DTVOLROOT.glob("20*")) == [folder]
    assert not (folder / TIERS).exists()
    buffer = await open_buffer()
    await until(buffer, batch, {DISK: VERIFIED, "object": VERIFIED})
    [row] = await archived(buffer)
    assert (row.id, row.digest) == (batch, before.digest)


async def test_a_rebuild_goes_on_after_manifests_that_it_cannot_restore_and_names_them(
    open_buffer: OpenBuffer, settings: BufferSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    buffer = await open_buffer()
    alone, gone, other_size, whole, lost = [await archive(buffer, each) for each in (None, *[OBJECT] * 4)]
    folders = {
        batch: settings.DTVOLROOT / (await buffer.queries.batch(batch)).path
        for batch in (alone, gone, other_size, whole, lost)
    }
    await buffer.close()
    for batch in (alone, gone, other_size, whole):
        cut(folders[batch] / MANIFEST)
    shutil.rmtree(folders[lost])
    object_file(settings, gone).unlink()
    named = folders[other_size] / TIERS
    size = object_file(settings, other_size).stat().st_size
    named.write_text(named.read_text().replace(f'"size": {size}', f'"size": {size - 1024}'))
    assert await run("tiers", "rebuild") == 1
    told = capsys.readouterr().out
    for batch in (alone, gone, other_size):
        assert f"{folders[batch] / MANIFEST} cannot be understood" in told
    assert f"{size} bytes in object, not as {named} says" in told
    assert "2 folders restored, 4 problems" in told
    buffer = await open_buffer()
    for batch in (whole, lost):
        await until(buffer, batch, {"object": VERIFIED})
        for row in await segments(buffer, batch):
            file = await buffer.tier_reader.open(row)
            assert file
            file.close()


async def test_a_copy_of_the_folder_of_a_dropped_batch_stays_in_the_catalog_beside_it(
    open_buffer: OpenBuffer, settings: BufferSettings
) -> None:
    buffer = await open_buffer()
    batch = await archive(buffer, OBJECT)
    folder = settings.DTVOLROOT / (await buffer.queries.batch(batch)).path
    await buffer.close()
    copy = folder.with_name("2020-01-01 00 00")
    shutil.copytree(folder, copy)
    buffer = await open_buffer()
    rows = await archived(buffer)
    await buffer.close()
    assert {row.id: row.path for row in rows} == {batch: folder.name, "a2020-01-01-00-00": copy.name}
    assert await run("fsck") == 0


async def dropped(open_buffer: OpenBuffer, settings: BufferSettings) -> tuple[str, Path]:
    """Archive a batch that only a tier has, and close the buffer; return its id and the path of its manifest."""
    buffer = await open_buffer()
    batch = await archive(buffer, OBJECT)
    manifest = settings.DTVOLROOT / (await buffer.queries.batch(batch)).path / MANIFEST
    await buffer.close()
    return batch, manifest


@damages
async def test_a_reader_gets_the_segments_of_a_dropped_batch_and_the_manifest_is_restored(
    open_buffer: OpenBuffer, settings: BufferSettings, caplog: pytest.LogCaptureFixture, damage: Damage
) -> None:
    batch, manifest = await dropped(open_buffer, settings)
    before = manifest.read_bytes()
    buffer = await open_buffer()  # nothing is in its memory
    damage(manifest)
    for row in await segments(buffer, batch):
        file = await buffer.tier_reader.open(row)
        assert file
        with file:
            assert len(file.read()) == row.bytes
    assert manifest.read_bytes() == before
    assert "its manifest is restored from tier object" in caplog.text


def alter(manifest: Path) -> None:
    """Change a digit of a digest."""
    text = manifest.read_text()
    at = text.index('"sha256": "') + len('"sha256": "')
    manifest.write_text(f"{text[:at]}{'1' if text[at] == '0' else '0'}{text[at + 1 :]}")


def be_anothers(manifest: Path) -> None:
    """Become the manifest of another batch."""
    found = decode_manifest(manifest.read_bytes())
    manifest.write_bytes(encode_manifest(structs.replace(found, batch="b1")))


@pytest.mark.parametrize("damage", [alter, be_anothers])
async def test_a_manifest_that_is_not_the_sealed_one_makes_no_replica_lost_and_is_restored(
    open_buffer: OpenBuffer, settings: BufferSettings, damage: Damage
) -> None:
    batch, manifest = await dropped(open_buffer, settings)
    before = manifest.read_bytes()
    damage(manifest)
    buffer = await open_buffer()
    await buffer.records.request(f"batch/{batch}", "scrub")
    step = await step_in(buffer, batch, "scrub", StepState.WAITING, StepState.FAILED)
    assert "MANIFEST.json is damaged" in str(step.reason)
    assert states(await buffer.tiers.replicas(batch)) == {"object": ReplicaState.VERIFIED}
    [row, *_] = await segments(buffer, batch)
    file = await buffer.tier_reader.open(row)
    assert file
    file.close()
    assert manifest.read_bytes() == before


async def test_a_reader_is_told_if_the_replica_does_not_have_the_manifest_either(
    open_buffer: OpenBuffer, settings: BufferSettings
) -> None:
    buffer = await open_buffer()
    batch, other = await archive(buffer, OBJECT), await archive(buffer, OBJECT)
    manifest = settings.DTVOLROOT / (await buffer.queries.batch(batch)).path / MANIFEST
    await buffer.close()
    buffer = await open_buffer()
    cut(manifest)
    shutil.copy(object_file(settings, other), object_file(settings, batch))
    [row, *_] = await segments(buffer, batch)
    with pytest.raises(TierFailed, match=f"it is the pack of batch '{other}'; .* cannot be understood: it is not JSON"):
        await buffer.tier_reader.open(row)
