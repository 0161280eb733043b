"""Two folders that claim one batch id, as after a copy or a restore: both are served, and nothing is deleted."""

import itertools
import os
import shutil
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from databuffer.__main__ import main
from databuffer.app import create_buffer, create_store
from databuffer.buffer import Buffer
from databuffer.settings import BufferSettings, OnFrozen
from databuffer.storage.catalog import SegmentFilter
from databuffer.storage.catalog.batches import Batches
from databuffer.storage.manifest import read_manifest
from databuffer.storage.marks import BatchMark, Marks
from databuffer.storage.recovery import recover
from databuffer.storage.volume import Volume as DataVolume
from gwwire.datastore import FreezeOrder
from gwwire.manifest import encode_manifest, seal
from gwwire.public import BatchState, ThawOrder
from tests.support.segments import segment_body

pytestmark = pytest.mark.anyio
OpenBuffer = Callable[[], Awaitable[Buffer]]
ALICE = FreezeOrder("alice", "secret")


@dataclass(frozen=True)
class Volume:
    """The folders of an archived, a frozen and a next batch, of five, three and two segments, and their ids."""

    root: Path
    archive: Path
    ids: tuple[str, str, str]

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def next(self) -> Path:
        return self.root / "next"

    def mark(self, folder: Path, batch: str) -> None:
        (self.root / f".{folder.name}.batch.json").write_bytes(msgspec.json.encode(BatchMark(batch, 1)))


@pytest.fixture
def settings(settings: BufferSettings, monkeypatch: pytest.MonkeyPatch) -> BufferSettings:
    for name in ("DTVOLROOT", "DATAROOT", "ADMROOT", "LOGROOT"):
        monkeypatch.setenv(name, str(getattr(settings, name)))
    return settings.model_copy(update={"ON_FROZEN": OnFrozen.ROTATE})


@pytest.fixture
async def used(settings: BufferSettings) -> Volume:
    """Leave such a volume as after a clean stop; each segment has an Idempotency-Key."""
    buffer = create_buffer(settings)
    await buffer.open()
    for number in range(10):
        await buffer.ingest.append(segment_body(number), f"key {number}")
        if number == 4:
            archive = (await buffer.batches.flush()).folder
        if number == 7:
            await buffer.batches.freeze(ALICE)
    first, second, third = [batch.id for batch in await buffer.queries.batches()]
    await buffer.close()
    assert archive
    return Volume(settings.DTVOLROOT, archive, (first, second, third))


def copy(source: Path, target: Path, *, at_most: int = 9) -> None:
    """Copy the manifest of a batch and some of its first segments, as an operator does."""
    target.mkdir(exist_ok=True)
    manifest = [source / "MANIFEST.json"] if (source / "MANIFEST.json").exists() else []
    for path in [*sorted(source.glob("gwb*"))[:at_most], *manifest]:
        shutil.copy2(path, target / path.name)


def restore_archive_as_data(volume: Volume, at_most: int = 9) -> None:
    shutil.rmtree(volume.next)
    shutil.rmtree(volume.data)
    copy(volume.archive, volume.data, at_most=at_most)
    volume.mark(volume.data, volume.ids[0])


def data_is_an_open_older_state(volume: Volume) -> None:
    restore_archive_as_data(volume, 3)
    (volume.data / "MANIFEST.json").unlink()


def data_is_a_frozen_older_state(volume: Volume) -> None:
    restore_archive_as_data(volume, 3)
    whole = read_manifest(volume.archive)
    older = seal(batch=whole.batch, opened=whole.opened, sealed=whole.sealed, holder="bob", segments=whole.segments[:3])
    (volume.data / "MANIFEST.json").write_bytes(encode_manifest(older))


def data_is_a_copy_of_the_archive(volume: Volume) -> None:
    restore_archive_as_data(volume)


def data_has_grown_since_the_archive_was_copied(volume: Volume) -> None:
    data_is_an_open_older_state(volume)
    (volume.data / f"gwb{2 * 10**18}.json").write_bytes(segment_body(99))


