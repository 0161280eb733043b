import asyncio
import errno
import json
import os
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

import pytest

from databuffer.app import create_buffer
from databuffer.buffer import Buffer
from databuffer.errors import BatchChanged, BufferFrozen, NotFound, QueueFull, VolumeFailed, VolumeFull
from databuffer.fingerprint import matches
from databuffer.settings import BufferSettings
from gwwire.datastore import FreezeOrder
from gwwire.problems import ProblemError
from gwwire.public import DatastoreState, Stats
from gwwire.segment import InvalidSegment
from tests.support.foreign import FOREIGN
from tests.support.segments import segment_body

pytestmark = pytest.mark.anyio
OpenBuffer = Callable[[], Awaitable[Buffer]]

ALICE = FreezeOrder("alice", "secret")


def written_stats(settings: BufferSettings) -> Stats:
    seen = json.loads((settings.ADMROOT / settings.ADMFNM).read_bytes())
    assert list(seen) == ["n_itm", "buff_size"]
    return Stats(**seen)


def files(settings: BufferSettings) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in settings.DATAROOT.iterdir() if path.name != "MANIFEST.json"}


def archives(settings: BufferSettings) -> list[Path]:
    return sorted(path for path in settings.DTVOLROOT.iterdir() if path.name[0] == "2")


async def test_a_stored_segment_is_a_file_with_its_very_bytes(buffer: Buffer, settings: BufferSettings) -> None:
    body = b'{"h":[1.5,-2.25e-21],"t":[1126259462.0,0.000244140625],"meta":{"channel":"L1:STRAIN"}}'
    stored = await buffer.ingest.append(body)
    assert files(settings) == {stored.name: body}
    assert stored.size == len(body)
    assert stored.name.startswith("gwb")


async def test_reported_counts_stored_counts_and_files_agree_after_every_answer(
    buffer: Buffer, settings: BufferSettings
) -> None:
    for number in range(20):
        await buffer.ingest.append(segment_body(number, samples=number + 1))
        expected = Stats(number + 1, sum(len(content) for content in files(settings).values()))
        assert buffer.queries.stats == expected == written_stats(settings)


@pytest.mark.parametrize("kind", [*FOREIGN, "a shorter file"])
async def test_what_is_in_the_place_of_a_segment_is_not_served(
    buffer: Buffer, settings: BufferSettings, kind: str
) -> None:
    name = (await buffer.ingest.append(segment_body(1))).name
    (await buffer.queries.segment_file(name)).close()
    (settings.DATAROOT / name).unlink()
    FOREIGN.get(kind, Path.touch)(settings.DATAROOT / name)
    with pytest.raises(NotFound, match="is missing, or is not what was stored"):
        await buffer.queries.segment_file(name)


async def test_names_come_in_the_order_of_storing(buffer: Buffer, settings: BufferSettings) -> None:
    stored = [(await buffer.ingest.append(segment_body(number))).name for number in range(5)]
    assert await buffer.queries.names() == stored == sorted(stored)
    assert set(stored) == set(files(settings))


async def test_segments_that_wait_together_all_get_their_own_file(buffer: Buffer, settings: BufferSettings) -> None:
    stored = await asyncio.gather(*(buffer.ingest.append(segment_body(number)) for number in range(100)))
    assert len({each.name for each in stored}) == 100
    content = files(settings)
    for number, each in enumerate(stored):
        assert json.loads(content[each.name])["h"][0] == number
    assert buffer.queries.stats.n_itm == 100


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(settings: BufferSettings) -> None:
    buffer = create_buffer(settings.model_copy(update={"WCHSZ": 4}))
    await buffer.open()
    outcomes = await asyncio.gather(*(buffer.ingest.append(segment_body(n)) for n in range(10)), return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, QueueFull)]
    assert len(refused) == 6
    assert all(each.retry_after for each in refused)
    assert buffer.queries.stats.n_itm == 4 == len(files(settings))
    await buffer.ingest.append(segment_body(11))
    await buffer.close()


