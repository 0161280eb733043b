"""The manifest on the data volume decides whether the batch is frozen, and names its holder."""

import errno
import os
import re
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from databuffer.__main__ import main
from databuffer.app import create_buffer
from databuffer.batches import Frozen
from databuffer.buffer import Buffer
from databuffer.errors import BufferFrozen, NotHolder, VolumeFailed
from databuffer.settings import BufferSettings, OnFrozen
from databuffer.storage import manifest as manifest_module
from databuffer.storage.catalog import SegmentFilter
from databuffer.storage.files import read_stored
from databuffer.storage.manifest import differences, read_manifest
from databuffer.storage.marks import BatchMark
from gwwire.datastore import FreezeOrder
from gwwire.manifest import decode_manifest
from gwwire.public import BatchState, ThawOrder
from gwwire.query import Query
from tests.support.foreign import NO_FOLDERS
from tests.support.segments import segment_body

pytestmark = pytest.mark.anyio
OpenBuffer = Callable[[], Awaitable[Buffer]]
ALICE, BOB = FreezeOrder("alice", "secret"), FreezeOrder("bob", "other")


def snapshot(settings: BufferSettings) -> Path:
    return Path(shutil.copytree(settings.ADMROOT, settings.ADMROOT.with_name("snapshot"), dirs_exist_ok=True))


def restore(settings: BufferSettings, taken: Path) -> None:
    shutil.rmtree(settings.ADMROOT)
    shutil.copytree(taken, settings.ADMROOT)


async def store(buffer: Buffer, *numbers: int) -> None:
    for number in numbers:
        await buffer.ingest.append(segment_body(number))


async def freeze_and_close(open_buffer: OpenBuffer) -> Frozen:
    """Freeze three segments for Alice and close the buffer."""
    buffer = await open_buffer()
    await store(buffer, 1, 2, 3)
    frozen = await buffer.batches.freeze(ALICE)
    await buffer.close()
    return frozen


async def check_frozen(buffer: Buffer, settings: BufferSettings, manifest: bytes, holder: str = "alice") -> None:
    overview = await buffer.queries.overview()
    assert (overview.state, overview.holder, overview.n_itm) == ("FROZEN", holder, 3)
    assert overview.digest
    assert overview.digest.encode() in manifest
    assert (settings.DATAROOT / "MANIFEST.json").read_bytes() == manifest
    with pytest.raises(BufferFrozen):
        await store(buffer, 99)


def lose_state(settings: BufferSettings) -> None:
    (settings.ADMROOT / settings.DSST).unlink()


def lose_everything_derived(settings: BufferSettings) -> None:
    shutil.rmtree(settings.ADMROOT)
    shutil.rmtree(settings.LOGROOT)


def damage_state(settings: BufferSettings) -> None:
    (settings.ADMROOT / settings.DSST).write_bytes(b'{"dstatus":"FRO')


def lose_mark(settings: BufferSettings) -> None:
    (settings.DTVOLROOT / ".data.batch.json").write_bytes(b"")
    lose_state(settings)


@pytest.mark.parametrize("lose", [lose_state, lose_everything_derived, damage_state, lose_mark])
async def test_a_frozen_batch_stays_frozen_with_its_holder_when_derived_files_are_lost(
    open_buffer: OpenBuffer,
    settings: BufferSettings,
    caplog: pytest.LogCaptureFixture,
    lose: Callable[[BufferSettings], None],
) -> None:
    frozen = await freeze_and_close(open_buffer)
    manifest = (settings.DATAROOT / "MANIFEST.json").read_bytes()
    lose(settings)
    buffer = await open_buffer()
    await check_frozen(buffer, settings, manifest)
    assert buffer.state.current.id == frozen.batch
    assert "it is FROZEN by alice now" in caplog.text
    with pytest.raises(NotHolder, match=r"token is lost with Dsstat\.json; it can only be archived"):
        await buffer.batches.thaw(ThawOrder("alice", ""))
    assert (await buffer.batches.flush()).stats.n_itm == 3