def next_is_an_older_state_of_the_archive(volume: Volume) -> None:
    copy(volume.archive, volume.next, at_most=3)
    volume.mark(volume.next, volume.ids[0])


def next_is_a_copy_of_data(volume: Volume) -> None:
    copy(volume.data, volume.next)
    volume.mark(volume.next, volume.ids[1])


def data_has_the_manifest_of_the_archive(volume: Volume) -> None:
    shutil.copy2(volume.archive / "MANIFEST.json", volume.data)


def next_has_the_manifest_of_the_archive(volume: Volume) -> None:
    shutil.copy2(volume.archive / "MANIFEST.json", volume.next)


def next_has_the_manifest_of_data(volume: Volume) -> None:
    shutil.copy2(volume.data / "MANIFEST.json", volume.next)


def data_has_the_mark_of_the_archive(volume: Volume) -> None:
    (volume.data / "MANIFEST.json").unlink()
    volume.mark(volume.data, volume.ids[0])


def next_has_the_mark_of_the_archive(volume: Volume) -> None:
    volume.mark(volume.next, volume.ids[0])


def next_has_the_mark_of_data(volume: Volume) -> None:
    volume.mark(volume.next, volume.ids[1])


def the_folders_of_data_and_next_are_swapped(volume: Volume) -> None:
    aside = volume.data.rename(volume.root / "aside")
    volume.next.rename(volume.data)
    aside.rename(volume.next)


def a_later_copy_is_beside_the_archive(volume: Volume) -> None:
    copy(volume.archive, volume.root / "2999-01-01 00 00")


def an_earlier_copy_is_beside_the_archive(volume: Volume) -> None:
    copy(volume.archive, volume.root / "2001-01-01 00 00")


def an_earlier_copy_with_some_of_the_segments_is_beside_the_archive(volume: Volume) -> None:
    copy(volume.archive, volume.root / "2001-01-01 00 00", at_most=2)


def an_earlier_copy_without_a_segment_is_beside_the_archive(volume: Volume) -> None:
    copy(volume.archive, volume.root / "2001-01-01 00 00", at_most=0)


def an_archive_of_others_has_the_manifest_of_the_archive(volume: Volume) -> None:
    other = volume.root / "2001-01-01 00 00"
    other.mkdir()
    (other / "gwb17.json").write_bytes(segment_body(17))
    shutil.copy2(volume.archive / "MANIFEST.json", other)


def two_copies_and_an_older_state_are_on_the_volume(volume: Volume) -> None:
    a_later_copy_is_beside_the_archive(volume)
    an_earlier_copy_is_beside_the_archive(volume)
    data_is_an_open_older_state(volume)


def copies_of_two_moments_are_mixed(volume: Volume) -> None:
    """Leave what a copy over an earlier copy leaves: between the two, the frozen batch was archived."""
    later = volume.root / "2999-01-01 00 00"
    copy(volume.data, later)
    copy(volume.next, volume.data)
    volume.mark(volume.data, volume.ids[2])


CASES: list[Callable[[Volume], None]] = [
    data_is_an_open_older_state,
    data_is_a_frozen_older_state,
    data_is_a_copy_of_the_archive,
    data_has_grown_since_the_archive_was_copied,
    next_is_an_older_state_of_the_archive,
    next_is_a_copy_of_data,
    data_has_the_manifest_of_the_archive,
    next_has_the_manifest_of_the_archive,
    next_has_the_manifest_of_data,
    data_has_the_mark_of_the_archive,
    next_has_the_mark_of_the_archive,
    next_has_the_mark_of_data,
    the_folders_of_data_and_next_are_swapped,
    a_later_copy_is_beside_the_archive,
    an_earlier_copy_is_beside_the_archive,
    an_earlier_copy_with_some_of_the_segments_is_beside_the_archive,
    an_earlier_copy_without_a_segment_is_beside_the_archive,
    an_archive_of_others_has_the_manifest_of_the_archive,
    two_copies_and_an_older_state_are_on_the_volume,
    copies_of_two_moments_are_mixed,
]