async def test_the_log_has_a_line_for_each_segment_in_the_original_format(
    buffer: Buffer, settings: BufferSettings
) -> None:
    stored = await buffer.ingest.append(segment_body(1))
    (line,) = (settings.LOGROOT / settings.LOGSTREAM).read_text().splitlines()
    entry = json.loads(line)
    assert list(entry) == ["level", "id", "size", "name", "time", "message"]
    assert entry["name"] == stored.name
    assert entry["size"] == stored.size
    assert entry["message"] == "Write file"
    assert abs((datetime.now(UTC) - datetime.fromisoformat(entry["time"])).total_seconds()) < 60
    assert await buffer.queries.log_lines() == [line.encode()]


@pytest.mark.parametrize("body", [b"", b"{}", b'{"h":[NaN],"t":[0,1]}'])
async def test_a_bad_segment_leaves_no_trace(buffer: Buffer, settings: BufferSettings, body: bytes) -> None:
    with pytest.raises(ProblemError):
        await buffer.ingest.append(body)
    assert files(settings) == {}
    assert list((settings.DTVOLROOT / ".incoming").iterdir()) == []
    assert buffer.queries.stats == Stats(0, 0) == written_stats(settings)


async def test_a_frozen_batch_takes_nothing_and_keeps_its_counts(buffer: Buffer, settings: BufferSettings) -> None:
    await buffer.ingest.append(segment_body(1))
    frozen = await buffer.batches.freeze(ALICE)
    assert frozen.stats == buffer.queries.stats == Stats(1, len(segment_body(1).replace(b" ", b"")))
    assert frozen.holder == "alice"
    with pytest.raises(BufferFrozen, match="alice"):
        await buffer.ingest.append(segment_body(2))
    assert buffer.queries.stats == frozen.stats == written_stats(settings)
    assert len(files(settings)) == 1


async def test_the_state_file_has_the_original_format(buffer: Buffer, settings: BufferSettings) -> None:
    path = settings.ADMROOT / settings.DSST
    assert json.loads(path.read_bytes()) == {"dstatus": "OPERATIONAL", "user": "", "token": ""}
    await buffer.batches.freeze(ALICE)
    frozen = json.loads(path.read_bytes())
    assert list(frozen) == ["dstatus", "user", "token"]
    assert (frozen["dstatus"], frozen["user"]) == ("FROZEN", "alice")
    assert matches(frozen["token"], "secret")
    assert b"secret" not in path.read_bytes()
    await buffer.batches.flush()
    assert json.loads(path.read_bytes()) == {"dstatus": "OPERATIONAL", "user": "", "token": ""}


async def test_a_freeze_by_another_user_never_replaces_the_holder(buffer: Buffer) -> None:
    await buffer.ingest.append(segment_body(1))
    first = await buffer.batches.freeze(ALICE)
    assert await buffer.batches.freeze(FreezeOrder("bob", "other")) == first
    assert await buffer.batches.freeze(ALICE) == first
    assert (buffer.queries.description.dstatus, buffer.queries.description.user) == (DatastoreState.FROZEN, "alice")
    assert matches(buffer.queries.description.token, "secret")


async def test_a_freeze_meant_for_a_batch_that_is_gone_is_refused(buffer: Buffer) -> None:
    stored = await buffer.ingest.append(segment_body(1))
    await buffer.batches.flush()
    with pytest.raises(BatchChanged):
        await buffer.batches.freeze(FreezeOrder("alice", "secret", at_least=stored.size))
    assert buffer.queries.description.dstatus is DatastoreState.OPERATIONAL


async def test_a_freeze_has_its_place_among_the_segments(buffer: Buffer) -> None:
    before = [asyncio.create_task(buffer.ingest.append(segment_body(number))) for number in range(10)]
    await asyncio.sleep(0)
    freeze = asyncio.create_task(buffer.batches.freeze(ALICE))
    await asyncio.sleep(0)
    after = [asyncio.create_task(buffer.ingest.append(segment_body(number))) for number in range(10)]
    assert (await freeze).stats.n_itm == 10
    assert len(await asyncio.gather(*before)) == 10
    refused = await asyncio.gather(*after, return_exceptions=True)
    assert all(isinstance(each, BufferFrozen) for each in refused)


