"""Batches: sealed, verified, rotated, thawed, catalogued."""

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from databuffer.__main__ import main
from databuffer.app import create_buffer
from databuffer.buffer import Buffer
from databuffer.errors import BufferFrozen, NotFound, NotHolder, VolumeFailed
from databuffer.settings import BufferSettings, OnFrozen
from databuffer.storage.catalog import SegmentFilter
from gwwire.datastore import FreezeOrder
from gwwire.public import BatchState, DatastoreState, Stats, ThawOrder
from tests.support.forked import run_forked
from tests.support.segments import segment_body

pytestmark = pytest.mark.anyio
OpenBuffer = Callable[[], Awaitable[Buffer]]

ALICE = FreezeOrder("alice", "secret")


@pytest.fixture
async def rotating(settings: BufferSettings) -> AsyncIterator[Buffer]:
    buffer = create_buffer(settings.model_copy(update={"ON_FROZEN": OnFrozen.ROTATE}))
    await buffer.open()
    yield buffer
    await buffer.close()


@pytest.fixture
def environment(settings: BufferSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment of the commands to the volume of `settings`."""
    for name in ("DTVOLROOT", "DATAROOT", "ADMROOT", "LOGROOT"):
        monkeypatch.setenv(name, str(getattr(settings, name)))


async def fill(buffer: Buffer, count: int = 3) -> None:
    for number in range(count):
        meta = f'"meta":{{"channel":"{"HL"[number % 2]}1:STRAIN"}}'
        await buffer.ingest.append(f'{{"h":[{number}.0,0.5],"t":[{100 + number},0.5],{meta}}}'.encode())


def manifest_in(folder: Path) -> Any:
    return json.loads((folder / "MANIFEST.json").read_bytes())


async def test_freezing_seals_the_batch_with_a_manifest_of_every_segment(
    buffer: Buffer, settings: BufferSettings
) -> None:
    await fill(buffer)
    frozen = await buffer.batches.freeze(ALICE)
    manifest = manifest_in(settings.DATAROOT)
    assert (manifest["batch"], manifest["digest"], manifest["holder"]) == (frozen.batch, frozen.digest, "alice")
    assert (manifest["n_itm"], manifest["buff_size"]) == (3, buffer.queries.stats.buff_size)
    for number, entry in enumerate(manifest["segments"]):
        content = (settings.DATAROOT / entry["name"]).read_bytes()
        assert entry["size"] == len(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
        assert (entry["channel"], entry["t0"], entry["dt"], entry["n"]) == (
            f"{'HL'[number % 2]}1:STRAIN",
            100 + number,
            0.5,
            2,
        )


async def test_the_digest_can_be_checked_with_coreutils_alone(buffer: Buffer, settings: BufferSettings) -> None:
    await fill(buffer)
    frozen = await buffer.batches.freeze(ALICE)
    command = "LC_ALL=C sha256sum gwb*.json | sha256sum"
    listed = subprocess.run(command, shell=True, cwd=settings.DATAROOT, check=True, capture_output=True, text=True)  # noqa: ASYNC221, S602 (a fixed command)
    assert listed.stdout.split()[0] == frozen.digest


async def test_an_archive_is_sealed_even_if_it_was_never_frozen(buffer: Buffer) -> None:
    await fill(buffer)
    archived = await buffer.batches.flush()
    assert archived.folder
    assert manifest_in(archived.folder)["n_itm"] == 3
    assert main(["verify", str(archived.folder)]) == 0


def drop(folder: Path, name: str) -> None:
    (folder / name).unlink()


def alter(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes().replace(b"0.5", b"0.6"))


def cut_short(folder: Path, name: str) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:-3])


def add(folder: Path, name: str) -> None:
    shutil.copy(folder / name, folder / "gwb1.json")


def forge(folder: Path, _: str) -> None:
    path = folder / "MANIFEST.json"
    path.write_text(path.read_text().replace('"digest": "', '"digest": "0'))


@pytest.mark.parametrize("harm", [drop, alter, cut_short, add, forge])
async def test_verify_finds_every_change_of_an_archive(
    buffer: Buffer, capsys: pytest.CaptureFixture[str], harm: Callable[[Path, str], None]
) -> None:
    await fill(buffer)
    folder = (await buffer.batches.flush()).folder
    assert folder
    assert main(["verify", str(folder)]) == 0
    name = manifest_in(folder)["segments"][1]["name"]
    harm(folder, name)
    assert main(["verify", str(folder)]) == 1
    seen = capsys.readouterr().out
    assert {"add": "gwb1.json", "forge": "digest"}.get(harm.__name__, name) in seen


async def test_verify_needs_a_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path)]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


async def test_only_the_holder_can_thaw(buffer: Buffer, settings: BufferSettings) -> None:
    await fill(buffer)
    await buffer.batches.freeze(ALICE)
    for user, token in (("bob", "secret"), ("alice", "guess")):
        with pytest.raises(NotHolder):
            await buffer.batches.thaw(ThawOrder(user, token))
    assert buffer.queries.description.user == "alice"
    thawed = await buffer.batches.thaw(ThawOrder("alice", "secret"))
    assert thawed
    assert thawed.n_itm == 3
    assert buffer.queries.description.dstatus is DatastoreState.OPERATIONAL
    assert not (settings.DATAROOT / "MANIFEST.json").exists()
    await fill(buffer, 1)
    assert buffer.queries.stats.n_itm == 4
    assert await buffer.batches.thaw(ThawOrder("anybody", "")) is None


async def test_rotating_a_freeze_costs_no_data(rotating: Buffer, settings: BufferSettings) -> None:
    await fill(rotating, 3)
    frozen = await rotating.batches.freeze(ALICE)
    await fill(rotating, 2)
    stats = rotating.queries.stats
    assert (stats.n_itm, stats.next_n_itm) == (3, 2)
    assert stats.next_buff_size == sum(path.stat().st_size for path in (settings.DTVOLROOT / "next").iterdir())
    assert len(await rotating.queries.names()) == 3
    assert manifest_in(settings.DATAROOT)["digest"] == frozen.digest

    archived = await rotating.batches.flush()
    assert archived.folder
    assert len(list(archived.folder.glob("gwb*.json"))) == 3
    assert rotating.queries.stats == Stats(2, stats.next_buff_size or 0)
    assert len(list(settings.DATAROOT.iterdir())) == 2
    assert not (settings.DTVOLROOT / "next").exists()
    assert [json.loads(line)["name"] for line in await rotating.queries.log_lines()] == await rotating.queries.names()
    await fill(rotating, 1)
    assert rotating.queries.stats.n_itm == 3


async def test_a_thaw_moves_the_next_batchs_segments_into_the_current_batch(
    rotating: Buffer, settings: BufferSettings
) -> None:
    await fill(rotating, 3)
    await rotating.batches.freeze(ALICE)
    await fill(rotating, 2)
    await rotating.batches.thaw(ThawOrder("alice", "secret"))
    assert rotating.queries.stats.n_itm == 5 == len(list(settings.DATAROOT.iterdir()))
    assert rotating.queries.stats.next_n_itm is None
    assert len(await rotating.queries.names()) == 5 == len(await rotating.queries.log_lines())
    assert not (settings.DTVOLROOT / "next").exists()


async def test_rotating_survives_a_restart(rotating: Buffer, settings: BufferSettings) -> None:
    await fill(rotating, 3)
    await rotating.batches.freeze(ALICE)
    await fill(rotating, 2)
    stats = rotating.queries.stats
    await rotating.close()
    again = create_buffer(settings)
    await again.open()
    assert again.queries.stats == stats
    with pytest.raises(BufferFrozen):
        await fill(again, 1)
    await again.batches.flush()
    assert again.queries.stats.n_itm == 2
    await again.close()
    rotating.state.recover()


async def test_batches_are_listed_from_open_to_archived(buffer: Buffer) -> None:
    await fill(buffer)
    (opened,) = await buffer.queries.batches()
    assert (opened.state, opened.n_itm, opened.path) == (BatchState.OPEN, 3, "data")
    with pytest.raises(NotFound, match="OPEN"):
        await buffer.queries.manifest(opened.id)
    frozen = await buffer.batches.freeze(ALICE)
    assert (await buffer.queries.batch(opened.id)).digest == frozen.digest
    archived = await buffer.batches.flush()
    assert archived.folder
    first, second = await buffer.queries.batches()
    assert (first.id, first.state, first.path, first.holder) == (
        opened.id,
        BatchState.ARCHIVED,
        archived.folder.name,
        "alice",
    )
    assert (second.state, second.n_itm) == (BatchState.OPEN, 0)
    with await buffer.queries.manifest(first.id) as manifest:
        assert manifest.read() == (archived.folder / "MANIFEST.json").read_bytes()
    with pytest.raises(NotFound):
        await buffer.queries.batch("b0")


async def test_segments_are_found_by_batch_channel_and_span(buffer: Buffer) -> None:
    await fill(buffer, 4)
    first = (await buffer.queries.batches())[0].id
    await buffer.batches.flush()
    await fill(buffer, 2)

    async def found(**wanted: Any) -> list[float]:
        return [row.t0 for row in await buffer.queries.segments(SegmentFilter(**wanted))]

    assert await found() == [100, 101, 102, 103, 100, 101]
    assert await found(batch=first) == [100, 101, 102, 103]
    assert await found(channel="L1:STRAIN") == [101, 103, 101]
    assert await found(batch=first, start=101, stop=103) == [101, 102]
    assert await found(batch=first, start=100.999, stop=102.001) == [100, 101, 102]
    rows = await buffer.queries.segments(SegmentFilter(limit=4))
    assert await found(after=rows[-1].seq) == [100, 101]
    assert [row.seq for row in rows] == sorted({row.seq for row in rows})


async def test_a_segments_file_is_found_wherever_its_batch_is(buffer: Buffer) -> None:
    stored = await buffer.ingest.append(segment_body(7))
    content = await read(buffer, stored.name)
    assert (await buffer.queries.segment(stored.name)).sha256 == hashlib.sha256(content).hexdigest()
    folder = (await buffer.batches.flush()).folder
    assert await read(buffer, stored.name) == content
    with pytest.raises(NotFound):
        await buffer.queries.segment_file("gwb1.json")
    assert folder
    (folder / stored.name).unlink()
    with pytest.raises(NotFound):
        await buffer.queries.segment_file(stored.name)
    assert (await buffer.queries.overview()).ready


async def read(buffer: Buffer, name: str) -> bytes:
    with await buffer.queries.segment_file(name) as file:
        return file.read()


async def test_a_reader_finds_every_file_while_batches_are_archived(rotating: Buffer) -> None:
    for number in range(10):
        stored = await rotating.ingest.append(segment_body(number))
        batch = (await rotating.batches.freeze(ALICE)).batch
        await rotating.ingest.append(segment_body(number + 100))
        reading = [asyncio.create_task(read(rotating, stored.name)) for _ in range(8)]
        manifests = [asyncio.create_task(rotating.queries.manifest(batch)) for _ in range(2)]
        await rotating.batches.flush()
        assert len(set(await asyncio.gather(*reading))) == 1
        for each in manifests:
            (await each).close()


async def test_a_lost_catalog_is_made_again_from_the_volume(open_buffer: OpenBuffer, settings: BufferSettings) -> None:
    buffer = await open_buffer()
    await fill(buffer, 3)
    await buffer.batches.flush()
    await fill(buffer, 2)
    batches, segments = await buffer.queries.batches(), await buffer.queries.segments(SegmentFilter())
    await buffer.close()
    for path in settings.ADMROOT.glob("catalog.sqlite*"):
        path.unlink()
    buffer = await open_buffer()
    again = await buffer.queries.batches()
    assert [(row.id, row.state, row.n_itm, row.path, row.digest) for row in again] == [
        (row.id, row.state, row.n_itm, row.path, row.digest) for row in batches
    ]
    assert [
        (row.name, row.batch, row.sha256, row.channel, row.t0, row.dt, row.n)
        for row in await buffer.queries.segments(SegmentFilter())
    ] == [(row.name, row.batch, row.sha256, row.channel, row.t0, row.dt, row.n) for row in segments]


async def test_a_catalog_that_is_no_longer_a_database_is_rebuilt(
    open_buffer: OpenBuffer, settings: BufferSettings
) -> None:
    buffer = await open_buffer()
    await fill(buffer, 3)
    await buffer.close()
    for path in settings.ADMROOT.glob("catalog.sqlite*"):
        path.write_bytes(b"these are no pages of a database" * 200)
    buffer = await open_buffer()
    assert len(await buffer.queries.segments(SegmentFilter())) == 3 == buffer.queries.stats.n_itm


async def test_an_archive_that_was_moved_off_the_volume_is_removed_from_the_catalog(open_buffer: OpenBuffer) -> None:
    buffer = await open_buffer()
    await fill(buffer)
    folder = (await buffer.batches.flush()).folder
    assert folder
    await buffer.close()
    shutil.rmtree(folder)
    buffer = await open_buffer()
    assert [row.state for row in await buffer.queries.batches()] == [BatchState.OPEN]
    assert await buffer.queries.segments(SegmentFilter()) == []


@pytest.mark.usefixtures("environment")
async def test_a_second_buffer_on_the_same_volume_refuses_to_start(buffer: Buffer, settings: BufferSettings) -> None:
    with pytest.raises(VolumeFailed, match="another buffer"):
        await create_buffer(settings).open()
    started = run_forked(["databuffer"], os.environ)
    assert started.returncode == 1
    assert len(started.stderr.splitlines()) == 1
    assert "another buffer (process" in started.stderr
    await fill(buffer, 1)


@pytest.mark.usefixtures("environment")
async def test_fsck_finds_nothing_on_a_sound_volume(
    open_buffer: OpenBuffer, capsys: pytest.CaptureFixture[str]
) -> None:
    buffer = await open_buffer()
    await fill(buffer)
    await buffer.batches.flush()
    await fill(buffer)
    await buffer.close()
    assert main(["fsck"]) == 0
    assert capsys.readouterr().out == "everything agrees\n"


@pytest.mark.usefixtures("environment")
async def test_fsck_lists_and_repairs_differences(
    open_buffer: OpenBuffer, settings: BufferSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    buffer = await open_buffer()
    await fill(buffer, 6)
    await buffer.close()
    lost, altered, short, *_ = sorted(settings.DATAROOT.iterdir())
    lost.unlink()
    altered.write_bytes(altered.read_bytes().replace(b"0.5", b"0.6"))
    short.write_bytes(short.read_bytes()[:-5])
    (settings.DATAROOT / "gwb1.json").write_bytes(b'{"h":[1.0],"t":[0,1]}')
    (settings.DTVOLROOT / ".incoming" / "0.json").write_bytes(b"half")
    (settings.ADMROOT / settings.ADMFNM).write_bytes(b"")
    (settings.ADMROOT / settings.DSST).unlink()

    assert main(["fsck"]) == 1
    seen = capsys.readouterr().out
    for word in (lost.name, altered.name, short.name, "gwb1.json", "0.json", "counts", "state"):
        assert word in seen
    assert altered.exists()

    assert main(["fsck", "--repair"]) == 0
    assert main(["fsck"]) == 0
    quarantined = {path.name for path in (settings.DTVOLROOT / "quarantine").iterdir()}
    assert {altered.name, short.name, "0.json", f"{altered.name}.reason"} <= quarantined
    buffer = await open_buffer()
    assert buffer.queries.stats.n_itm == 4 == len(list(settings.DATAROOT.iterdir()))


@pytest.mark.usefixtures("environment", "buffer")
async def test_fsck_leaves_a_running_buffers_volume_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fsck", "--repair"]) == 1
    assert "another buffer" in capsys.readouterr().err