async def test_a_state_from_before_the_freeze_does_not_open_the_batch(
    open_buffer: OpenBuffer, settings: BufferSettings
) -> None:
    buffer = await open_buffer()
    await store(buffer, 1, 2)
    await buffer.close()
    earlier = snapshot(settings)
    buffer = await open_buffer()
    await store(buffer, 3)
    await buffer.batches.freeze(ALICE)
    await buffer.close()
    manifest = (settings.DATAROOT / "MANIFEST.json").read_bytes()
    restore(settings, earlier)
    await check_frozen(await open_buffer(), settings, manifest)


async def test_a_state_of_an_earlier_freeze_does_not_name_the_holder_or_freeze_an_open_batch(
    open_buffer: OpenBuffer, settings: BufferSettings
) -> None:
    buffer = await open_buffer()
    await store(buffer, 1)
    await buffer.batches.freeze(BOB)
    await buffer.close()
    earlier = snapshot(settings)
    buffer = await open_buffer()
    await buffer.batches.flush()
    await store(buffer, 2, 3, 4)
    await buffer.close()
    restore(settings, earlier)
    buffer = await open_buffer()
    assert (await buffer.queries.overview()).state == "OPERATIONAL"
    assert buffer.queries.stats.n_itm == 3
    await buffer.batches.freeze(ALICE)
    await buffer.close()
    manifest = (settings.DATAROOT / "MANIFEST.json").read_bytes()
    restore(settings, earlier)
    await check_frozen(await open_buffer(), settings, manifest)


@pytest.mark.parametrize("damaged", [b"", b'{"batch":', b"\xff\xfe", None])
async def test_a_lost_or_damaged_manifest_is_rewritten_for_its_holder_and_the_damaged_one_kept(
    open_buffer: OpenBuffer, settings: BufferSettings, damaged: bytes | None
) -> None:
    frozen = await freeze_and_close(open_buffer)
    path = settings.DATAROOT / "MANIFEST.json"
    path.unlink() if damaged is None else path.write_bytes(damaged)
    buffer = await open_buffer()
    overview = await buffer.queries.overview()
    assert (overview.state, overview.holder, overview.digest) == ("FROZEN", "alice", frozen.digest)
    kept = settings.DTVOLROOT / "quarantine" / "MANIFEST.json"
    assert (kept.read_bytes() if kept.exists() else None) == damaged
    await buffer.batches.thaw(ThawOrder(ALICE.user, ALICE.token))


@pytest.mark.parametrize("damaged", [b"{", None])
async def test_an_order_about_a_frozen_batch_rewrites_its_manifest_first(
    open_buffer: OpenBuffer, settings: BufferSettings, damaged: bytes | None
) -> None:
    frozen = await freeze_and_close(open_buffer)
    buffer = await open_buffer()
    path = settings.DATAROOT / "MANIFEST.json"
    intact = path.read_bytes()

    def damage() -> None:
        path.unlink() if damaged is None else path.write_bytes(damaged)

    damage()
    assert await buffer.batches.freeze(BOB) == frozen
    assert read_manifest(settings.DATAROOT).digest == frozen.digest
    damage()
    await buffer.batches.thaw(ThawOrder(ALICE.user, ALICE.token))
    await buffer.batches.freeze(ALICE)
    damage()
    folder = (await buffer.batches.flush()).folder
    assert folder is not None
    assert decode_manifest(intact).segments == read_manifest(folder).segments


async def test_a_thawed_batch_that_has_grown_stays_open_when_an_older_admroot_is_restored(
    open_buffer: OpenBuffer, settings: BufferSettings, caplog: pytest.LogCaptureFixture
) -> None:
    await freeze_and_close(open_buffer)
    taken = snapshot(settings)
    buffer = await open_buffer()
    await buffer.batches.thaw(ThawOrder(ALICE.user, ALICE.token))
    await buffer.close()
    current = shutil.copytree(settings.ADMROOT, settings.ADMROOT.with_name("current"))
    restore(settings, taken)
    buffer = await open_buffer()  # nothing tells it from a batch that lost its manifest
    assert (await buffer.queries.overview()).state == "FROZEN"
    assert "if ADMROOT was restored from before a thaw, thaw the batch again" in caplog.text
    await buffer.close()
    (settings.DATAROOT / "MANIFEST.json").unlink()
    restore(settings, current)
    buffer = await open_buffer()
    await store(buffer, 4)
    await buffer.close()
    restore(settings, taken)
    buffer = await open_buffer()
    assert (await buffer.queries.overview()).state == "OPERATIONAL"
    assert "stored later, so an older ADMROOT was restored" in caplog.text
    assert buffer.queries.stats.n_itm == 4