async def test_archiving_moves_the_batch_with_its_log_and_begins_an_empty_one(
    buffer: Buffer, settings: BufferSettings
) -> None:
    await buffer.ingest.append(segment_body(1))
    before, log = files(settings), (settings.LOGROOT / settings.LOGSTREAM).read_bytes()
    await buffer.batches.freeze(ALICE)
    archived = await buffer.batches.flush()
    (folder,) = archives(settings)
    assert archived.folder == folder
    datetime.strptime(folder.name, "%Y-%m-%d %H %M").replace(tzinfo=UTC)
    manifest = (folder / "MANIFEST.json").read_bytes()
    metadata = {settings.LOGSTREAM: log, "MANIFEST.json": manifest}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {**before, **metadata}
    assert files(settings) == {}
    assert (settings.LOGROOT / settings.LOGSTREAM).read_bytes() == b""
    assert buffer.queries.stats == Stats(0, 0) == written_stats(settings)
    assert buffer.queries.description.dstatus is DatastoreState.OPERATIONAL
    await buffer.ingest.append(segment_body(2))
    assert buffer.queries.stats.n_itm == 1


async def test_archiving_works_any_number_of_times_in_one_minute(buffer: Buffer, settings: BufferSettings) -> None:
    folders = []
    for number in range(12):
        await buffer.ingest.append(segment_body(number))
        folders.append((await buffer.batches.flush()).folder)
    assert len(set(folders)) == 12 == len(archives(settings))
    assert all(len(list(folder.glob("gwb*.json"))) == 1 for folder in archives(settings))
    assert any(folder.name.endswith(" 2") for folder in archives(settings))


async def test_an_empty_batch_is_cleaned_without_an_archive(buffer: Buffer, settings: BufferSettings) -> None:
    await buffer.batches.freeze(ALICE)
    assert (await buffer.batches.flush()).folder is None
    assert archives(settings) == []
    assert buffer.queries.description.dstatus is DatastoreState.OPERATIONAL
    assert buffer.state.events[-1].detail == "there was nothing to archive"


@pytest.mark.parametrize("setting", ["DTVOLROOT", "ADMROOT", "LOGROOT"])
async def test_an_error_of_a_write_names_the_folder_that_is_full(
    buffer: Buffer, settings: BufferSettings, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    folder, write = getattr(settings, setting), os.write

    def full(descriptor: int, content: bytes) -> int:
        if Path(f"/proc/self/fd/{descriptor}").readlink().is_relative_to(folder):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, content)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(VolumeFull, match=f"No space left on device: {folder}"):
            await buffer.ingest.append(segment_body(1))
        overview = await buffer.queries.overview()
        assert overview.cannot_store
        assert overview.cannot_store.startswith(f"No space left on device: {folder}")
    assert (await buffer.ingest.append(segment_body(2))).receipt


async def test_stopping_completes_accepted_work(open_buffer: OpenBuffer, settings: BufferSettings) -> None:
    buffer = await open_buffer()
    accepted = [asyncio.create_task(buffer.ingest.append(segment_body(number))) for number in range(50)]
    await asyncio.sleep(0)
    await buffer.close()
    assert len(await asyncio.gather(*accepted)) == 50
    assert len(files(settings)) == 50


@pytest.mark.parametrize(
    ("number", "refusal"), [(errno.ENOSPC, VolumeFull), (errno.EDQUOT, VolumeFull), (errno.EIO, VolumeFailed)]
)
async def test_a_disk_that_says_no_costs_the_segment_and_nothing_else(
    buffer: Buffer,
    settings: BufferSettings,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    refusal: type[ProblemError],
) -> None:
    await buffer.ingest.append(segment_body(1))
    stats = buffer.queries.stats

    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr("databuffer.storage.volume.os.fsync", full)
        with pytest.raises(refusal, match=os.strerror(number)):
            await buffer.ingest.append(segment_body(2))
    assert buffer.queries.stats == stats == written_stats(settings)
    assert len(files(settings)) == 1
    await buffer.ingest.append(segment_body(3))
    assert buffer.queries.stats.n_itm == 2 == len(files(settings)) == written_stats(settings).n_itm