def keep_the_catalog(_: BufferSettings) -> None:
    """Change nothing."""


def lose_the_catalog(settings: BufferSettings) -> None:
    (settings.ADMROOT / "catalog.sqlite").unlink()


def lose_everything_derived(settings: BufferSettings) -> None:
    shutil.rmtree(settings.ADMROOT)
    shutil.rmtree(settings.LOGROOT)
    shutil.rmtree(settings.DTVOLROOT / ".ledger")


def touch(root: Path) -> None:
    """Make the next start compare files and rows, as after a crash."""
    os.utime(root, ns=(1, 1))


def contents(root: Path) -> list[bytes]:
    """Return the different contents of segments and manifests anywhere on the volume."""
    names = ("gwb*.json", "MANIFEST.json*")
    found = {path.read_bytes() for name in names for path in root.rglob(name) if path.suffix != ".reason"}
    return sorted(found)


def segments(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.rglob("gwb*.json")}


async def served(buffer: Buffer, names: Iterable[str]) -> dict[str, bytes]:
    found = {}
    for name in names:
        with await buffer.queries.segment_file(name) as file:
            found[name] = file.read()
    return found


async def rows_of(buffer: Buffer, batch: str) -> set[str]:
    return {row.name for row in await buffer.queries.segments(SegmentFilter(batch=batch))}


@pytest.mark.parametrize("lose", [keep_the_catalog, lose_the_catalog, lose_everything_derived])
@pytest.mark.parametrize("mix", CASES)
async def test_every_segment_of_two_folders_with_one_batch_id_is_served_and_the_archive_keeps_its_id(
    open_buffer: OpenBuffer,
    settings: BufferSettings,
    used: Volume,
    mix: Callable[[Volume], None],
    lose: Callable[[BufferSettings], None],
) -> None:
    of_archive = {entry.name for entry in read_manifest(used.archive).segments}
    mix(used)
    lose(settings)
    stored, before = segments(used.root), contents(used.root)
    seen = []
    for _ in range(3):
        buffer = await open_buffer()
        assert await served(buffer, stored) == stored
        batches = await buffer.queries.batches()
        [archive] = [batch for batch in batches if batch.id == used.ids[0]]
        assert (archive.state, archive.n_itm) == (BatchState.ARCHIVED, 5)
        assert await rows_of(buffer, archive.id) == of_archive
        for batch in batches:
            names = await rows_of(buffer, batch.id)
            assert all((used.root / batch.path / name).exists() for name in names)
            assert len(names) == batch.n_itm
        assert len({batch.path for batch in batches}) == len(batches)
        seen.append([(batch.id, batch.state, batch.n_itm) for batch in batches])
        assert set(contents(used.root)) >= set(before)
        await buffer.close()
        touch(used.root)
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.parametrize("mix", CASES)
async def test_fsck_finds_two_folders_with_one_batch_id_and_repairs_them(
    used: Volume, mix: Callable[[Volume], None], capsys: pytest.CaptureFixture[str]
) -> None:
    mix(used)
    before = contents(used.root)
    assert main(["fsck"]) == 1
    *found, _ = capsys.readouterr().out.splitlines()
    assert contents(used.root) == before
    is_left = main(["fsck", "--repair"])
    *repaired, _ = capsys.readouterr().out.splitlines()
    assert len(repaired) == len(found)
    assert all(after.removeprefix("repaired: ").startswith(line) for line, after in zip(found, repaired, strict=True))
    assert main(["fsck"]) == is_left


