import errno
import hashlib
import json
import logging
import os
import pkgutil
import shutil
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from databuffer.app import create_store
from databuffer.buffer import Buffer
from databuffer.errors import NotHolder, VolumeFailed
from databuffer.settings import BufferSettings
from databuffer.storage import files, volume
from databuffer.storage.catalog import SegmentFilter
from databuffer.storage.manifest import differences, read_manifest
from databuffer.storage.recovery import recover
from gwwire.datastore import FreezeOrder
from gwwire.public import BatchState, DatastoreState, Stats, ThawOrder
from gwwire.query import Query
from gwwire.segment import InvalidSegment
from tests.support.segments import segment_body

pytestmark = pytest.mark.anyio
OpenBuffer = Callable[[], Awaitable[Buffer]]


@pytest.fixture
async def used(open_buffer: OpenBuffer, settings: BufferSettings) -> BufferSettings:
    """Leave a volume with three segments, as after a clean stop."""
    buffer = await open_buffer()
    for number in range(3):
        await buffer.ingest.append(segment_body(number))
    await buffer.close()
    return settings


def truth(settings: BufferSettings) -> Stats:
    sizes = [path.stat().st_size for path in settings.DATAROOT.glob("gwb*.json")]
    return Stats(len(sizes), sum(sizes))


async def check_agreement(buffer: Buffer, settings: BufferSettings) -> None:
    assert buffer.queries.stats == truth(settings)
    assert json.loads((settings.ADMROOT / settings.ADMFNM).read_bytes()) == {
        "n_itm": buffer.queries.stats.n_itm,
        "buff_size": buffer.queries.stats.buff_size,
    }
    logged = [json.loads(line)["name"] for line in (settings.LOGROOT / settings.LOGSTREAM).read_text().splitlines()]
    assert logged == await buffer.queries.names() == sorted(path.name for path in settings.DATAROOT.glob("gwb*.json"))


def quarantined(settings: BufferSettings) -> set[str]:
    return {path.name for path in (settings.DTVOLROOT / "quarantine").iterdir()}


async def test_an_empty_volume_is_a_fine_place_to_start(open_buffer: OpenBuffer, settings: BufferSettings) -> None:
    buffer = await open_buffer()
    assert buffer.queries.stats == Stats(0, 0)
    assert json.loads((settings.ADMROOT / settings.ADMFNM).read_bytes()) == {"n_itm": 0, "buff_size": 0}
    await check_agreement(buffer, settings)


async def test_a_clean_stop_needs_no_repair(
    open_buffer: OpenBuffer, used: BufferSettings, caplog: pytest.LogCaptureFixture
) -> None:
    buffer = await open_buffer()
    assert buffer.queries.stats.n_itm == 3
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    await buffer.ingest.append(segment_body(4))
    await check_agreement(buffer, used)


async def test_a_freeze_survives_a_restart(open_buffer: OpenBuffer, used: BufferSettings) -> None:
    buffer = await open_buffer()
    frozen = await buffer.batches.freeze(FreezeOrder("alice", "secret"))
    await buffer.close()
    buffer = await open_buffer()
    assert buffer.queries.description.dstatus is DatastoreState.FROZEN
    assert await buffer.batches.freeze(FreezeOrder("bob", "")) == frozen
    await check_agreement(buffer, used)


@pytest.mark.parametrize("seen", [b"", b"{", b"[]", b'{"n_itm":99,"buff_size":1}', b'{"n_itm":"3"}', b"\xff", None])
async def test_the_directory_takes_precedence_over_the_counts(
    open_buffer: OpenBuffer, used: BufferSettings, caplog: pytest.LogCaptureFixture, seen: bytes | None
) -> None:
    path = used.ADMROOT / used.ADMFNM
    path.unlink() if seen is None else path.write_bytes(seen)
    buffer = await open_buffer()
    await check_agreement(buffer, used)
    assert "repaired: the counts" in caplog.text


@pytest.mark.parametrize("seen", [b"", b"{", b'{"dstatus":"MELTED","user":"","token":""}', None])
async def test_a_state_that_cannot_be_read_is_operational(
    open_buffer: OpenBuffer, used: BufferSettings, caplog: pytest.LogCaptureFixture, seen: bytes | None
) -> None:
    path = used.ADMROOT / used.DSST
    path.unlink() if seen is None else path.write_bytes(seen)
    buffer = await open_buffer()
    assert buffer.queries.description.dstatus is DatastoreState.OPERATIONAL
    assert "repaired: the state" in caplog.text
    await buffer.ingest.append(segment_body(4))
    await check_agreement(buffer, used)