@pytest.mark.parametrize("manifest_is_lost", [False, True])
@pytest.mark.parametrize(
    ("name", "content"), [("gwb1.json", segment_body(7)), ("gwb2.json", b""), ("gwb9999999999999999999.json", b"junk")]
)
async def test_a_file_of_another_program_neither_opens_a_frozen_batch_nor_enters_it(
    open_buffer: OpenBuffer, settings: BufferSettings, name: str, content: bytes, *, manifest_is_lost: bool
) -> None:
    frozen = await freeze_and_close(open_buffer)
    if manifest_is_lost:
        (settings.DATAROOT / "MANIFEST.json").unlink()
    (settings.DATAROOT / name).write_bytes(content)
    buffer = await open_buffer()
    overview = await buffer.queries.overview()
    assert (overview.state, overview.holder, overview.n_itm) == ("FROZEN", "alice", 3)
    assert read_manifest(settings.DATAROOT).digest == frozen.digest
    assert not list(differences(settings.DATAROOT, read_manifest(settings.DATAROOT)))
    assert (settings.DTVOLROOT / "quarantine" / name).read_bytes() == content


@pytest.mark.parametrize("damaged", [b"{", None])
@pytest.mark.parametrize("catalog_is_lost", [False, True])
async def test_a_batch_stays_frozen_without_state_and_manifest(
    open_buffer: OpenBuffer, settings: BufferSettings, damaged: bytes | None, *, catalog_is_lost: bool
) -> None:
    buffer = await open_buffer()
    await store(buffer, 1, 2, 3)
    frozen = await buffer.batches.freeze(ALICE)
    await buffer.close()
    if damaged is None:
        (settings.DTVOLROOT / "next").mkdir()  # as ON_FROZEN=rotate does
    path = settings.DATAROOT / "MANIFEST.json"
    path.unlink() if damaged is None else path.write_bytes(damaged)
    lose_everything_derived(settings) if catalog_is_lost else lose_state(settings)
    for _ in range(2):
        buffer = await open_buffer()
        holder = "(unknown)" if catalog_is_lost else "alice"
        await check_frozen(buffer, settings, path.read_bytes(), holder)
        assert read_manifest(settings.DATAROOT).digest == frozen.digest
        with pytest.raises(NotHolder, match=r"can only be archived"):
            await buffer.batches.thaw(ThawOrder(holder, ""))
        await buffer.close()


@pytest.mark.parametrize("damaged", [b"{", None])
async def test_an_open_batch_stays_open_without_state(
    open_buffer: OpenBuffer, settings: BufferSettings, damaged: bytes | None
) -> None:
    buffer = await open_buffer()
    await store(buffer, 1)
    await buffer.close()
    if damaged:
        (settings.DATAROOT / "MANIFEST.json").write_bytes(damaged)
    lose_state(settings)
    buffer = await open_buffer()
    await store(buffer, 2)
    assert buffer.queries.stats.n_itm == 2


@pytest.mark.parametrize("content", [b"", b"{", None])
async def test_an_open_batch_whose_id_is_lost_keeps_its_id_and_its_segments(
    open_buffer: OpenBuffer, settings: BufferSettings, content: bytes | None
) -> None:
    buffer = await open_buffer()
    await store(buffer, 1, 2, 3)
    batch = buffer.state.current.id
    await buffer.close()
    path = settings.DTVOLROOT / ".data.batch.json"
    path.unlink() if content is None else path.write_bytes(content)
    buffer = await open_buffer()
    assert (buffer.state.current.id, buffer.queries.stats.n_itm) == (batch, 3)