@pytest.mark.parametrize("lose", [keep_the_catalog, lose_the_catalog, lose_everything_derived])
@pytest.mark.parametrize(
    ("mix", "place"),
    [
        (data_is_an_open_older_state, "data"),
        (data_is_a_frozen_older_state, "data"),
        (data_is_a_copy_of_the_archive, "data"),
        (next_is_an_older_state_of_the_archive, "next"),
    ],
)
async def test_one_line_names_the_archive_and_the_older_state_of_its_batch(  # noqa: PLR0913, PLR0917 (three are parameters)
    open_buffer: OpenBuffer,
    settings: BufferSettings,
    used: Volume,
    caplog: pytest.LogCaptureFixture,
    mix: Callable[[Volume], None],
    place: str,
    lose: Callable[[BufferSettings], None],
) -> None:
    mix(used)
    lose(settings)
    buffer = await open_buffer()
    lines = [record.getMessage() for record in caplog.records if used.ids[0] in record.getMessage()]
    assert len(lines) == 1
    assert lines[0].startswith(
        f"repaired: batch {used.ids[0]} is in archive {used.archive.name!r} and in {place}; the one in {place} "
    )
    await buffer.close()


async def test_idempotency_keys_of_an_archive_outlive_an_older_state_in_data(
    open_buffer: OpenBuffer, used: Volume
) -> None:
    data_is_an_open_older_state(used)
    buffer = await open_buffer()
    names = sorted(entry.name for entry in read_manifest(used.archive).segments)
    assert [(await buffer.ingest.append(segment_body(number), f"key {number}")).name for number in range(5)] == names


@pytest.mark.parametrize("lose", [keep_the_catalog, lose_the_catalog])
async def test_a_foreign_manifest_in_data_does_not_end_the_freeze(
    open_buffer: OpenBuffer, settings: BufferSettings, used: Volume, lose: Callable[[BufferSettings], None]
) -> None:
    digest = read_manifest(used.data).digest
    data_has_the_manifest_of_the_archive(used)
    lose(settings)
    buffer = await open_buffer()
    [frozen] = [batch for batch in await buffer.queries.batches() if batch.state is BatchState.FROZEN]
    assert (frozen.id, frozen.holder, frozen.n_itm, frozen.digest) == (used.ids[1], "alice", 3, digest)


async def test_a_thaw_keeps_both_of_two_files_with_one_name(open_buffer: OpenBuffer, used: Volume) -> None:
    next_is_a_copy_of_data(used)
    twin = min(used.data.glob("gwb*")).name
    (used.next / twin).write_bytes(segment_body(77))
    buffer = await open_buffer()
    await buffer.batches.thaw(ThawOrder(ALICE.user, ALICE.token))
    assert buffer.queries.stats.n_itm == 5
    assert segment_body(77) in [path.read_bytes() for path in (used.root / "quarantine").iterdir()]
    await buffer.close()
    touch(used.root)
    assert (await open_buffer()).queries.stats.n_itm == 5


async def test_an_archive_that_was_renamed_keeps_its_id(open_buffer: OpenBuffer, used: Volume) -> None:
    used.archive.rename(used.root / "2001-01-01 00 00")
    buffer = await open_buffer()
    first = (await buffer.queries.batches())[0]
    assert (first.id, first.path, first.n_itm) == (used.ids[0], "2001-01-01 00 00", 5)