async def test_a_file_stored_right_before_a_crash_is_counted(
    open_buffer: OpenBuffer, used: BufferSettings, caplog: pytest.LogCaptureFixture
) -> None:
    (used.DATAROOT / "gwb9000000000000000000.json").write_bytes(segment_body(4))
    buffer = await open_buffer()
    assert buffer.queries.stats.n_itm == 4
    assert "gwb9000000000000000000.json" in caplog.text
    await check_agreement(buffer, used)
    await buffer.ingest.append(segment_body(5))
    await check_agreement(buffer, used)


@pytest.mark.parametrize("content", [b"", b'{"h":[1.0,2', b'{"h":[],"t":[0,1]}'])
async def test_a_file_that_is_not_a_segment_is_moved_to_quarantine_with_a_reason(
    open_buffer: OpenBuffer, used: BufferSettings, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (used.DATAROOT / "gwb1.json").write_bytes(content)
    buffer = await open_buffer()
    assert buffer.queries.stats.n_itm == 3
    assert quarantined(used) == {"gwb1.json", "gwb1.json.reason"}
    assert (used.DTVOLROOT / "quarantine" / "gwb1.json").read_bytes() == content
    assert "gwb1.json: " in caplog.text
    await check_agreement(buffer, used)


async def test_a_half_written_file_is_set_aside(open_buffer: OpenBuffer, used: BufferSettings) -> None:
    for _ in range(2):
        (used.DTVOLROOT / ".incoming" / "0.json").write_bytes(b'{"h":[1.0')
        buffer = await open_buffer()
        await buffer.close()
    assert list((used.DTVOLROOT / ".incoming").iterdir()) == []
    assert {"0.json", "0.json 2"} <= quarantined(used)
    await check_agreement(buffer, used)


async def test_an_incomplete_log_line_is_repaired(open_buffer: OpenBuffer, used: BufferSettings) -> None:
    log = used.LOGROOT / used.LOGSTREAM
    log.write_bytes(log.read_bytes()[:-20])
    buffer = await open_buffer()
    assert buffer.queries.stats.n_itm == 3
    await check_agreement(buffer, used)
    await buffer.ingest.append(segment_body(4))
    await check_agreement(buffer, used)


async def test_a_missing_file_of_a_segment_is_reported(
    open_buffer: OpenBuffer, used: BufferSettings, caplog: pytest.LogCaptureFixture
) -> None:
    lost = min(used.DATAROOT.iterdir())
    lost.unlink()
    buffer = await open_buffer()
    assert f"1 segments are in the catalog, but not in data: {lost.name}" in caplog.text
    await check_agreement(buffer, used)


async def test_archiving_interrupted_before_its_rename_leaves_the_current_batch(
    open_buffer: OpenBuffer, used: BufferSettings
) -> None:
    (used.DATAROOT / used.LOGSTREAM).write_bytes(b"a copy\n")
    buffer = await open_buffer()
    assert not (used.DATAROOT / used.LOGSTREAM).exists()
    assert buffer.queries.stats.n_itm == 3
    await check_agreement(buffer, used)


async def test_archiving_interrupted_after_its_rename_is_finished(
    open_buffer: OpenBuffer, used: BufferSettings, caplog: pytest.LogCaptureFixture
) -> None:
    buffer = await open_buffer()
    await buffer.batches.freeze(FreezeOrder("alice", "secret"))
    await buffer.close()
    archive = used.DTVOLROOT / "2026-11-20 23 41"
    used.DATAROOT.rename(archive)
    buffer = await open_buffer()
    assert buffer.queries.description.dstatus is DatastoreState.OPERATIONAL
    assert buffer.queries.stats == Stats(0, 0)
    assert len(list(archive.glob("gwb*.json"))) == 3
    assert "a start or archiving had stopped; it is finished now" in caplog.text
    await check_agreement(buffer, used)


async def test_the_original_systems_volume_is_taken_over(
    open_buffer: OpenBuffer, settings: BufferSettings, original_segments: list[Path]
) -> None:
    settings.DATAROOT.mkdir(parents=True)
    settings.LOGROOT.mkdir(parents=True)
    for path in original_segments:
        (settings.DATAROOT / path.name).write_bytes(path.read_bytes())
    log = original_segments[0].with_name("LogStream.json")
    (settings.LOGROOT / settings.LOGSTREAM).write_bytes(log.read_bytes())
    buffer = await open_buffer()
    assert await buffer.queries.names() == [path.name for path in original_segments]
    await check_agreement(buffer, settings)
    assert await buffer.ingest.append(segment_body(1))
    await check_agreement(buffer, settings)


async def test_a_clear_token_of_an_earlier_version_is_gone_after_the_start_and_still_thaws(
    open_buffer: OpenBuffer, used: BufferSettings, caplog: pytest.LogCaptureFixture
) -> None:
    buffer = await open_buffer()
    await buffer.batches.freeze(FreezeOrder("alice", "original-token"))
    await buffer.close()
    state = used.ADMROOT / used.DSST
    state.write_bytes(b'{"dstatus":"FROZEN","user":"alice","token":"original-token"}')
    state.with_name(f".{state.name}.new").write_bytes(state.read_bytes())
    buffer = await open_buffer()
    assert "repaired: the holder's token was stored in clear" in caplog.text
    everything = [path for path in used.ADMROOT.parents[1].rglob("*") if path.is_file()]
    assert state in everything
    assert not any(b"original-token" in path.read_bytes() for path in everything)
    assert "original-token" not in caplog.text
    with pytest.raises(NotHolder):
        await buffer.batches.thaw(ThawOrder("alice", state.read_text()))
    await buffer.batches.thaw(ThawOrder("alice", "original-token"))
    assert buffer.queries.description.dstatus is DatastoreState.OPERATIONAL


#: Stored by an earlier release, whose validator had no rule for times and repeated keys.
EARLIER = [
    b'{"h":[1.0],"t":[1126259462000000000,0.000244140625]}',
    b'{"h":[1.0],"t":[1e308,1],"meta":{"channel":"H1:A"}}',
    b'{"h":[1.0,2.0],"t":[-1e308,1e308],"meta":{"channel":"H1:A"}}',
    b'{"h":[1.0],"t":[1e9,5e-324]}',
    b'{"h":[1.0],"t":[1e9,1],"meta":{"channel":"H1:B"},"meta":{"channel":"H1:A"}}',
]


async def test_segments_that_are_refused_today_stay_stored_and_readable(
    open_buffer: OpenBuffer, used: BufferSettings
) -> None:
    for number, body in enumerate(EARLIER):
        (used.DATAROOT / f"gwb{2 * 10**18 + number}.json").write_bytes(body)
    buffer = await open_buffer()
    for body in EARLIER:
        with pytest.raises(InvalidSegment):
            await buffer.ingest.append(body)
    await check_agreement(buffer, used)
    assert not quarantined(used)
    batch = (await buffer.batches.freeze(FreezeOrder("alice", "secret"))).batch
    await check_readable(buffer, batch)
    await buffer.batches.flush()
    await buffer.close()
    buffer = await open_buffer()
    await check_readable(buffer, batch)
    (archive,) = used.DTVOLROOT.glob("2*")
    assert not list(differences(archive, read_manifest(archive)))


async def check_readable(buffer: Buffer, batch: str) -> None:
    rows = await buffer.queries.segments(SegmentFilter(batch=batch, limit=100))
    assert len(rows) == 3 + len(EARLIER)
    for row in rows:
        with await buffer.queries.segment_file(row.name) as file:
            assert hashlib.sha256(file.read()).hexdigest() == row.sha256
    coverage = await buffer.search.coverage(Query(batch=(batch,)))
    assert sum(count for channel in coverage.channels for _, _, count in channel.spans) == len(rows)
    for answer in (await buffer.queries.overview(), coverage):  # JSON has no infinity
        assert msgspec.json.decode(msgspec.json.encode(answer), type=type(answer)) == answer


def link_without_target(settings: BufferSettings) -> None:
    (settings.DATAROOT / "gwb5.json").symlink_to("/nowhere")


def folder_that_is_not_an_archive(settings: BufferSettings) -> None:
    (settings.DTVOLROOT / "2026-13-45 99 99").mkdir()


def mark_of_an_impossible_time(settings: BufferSettings) -> None:
    shutil.rmtree(settings.ADMROOT)
    (settings.DTVOLROOT / ".data.batch.json").write_text(json.dumps({"id": "b1", "opened": 2**63}))


def state_that_is_a_folder(settings: BufferSettings) -> None:
    shutil.rmtree(settings.DTVOLROOT)
    shutil.rmtree(settings.ADMROOT)
    (settings.ADMROOT / settings.DSST).mkdir(parents=True)


@pytest.mark.parametrize(
    "leave", [link_without_target, folder_that_is_not_an_archive, mark_of_an_impossible_time, state_that_is_a_folder]
)
async def test_unknown_files_do_not_stop_a_start(
    open_buffer: OpenBuffer, used: BufferSettings, leave: Callable[[BufferSettings], None]
) -> None:
    leave(used)
    stored = (await open_buffer()).queries.stats.n_itm
    assert stored == (0 if leave is state_that_is_a_folder else 3)


@pytest.mark.parametrize("number", [2**63 - 1, 10**26])
async def test_a_file_name_whose_number_is_not_a_time_is_accepted_and_so_are_the_next_ones(
    open_buffer: OpenBuffer, used: BufferSettings, number: int
) -> None:
    (used.DATAROOT / f"gwb{number}.json").write_bytes(segment_body(7))
    buffer = await open_buffer()
    assert (await buffer.ingest.append(segment_body(8))).name == f"gwb{number + 1}.json"
    await buffer.close()
    shutil.rmtree(used.ADMROOT)
    buffer = await open_buffer()
    assert buffer.queries.stats.n_itm == 5
    await buffer.batches.flush()
    await buffer.close()
    shutil.rmtree(used.ADMROOT)
    assert [batch.n_itm for batch in await (await open_buffer()).queries.batches()] == [5, 0]


@pytest.mark.parametrize(
    "altered",
    [
        {"opened": "yesterday"},
        {"sealed": "2026-11-20T23:41:00"},
        {"segments": lambda entries: [*entries, entries[0]]},
        {"segments": lambda entries: [{**entries[0], "size": 2**63}, *entries[1:]]},
    ],
)
async def test_an_archive_with_a_manifest_of_impossible_values_is_read_from_its_files(
    open_buffer: OpenBuffer, used: BufferSettings, altered: dict[str, Any]
) -> None:
    buffer = await open_buffer()
    folder = (await buffer.batches.flush()).folder
    await buffer.close()
    assert folder
    manifest = json.loads((folder / "MANIFEST.json").read_bytes())
    changes = {name: value(manifest[name]) if callable(value) else value for name, value in altered.items()}
    (folder / "MANIFEST.json").write_text(json.dumps(manifest | changes))
    shutil.rmtree(used.ADMROOT)
    buffer = await open_buffer()
    [archive] = [batch for batch in await buffer.queries.batches() if batch.state is BatchState.ARCHIVED]
    assert archive.n_itm == 3


@pytest.mark.parametrize("clock", [0, -(10**15)], ids=["clock right", "clock set back after the backup"])
async def test_segments_lost_with_an_older_volume_are_stored_when_they_are_sent_again(
    open_buffer: OpenBuffer, settings: BufferSettings, monkeypatch: pytest.MonkeyPatch, clock: int
) -> None:
    buffer = await open_buffer()
    first = await buffer.ingest.append(segment_body(1), "key 1")
    await buffer.close()
    older = shutil.copytree(settings.DTVOLROOT, settings.DTVOLROOT.with_name("older"))
    buffer, right = await open_buffer(), time.time_ns
    monkeypatch.setattr("time.time_ns", lambda: right() + clock)
    await buffer.ingest.append(segment_body(2), "key 2")
    await buffer.batches.flush()
    await buffer.ingest.append(segment_body(3), "key 3")
    await buffer.batches.flush()
    await buffer.close()
    monkeypatch.undo()
    shutil.rmtree(settings.DTVOLROOT)
    older.rename(settings.DTVOLROOT)
    buffer = await open_buffer()
    again = [await buffer.ingest.append(segment_body(number), f"key {number}") for number in (1, 2, 3)]
    assert again[0].name == first.name
    assert sorted(each.name for each in again) == await buffer.queries.names()
    await check_agreement(buffer, settings)


async def test_an_archive_of_a_batch_whose_older_copy_was_restored_is_kept_beside_it(
    open_buffer: OpenBuffer, used: BufferSettings, caplog: pytest.LogCaptureFixture
) -> None:
    backup = used.DTVOLROOT.parent.with_name("backup")
    shutil.copytree(used.DATAROOT, backup / "data")
    shutil.copytree(used.ADMROOT, backup / "adm")
    mark = used.DTVOLROOT / ".data.batch.json"
    kept = mark.read_bytes()
    buffer = await open_buffer()
    await buffer.ingest.append(segment_body(4))
    await buffer.batches.flush()
    await buffer.close()
    for folder, name in ((used.DATAROOT, "data"), (used.ADMROOT, "adm")):
        shutil.rmtree(folder)
        shutil.copytree(backup / name, folder)
    mark.write_bytes(kept)
    for _ in range(2):
        caplog.clear()
        buffer = await open_buffer()
        states = {batch.state: batch.n_itm for batch in await buffer.queries.batches()}
        assert states == {BatchState.ARCHIVED: 4, BatchState.OPEN: 3}
        await buffer.close()
    assert "repaired" not in caplog.text


async def test_segments_that_cannot_be_reached_stay_where_they_are(
    open_buffer: OpenBuffer, used: BufferSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = truth(used)
    shutil.rmtree(used.ADMROOT)
    with monkeypatch.context() as patch, closing(create_store(used)) as store:
        patch.setattr(volume, "read_stored", unreadable(files.read_stored, errno.EACCES))
        with pytest.raises(VolumeFailed, match=r"Permission denied: .*gwb"):
            list(recover(store))
    assert truth(used) == stored
    buffer = await open_buffer()
    await check_agreement(buffer, used)
    assert buffer.queries.stats.n_itm == 3


@pytest.mark.parametrize(("shared", "is_empty"), [("ADMROOT", False), ("ADMROOT", True), ("LOGROOT", False)])
async def test_a_buffer_of_another_volume_takes_neither_catalog_nor_log(
    open_buffer: OpenBuffer, settings: BufferSettings, tmp_path: Path, shared: str, *, is_empty: bool
) -> None:
    buffer = await open_buffer()
    await buffer.ingest.append(segment_body(1))
    logged = (settings.LOGROOT / settings.LOGSTREAM).read_bytes()
    own = {name: tmp_path / "other" / name for name in ("DTVOLROOT", "ADMROOT", "LOGROOT") if name != shared}
    other = settings.model_copy(update={**own, "DATAROOT": own["DTVOLROOT"] / "data"})
    (other.DTVOLROOT if is_empty else other.DATAROOT).mkdir(parents=True)
    with closing(create_store(other)) as store, pytest.raises(VolumeFailed, match=rf"another buffer uses .*{shared}"):
        list(recover(store))
    assert (settings.LOGROOT / settings.LOGSTREAM).read_bytes() == logged
    assert (await buffer.batches.freeze(FreezeOrder("alice", "secret"))).stats.n_itm == 1
    await buffer.close()
    await open_buffer()


def unreadable(read: Callable[..., bytes], code: int) -> Callable[..., bytes]:
    """Return a `read_stored` that fails for segments."""

    def read_stored(path: Path, *, follow: bool) -> bytes:
        if path.name.startswith("gwb"):
            raise OSError(code, os.strerror(code), str(path))
        return read(path, follow=follow)

    return read_stored


class Killed(BaseException):
    """A kill between two steps."""


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("databuffer.storage.catalog.database.Database", "create"),
        ("databuffer.storage.catalog.catalog", "migrate"),
        ("databuffer.storage.metadata.Metadata", "prepare"),
        ("databuffer.storage.metadata.Metadata", "write_description"),
        ("databuffer.storage.metadata.Metadata", "write_stats"),
        ("databuffer.storage.marks.Marks", "write"),
        ("databuffer.storage.catalog.batches.Batches", "put"),
        ("databuffer.storage.metadata.LogStream", "replace"),
    ],
)
async def test_a_first_start_that_was_interrupted_reports_no_loss(  # noqa: PLR0913, PLR0917 (two are parameters)
    open_buffer: OpenBuffer,
    settings: BufferSettings,
    module: str,
    name: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = pkgutil.resolve_name(f"{module}.{name}")

    def killed(*arguments: Any) -> None:
        original(*arguments)
        raise Killed

    store = create_store(settings)
    with closing(store), monkeypatch.context() as patch:
        patch.setattr(f"{module}.{name}", killed)
        with pytest.raises(Killed):
            deque(recover(store))
    caplog.clear()
    buffer = await open_buffer()
    await buffer.ingest.append(segment_body(1))
    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert not [message for message in warnings if "a start or archiving had stopped" not in message]
    assert not list(settings.ADMROOT.glob("*.unreadable"))


def test_a_file_in_the_place_of_the_data_folder_is_named_with_its_setting(settings: BufferSettings) -> None:
    settings.DTVOLROOT.mkdir(parents=True)
    settings.DATAROOT.write_text("")
    words = rf"{settings.DATAROOT} \(DATAROOT\) is not a folder; move it away"
    with closing(create_store(settings)) as store, pytest.raises(VolumeFailed, match=words):
        list(recover(store))
    assert settings.DATAROOT.read_text() == ""