async def test_a_volume_that_is_not_mounted_is_refused_in_one_line_and_nothing_is_forgotten(
    open_buffer: OpenBuffer, settings: BufferSettings
) -> None:
    buffer = await open_buffer()
    await store(buffer, 1, 2, 3)
    await buffer.batches.flush()
    await buffer.close()
    away = settings.DTVOLROOT.rename(settings.DTVOLROOT.with_name("away"))
    settings.DTVOLROOT.mkdir()
    with pytest.raises(VolumeFailed, match=r"\(DTVOLROOT\) is empty, but .*Dsstat\.json records a batch on it"):
        await open_buffer()
    settings.DTVOLROOT.rmdir()
    away.rename(settings.DTVOLROOT)
    assert (await open_buffer()).state.archived == 1


# ---- fsck


@pytest.fixture
def environment(settings: BufferSettings, monkeypatch: pytest.MonkeyPatch) -> BufferSettings:
    for name in ("DTVOLROOT", "DATAROOT", "ADMROOT", "LOGROOT"):
        monkeypatch.setenv(name, str(getattr(settings, name)))
    return settings


def everything(home: Path) -> dict[str, tuple[bytes, int]]:
    found = (path for path in home.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


def zero_the_catalog(settings: BufferSettings) -> None:
    path = settings.ADMROOT / "catalog.sqlite"
    path.write_bytes(path.read_bytes()[:4096] + bytes(path.stat().st_size - 4096))


def write_text_into_the_catalog(settings: BufferSettings) -> None:
    (settings.ADMROOT / "catalog.sqlite").write_text("not a database")


def lose_the_data_folder(settings: BufferSettings) -> None:
    settings.DATAROOT.rename(settings.DTVOLROOT / "2026-11-20 23 41")


@pytest.mark.parametrize(
    "damage",
    [
        zero_the_catalog,
        write_text_into_the_catalog,
        lose_everything_derived,
        lose_the_data_folder,
        lose_mark,
    ],
)
async def test_fsck_changes_nothing_and_finds_the_differences_that_repair_repairs(
    open_buffer: OpenBuffer,
    environment: BufferSettings,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[BufferSettings], None],
) -> None:
    buffer = await open_buffer()
    await store(buffer, 1, 2, 3)
    await buffer.batches.flush()
    await store(buffer, 4, 5, 6)
    await buffer.batches.freeze(ALICE)
    await buffer.close()
    damage(environment)
    (environment.DATAROOT / "gwb1.json").write_bytes(b"half") if environment.DATAROOT.exists() else None
    home = environment.DTVOLROOT.parent
    before = everything(home)
    assert main(["fsck"]) == 1
    assert everything(home) == before
    *found, count = capsys.readouterr().out.splitlines()
    assert not [line for line in found if "moved" in line or "repaired" in line or "now" in line.split()]
    assert main(["fsck", "--repair"]) == 0
    *repaired, _ = capsys.readouterr().out.splitlines()
    assert [line.removeprefix("repaired: ").rpartition("; ")[0] for line in repaired] == found
    assert count == f"{len(found)} finding{'s' * (len(found) > 1)}, {len(found)} not repaired"
    assert main(["fsck"]) == 0
    assert capsys.readouterr().out == "everything agrees\n"


@pytest.mark.usefixtures("environment")
async def test_fsck_names_an_archive_whose_manifest_is_damaged_and_goes_on(
    open_buffer: OpenBuffer, capsys: pytest.CaptureFixture[str]
) -> None:
    buffer = await open_buffer()
    await store(buffer, 1)
    folder = (await buffer.batches.flush()).folder
    await buffer.close()
    assert folder
    (folder / "MANIFEST.json").write_bytes(b"{")
    assert main(["fsck"]) == 1
    assert f"archive {folder.name!r}: its manifest cannot be read" in capsys.readouterr().out