@pytest.mark.parametrize("grown", [False, True], ids=["older", "grown since"])
async def test_an_older_data_folder_with_its_admroot_gets_another_id_and_its_keys_stay(
    open_buffer: OpenBuffer, settings: BufferSettings, tmp_path: Path, *, grown: bool
) -> None:
    buffer = await open_buffer()
    first = [(await buffer.ingest.append(segment_body(number), f"key {number}")).name for number in range(2)]
    batch = buffer.state.current.id
    await buffer.close()
    shutil.copytree(settings.DTVOLROOT, tmp_path / "older")
    shutil.copytree(settings.ADMROOT, tmp_path / "adm")
    buffer = await open_buffer()
    first.append((await buffer.ingest.append(segment_body(2), "key 2")).name)
    archive = (await buffer.batches.flush()).folder
    await buffer.close()
    assert archive
    kept = archive.rename(tmp_path / archive.name)
    for folder, copied in ((settings.DTVOLROOT, "older"), (settings.ADMROOT, "adm")):
        shutil.rmtree(folder)
        (tmp_path / copied).rename(folder)
    if grown:
        buffer = await open_buffer()
        first.append((await buffer.ingest.append(segment_body(3), "key 3")).name)
        await buffer.close()
    kept.rename(archive)
    buffer = await open_buffer()
    numbers = [0, 1, 3] if grown else [0, 1]
    again = [(await buffer.ingest.append(segment_body(number), f"key {number}")).name for number in numbers]
    assert again == [first[0], first[1], *first[3:]]
    assert {row.state: row.n_itm for row in await buffer.queries.batches()} == {
        BatchState.ARCHIVED: 3,
        BatchState.OPEN: len(numbers),
    }
    assert await rows_of(buffer, batch) == set(first[:3])
    assert (await served(buffer, first)).keys() == set(first)


async def test_archiving_that_stopped_before_the_next_batch_without_a_mark_leaves_the_archive_its_id(
    open_buffer: OpenBuffer, used: Volume
) -> None:
    later = used.data.rename(used.root / "2999-01-01 00 00")
    (used.root / ".next.batch.json").unlink()
    buffer = await open_buffer()
    states = {row.path: (row.state, row.n_itm) for row in await buffer.queries.batches()}
    assert states[later.name] == (BatchState.ARCHIVED, 3)
    assert states["data"] == (BatchState.OPEN, 2)
    assert await served(buffer, segments(used.root)) == segments(used.root)


class Killed(BaseException):
    """The end of the process."""


#: The calls between which a start can be cut short.
CALLS: list[tuple[type, str]] = [
    *((Batches, name) for name in ("put", "drop", "merge")),
    (Marks, "write"),
    *((DataVolume, name) for name in ("set_aside", "discard", "merge_next", "close_next")),
]


def start_and_die(settings: BufferSettings, at: int) -> bool:
    """Recover until the call with the number `at`; return whether there was one."""
    calls = itertools.count()

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **named: Any) -> Any:
            if next(calls) == at:
                raise Killed
            return call(*args, **named)

        return wrapper

    with pytest.MonkeyPatch.context() as patch, closing(create_store(settings)) as store:
        for owner, name in CALLS:
            patch.setattr(owner, name, counted(getattr(owner, name)))
        try:
            deque(recover(store), maxlen=0)
        except Killed:
            return True
    return False


@pytest.mark.parametrize("lose", [keep_the_catalog, lose_everything_derived])
@pytest.mark.parametrize("mix", CASES)
async def test_a_start_cut_short_while_it_separates_two_batches_loses_nothing(  # noqa: PLR0913, PLR0917 (two are parameters)
    open_buffer: OpenBuffer,
    settings: BufferSettings,
    used: Volume,
    tmp_path: Path,
    mix: Callable[[Volume], None],
    lose: Callable[[BufferSettings], None],
) -> None:
    mix(used)
    lose(settings)
    stored, before = segments(used.root), contents(used.root)
    folders = [folder for folder in (used.root, settings.ADMROOT, settings.LOGROOT) if folder.exists()]
    for folder in folders:
        shutil.copytree(folder, tmp_path / "copy" / folder.name)
    for at in itertools.count():
        for folder in (used.root, settings.ADMROOT, settings.LOGROOT):
            shutil.rmtree(folder) if folder.exists() else None
        for folder in folders:
            shutil.copytree(tmp_path / "copy" / folder.name, folder)
        was_killed = start_and_die(settings, at)
        buffer = await open_buffer()
        assert await served(buffer, stored) == stored
        states = {batch.id: (batch.state, batch.n_itm) for batch in await buffer.queries.batches()}
        assert states[used.ids[0]] == (BatchState.ARCHIVED, 5)
        assert set(contents(used.root)) >= set(before)
        await buffer.close()
        if not was_killed:
            break
    assert at