async def test_a_folder_that_cannot_be_synced_takes_no_segment(
    buffer: Buffer, settings: BufferSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("databuffer.storage.volume.sync_path", fail)
        with pytest.raises(VolumeFailed):
            await buffer.ingest.append(segment_body(1))
    assert files(settings) == {}
    await buffer.queries.check_ready()
    assert buffer.queries.stats == Stats(0, 0) == written_stats(settings)


async def test_counts_that_cannot_be_written_refuse_the_segment(
    buffer: Buffer, settings: BufferSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await buffer.ingest.append(segment_body(1))

    def fail(*_: object) -> None:
        raise VolumeFull("no space for the counts")

    with monkeypatch.context() as patch:
        patch.setattr("databuffer.storage.metadata.Metadata.write_stats", fail)
        with pytest.raises(VolumeFull):
            await buffer.ingest.append(segment_body(2))
    await buffer.ingest.append(segment_body(3))
    assert buffer.queries.stats.n_itm == 2 == len(files(settings)) == written_stats(settings).n_itm
    assert len(await buffer.queries.log_lines()) == 2


async def test_a_volume_that_is_gone_makes_the_buffer_not_ready(buffer: Buffer, settings: BufferSettings) -> None:
    await buffer.queries.check_ready()
    away = settings.DATAROOT.rename(settings.DTVOLROOT.with_name("away"))
    with pytest.raises(VolumeFailed):
        await buffer.queries.check_ready()
    away.rename(settings.DATAROOT)
    await buffer.queries.check_ready()


async def test_an_invalid_segment_is_refused_as_such_even_if_the_volume_fails(
    buffer: Buffer, settings: BufferSettings
) -> None:
    await asyncio.to_thread(settings.DTVOLROOT.rename, settings.DTVOLROOT.with_name("elsewhere"))
    sent = (segment_body(1), b'{"h":[],"t":[0,1]}', segment_body(2))
    outcomes = await asyncio.gather(*map(buffer.ingest.append, sent), return_exceptions=True)
    assert [type(each) for each in outcomes] == [VolumeFailed, InvalidSegment, VolumeFailed]


async def test_the_probe_of_readiness_writes_nothing_while_the_last_write_succeeded(
    buffer: Buffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes: list[Path] = []

    def note(folder: Path, *_: int) -> AbstractContextManager[None]:
        probes.append(folder)
        return nullcontext()

    monkeypatch.setattr("databuffer.storage.store.probe_file", note)
    await buffer.queries.check_ready()
    assert probes, "nothing was written since the start"
    await buffer.ingest.append(segment_body(1))
    probes.clear()
    await buffer.queries.check_ready()
    assert not probes


async def test_a_volume_that_becomes_read_only_while_nothing_arrives_is_noticed(
    buffer: Buffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path, *_: int) -> AbstractContextManager[None]:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(folder))

    await buffer.ingest.append(segment_body(1))
    monkeypatch.setattr("databuffer.storage.store.probe_file", refuse)
    await buffer.queries.check_ready()
    monkeypatch.setattr("databuffer.state._PROVEN_SECONDS", 0.0)
    for _ in range(2):
        with pytest.raises(VolumeFailed, match="Read-only file system"):
            await buffer.queries.check_ready()


async def test_a_buffer_whose_data_folder_is_being_moved_is_ready(buffer: Buffer, settings: BufferSettings) -> None:
    moved = threading.Event()

    def move_and_return() -> None:
        elsewhere = settings.DATAROOT.rename(settings.DTVOLROOT / "moving")
        moved.set()
        time.sleep(0.2)
        elsewhere.rename(settings.DATAROOT)

    order = asyncio.ensure_future(buffer.ingest.perform(move_and_return))
    await asyncio.to_thread(moved.wait)
    await buffer.queries.check_ready()
    await order