def lock_folder(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make it impossible to list a folder, also for root."""
    scandir = os.scandir

    def guarded(path: Any) -> Any:
        if not isinstance(path, int) and Path(path).name == folder.name:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    patch.setattr(os, "scandir", guarded)


def lock_manifest(patch: pytest.MonkeyPatch, folder: Path, number: int = errno.EACCES) -> None:
    """Make it impossible to read the manifest in a folder, also for root."""

    def guarded(path: Path) -> bytes:
        if path.parent.name == folder.name and path.name == "MANIFEST.json":
            raise OSError(number, os.strerror(number), str(path))
        return read_stored(path)

    patch.setattr(manifest_module, "read_stored", guarded)


def break_manifest(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make the disk fail when the manifest in a folder is read."""
    lock_manifest(patch, folder, errno.EIO)


@pytest.mark.parametrize("is_repaired", [False, True], ids=["at a start", "by fsck"])
@pytest.mark.parametrize(
    ("lock", "reason"),
    [
        (lock_folder, "Permission denied"),
        (lock_manifest, "Permission denied"),
        (break_manifest, "Input/output error"),
    ],
)
async def test_an_archive_that_cannot_be_read_stops_nothing_and_is_added_with_its_id_when_it_can(  # noqa: PLR0913, PLR0917 (three are parameters)
    open_buffer: OpenBuffer,
    environment: BufferSettings,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    lock: Callable[[pytest.MonkeyPatch, Path], None],
    reason: str,
    *,
    is_repaired: bool,
) -> None:
    buffer = await open_buffer()
    await store(buffer, 1, 2, 3)
    batch, archived = buffer.state.current.id, (await buffer.batches.flush()).folder
    assert archived
    await store(buffer, 4)
    await buffer.close()
    name = archived.name
    with pytest.MonkeyPatch.context() as locked:
        lock(locked, archived)
        assert main(["fsck"]) == 1
        assert capsys.readouterr().out.startswith(f"archive '{name}': it cannot be read: {reason}: ")
        lose_everything_derived(environment)
        for number in (5, 6):
            caplog.clear()
            buffer = await open_buffer()
            assert [each.state for each in await buffer.queries.batches()] == [BatchState.OPEN]
            await store(buffer, number)
            await buffer.close()
            left_out = f"archive '{name}' is not in the catalog, and cannot be read: {reason}: "
            assert f"not repaired: {left_out}" in caplog.text
    if is_repaired:
        assert main(["fsck", "--repair"]) == 0
    buffer = await open_buffer()
    first, second = await buffer.queries.batches()
    assert (first.id, first.state, first.n_itm) == (batch, BatchState.ARCHIVED, 3)
    assert (second.state, second.n_itm) == (BatchState.OPEN, 3)
    await buffer.close()


@pytest.mark.usefixtures("environment")
async def test_fsck_compares_the_totals_of_channels_with_the_segments_and_counts_again(
    open_buffer: OpenBuffer, settings: BufferSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    buffer = await open_buffer()
    await store(buffer, 1, 2)
    await buffer.batches.flush()
    await store(buffer, 3)
    expected = await buffer.search.facets(Query())
    await buffer.close()
    for change in (
        "UPDATE totals SET bytes = bytes + 1 WHERE segments = 2",
        "UPDATE totals SET stop = stop - 0.5",
        "DELETE FROM totals WHERE segments = 1",
        "INSERT INTO totals SELECT 'b0', channel, segments, bytes, start, stop, longest, 1, 2 FROM totals LIMIT 1",
    ):
        with closing(sqlite3.connect(settings.ADMROOT / "catalog.sqlite")) as connection:
            connection.execute(change)
            connection.commit()
        for arguments in (["fsck"], ["fsck", "--repair"]):
            assert main(arguments) == (len(arguments) == 1)
            assert re.search(r"the totals of batch b\d+ by channel differ from its segments", capsys.readouterr().out)
        assert main(["fsck"]) == 0
        assert capsys.readouterr().out == "everything agrees\n"
    assert await (await open_buffer()).search.facets(Query()) == expected


@pytest.mark.usefixtures("environment")
async def test_fsck_compares_the_manifest_of_a_frozen_batch_with_what_its_segments_hold(
    open_buffer: OpenBuffer, settings: BufferSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    buffer = await open_buffer()
    await store(buffer, 1, 2)
    await buffer.batches.freeze(ALICE)
    await buffer.close()
    path = settings.DATAROOT / "MANIFEST.json"
    content = msgspec.json.decode(path.read_bytes())
    for field in ("t0", "dt", "n"):
        segments = [{**content["segments"][0], field: 7}, *content["segments"][1:]]
        path.write_bytes(msgspec.json.encode({**content, "segments": segments}))
        assert main(["fsck"]) == 1
        assert "the manifest of the current batch cannot be read, or does not describe its" in capsys.readouterr().out
    assert main(["fsck", "--repair"]) == 0
    assert not list(differences(settings.DATAROOT, read_manifest(settings.DATAROOT)))
    capsys.readouterr()
    assert main(["fsck"]) == 0


async def test_fsck_of_a_folder_that_does_not_exist_fails_and_creates_nothing(
    environment: BufferSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (["fsck"], ["fsck", "--repair"]):
        assert main(arguments) == 1
        assert capsys.readouterr().err == f"databuffer: fsck: DTVOLROOT {environment.DTVOLROOT} is not a folder\n"
    assert not environment.DTVOLROOT.exists()


@pytest.mark.parametrize("kind", NO_FOLDERS)
async def test_what_is_in_the_place_of_the_next_batch_is_no_difference_and_is_moved_aside(
    open_buffer: OpenBuffer, environment: BufferSettings, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    buffer = await open_buffer()
    await store(buffer, 0, 1)
    await buffer.close()
    following = environment.DTVOLROOT / "next"
    NO_FOLDERS[kind](following)
    assert main(["fsck"]) == 0
    assert capsys.readouterr().out == "everything agrees\n"
    assert following in environment.DTVOLROOT.iterdir()
    again = await open_buffer()
    assert (again.state.next, again.state.current.stats.n_itm) == (None, 2)
    assert [path.name for path in environment.DTVOLROOT.iterdir() if "next" in path.name] == ["next.unreadable"]


async def test_an_altered_manifest_of_a_frozen_batch_is_rewritten_for_its_holder_and_kept(
    open_buffer: OpenBuffer, settings: BufferSettings
) -> None:
    frozen = await freeze_and_close(open_buffer)
    path = settings.DATAROOT / "MANIFEST.json"
    manifest = read_manifest(settings.DATAROOT)
    altered = path.read_bytes().replace(manifest.segments[0].sha256.encode(), b"0" * 64)
    path.write_bytes(altered)
    lose_state(settings)
    buffer = await open_buffer()
    overview = await buffer.queries.overview()
    assert (overview.state, overview.holder, overview.digest) == ("FROZEN", "alice", frozen.digest)
    assert (settings.DTVOLROOT / "quarantine" / "MANIFEST.json").read_bytes() == altered
    assert not list(differences(settings.DATAROOT, read_manifest(settings.DATAROOT)))


@pytest.mark.parametrize("order", ["freeze", "flush"])
async def test_segments_that_a_catalog_changed_by_others_lacks_are_in_the_manifest(
    open_buffer: OpenBuffer, settings: BufferSettings, order: str
) -> None:
    buffer = await open_buffer()
    await store(buffer, 1, 2)
    with closing(sqlite3.connect(settings.ADMROOT / "catalog.sqlite")) as connection, connection:
        connection.execute("DELETE FROM segments")
    await store(buffer, 3)
    seal = buffer.batches.flush if order == "flush" else lambda: buffer.batches.freeze(ALICE)
    with pytest.raises(VolumeFailed, match=r"the catalog has 1 of 3 segments"):
        await seal()
    await seal()
    [path] = settings.DTVOLROOT.glob("*/MANIFEST.json")
    assert read_manifest(path.parent).n_itm == 3
    assert not list(differences(path.parent, read_manifest(path.parent)))


async def test_a_holder_can_thaw_though_files_that_are_only_replaced_cannot_be_written_to(
    open_buffer: OpenBuffer, settings: BufferSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = await open_buffer()
    await store(buffer, 1)
    await buffer.batches.freeze(ALICE)
    await buffer.close()
    names, access = {settings.ADMFNM, settings.DSST, ".data.batch.json"}, os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: access(path, mode) and not (mode & os.W_OK and Path(path).name in names)
    )
    buffer = await open_buffer()
    assert await buffer.batches.thaw(ThawOrder(ALICE.user, ALICE.token))


async def test_a_freeze_that_the_catalog_rejects_leaves_the_batch_open(
    open_buffer: OpenBuffer, settings: BufferSettings
) -> None:
    buffer = await open_buffer()
    await store(buffer, 1)
    path = settings.ADMROOT / "catalog.sqlite"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TRIGGER full BEFORE INSERT ON batches BEGIN SELECT RAISE(ABORT, 'full'); END")
    with pytest.raises(VolumeFailed, match="the catalog: full"):
        await buffer.batches.freeze(ALICE)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TRIGGER full")
    await store(buffer, 2)
    assert (await buffer.queries.overview()).state == "OPERATIONAL"
    assert not (settings.DATAROOT / "MANIFEST.json").exists()
    assert (await buffer.batches.freeze(BOB)).stats.n_itm == 2


@pytest.fixture
async def rotated(settings: BufferSettings) -> AsyncIterator[Buffer]:
    """A buffer with an archived, a frozen and a next batch, of one, three and two segments."""
    buffer = create_buffer(settings.model_copy(update={"ON_FROZEN": OnFrozen.ROTATE}))
    await buffer.open()
    await store(buffer, 10)
    await buffer.batches.flush()
    await store(buffer, 11, 12, 13)
    await buffer.batches.freeze(ALICE)
    await store(buffer, 14, 15)
    yield buffer
    await buffer.close()


@pytest.mark.parametrize("order", ["thaw", "flush"])
@pytest.mark.parametrize("name", [".data.batch.json", ".next.batch.json"])
@pytest.mark.parametrize("is_json", [False, True], ids=["not JSON", "of the archived batch"])
async def test_a_mark_that_is_damaged_while_the_buffer_runs_does_not_separate_segments_from_their_batch(  # noqa: PLR0913 (three are parameters)
    rotated: Buffer, settings: BufferSettings, open_buffer: OpenBuffer, order: str, name: str, *, is_json: bool
) -> None:
    archived, current, following = await rotated.queries.batches()
    stored = {row.name: row.batch for row in await rotated.queries.segments(SegmentFilter())}
    mark = msgspec.json.encode(BatchMark(archived.id, archived.opened))
    (settings.DTVOLROOT / name).write_bytes(mark if is_json else b"junk")
    if order == "thaw":
        assert await rotated.batches.thaw(ThawOrder(ALICE.user, ALICE.token)) == rotated.queries.stats
        expected = {each: current.id if batch == following.id else batch for each, batch in stored.items()}
    else:
        assert (await rotated.batches.flush()).stats.n_itm == 3
        expected = stored
    assert {row.name: row.batch for row in await rotated.queries.segments(SegmentFilter())} == expected
    assert rotated.queries.stats.n_itm == (5 if order == "thaw" else 2)
    await rotated.close()
    buffer = await open_buffer()
    assert {row.name: row.batch for row in await buffer.queries.segments(SegmentFilter())} == expected


@pytest.mark.parametrize("name", [".data.batch.json", ".next.batch.json"])
async def test_a_mark_of_the_archived_batch_is_replaced_at_start(
    rotated: Buffer, settings: BufferSettings, open_buffer: OpenBuffer, name: str
) -> None:
    archived = (await rotated.queries.batches())[0]
    stored = {row.name: row.batch for row in await rotated.queries.segments(SegmentFilter())}
    await rotated.close()
    (settings.DTVOLROOT / name).write_bytes(msgspec.json.encode(BatchMark(archived.id, archived.opened)))
    buffer = await open_buffer()
    assert {row.name: row.batch for row in await buffer.queries.segments(SegmentFilter())} == stored


@pytest.mark.parametrize("same", [False, True], ids=["swapped", "the same"])
async def test_marks_of_the_other_batch_are_replaced_at_start(
    rotated: Buffer, settings: BufferSettings, open_buffer: OpenBuffer, *, same: bool
) -> None:
    stored = {row.name: row.batch for row in await rotated.queries.segments(SegmentFilter())}
    await rotated.close()
    data, following = settings.DTVOLROOT / ".data.batch.json", settings.DTVOLROOT / ".next.batch.json"
    marks = data.read_bytes(), following.read_bytes()
    following.write_bytes(marks[0])
    if not same:
        data.write_bytes(marks[1])
    buffer = await open_buffer()
    assert {row.name: row.batch for row in await buffer.queries.segments(SegmentFilter())} == stored
    assert (await buffer.batches.thaw(ThawOrder(ALICE.user, ALICE.token))) == buffer.queries.stats
    assert buffer.queries.stats.n_itm == 5


async def test_a_next_batch_that_the_catalog_has_as_frozen_is_open_after_a_start(
    rotated: Buffer, settings: BufferSettings, open_buffer: OpenBuffer
) -> None:
    following = (await rotated.queries.batches())[-1]
    await rotated.close()
    with closing(sqlite3.connect(settings.ADMROOT / "catalog.sqlite")) as connection, connection:
        connection.execute(
            "UPDATE batches SET state = 'FROZEN', frozen = 1, holder = 'bob' WHERE id = ?", [following.id]
        )
    states = {row.id: row.state for row in await (await open_buffer()).queries.batches()}
    assert states[following.id] is BatchState.OPEN


async def test_a_data_folder_that_was_moved_away_is_named_and_taken_back(
    buffer: Buffer, settings: BufferSettings, open_buffer: OpenBuffer, caplog: pytest.LogCaptureFixture
) -> None:
    await store(buffer, 1, 2)
    batch = buffer.state.current.id
    await buffer.close()
    moved = settings.DATAROOT.rename(settings.DTVOLROOT.with_name("moved"))
    buffer = await open_buffer()
    assert f"the data folder with batch {batch} (OPEN) is missing" in caplog.text
    await store(buffer, 3)
    await buffer.close()
    for path in moved.iterdir():
        path.rename(settings.DATAROOT / path.name)
    assert (await open_buffer()).queries.stats.n_itm == 3


# ---- a folder that is replaced while the buffer runs


def replace(folder: Path) -> Path:
    away = folder.rename(folder.parent.with_name("away"))
    folder.mkdir()
    return away


def put_back(away: Path, folder: Path) -> None:
    folder.rmdir()  # still empty
    away.rename(folder)


async def test_nothing_is_stored_frozen_or_archived_while_another_folder_is_in_the_place_of_a_batch(
    rotated: Buffer, settings: BufferSettings, open_buffer: OpenBuffer, caplog: pytest.LogCaptureFixture
) -> None:
    async def check(folder: Path) -> None:
        """Check that nothing changes while a folder is replaced, and that it is used again when it is back."""
        before, away = rotated.state.open_batches, replace(folder)
        for order in (
            rotated.ingest.append(segment_body(99)),
            rotated.batches.freeze(ALICE),
            rotated.batches.thaw(ThawOrder(ALICE.user, ALICE.token)),
            rotated.batches.flush(),
            rotated.queries.check_ready(),
        ):
            with pytest.raises(VolumeFailed, match=f"the folder of the batch was replaced: {folder}$"):
                await order
        put_back(away, folder)
        await rotated.queries.check_ready()
        assert rotated.state.open_batches == before

    data, following = settings.DATAROOT, settings.DTVOLROOT / "next"
    await check(data)
    await check(following)
    await store(rotated, 16)
    await rotated.batches.flush()
    assert rotated.state.current.stats.n_itm == 3
    await check(data)  # it was the folder of the next batch
    await rotated.batches.freeze(ALICE)
    await store(rotated, 17)
    await rotated.batches.thaw(ThawOrder(ALICE.user, ALICE.token))
    await check(data)
    await rotated.batches.flush()
    await check(data)  # it is new
    await store(rotated, 18, 19)
    assert [line.message for line in caplog.records if "was replaced" in line.message] == [
        f"segments cannot be stored: the folder of the batch was replaced: {data}"
    ]
    replace(data)
    await rotated.close()
    buffer = await open_buffer()
    assert "2 segments are in the catalog, but not in data" in caplog.text
    caplog.clear()
    await store(buffer, 20, 21, 22)
    shutil.rmtree(data)
    data.mkdir()
    await store(buffer, 23)
    assert "3 segments are in the catalog, but not in data" in caplog.text
    assert buffer.state.current.stats.n_itm == 1
