"""The ledger: survives crashes, is backed up on the volume, and is restored after damage."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import pytest
import sqlalchemy as sa

from databuffer.app import create_buffer
from databuffer.buffer import Buffer
from databuffer.errors import VolumeFailed
from databuffer.holdings import orders as holdings
from databuffer.holdings import packed
from databuffer.holdings.packed import Packed
from databuffer.holdings.quotas import Quotas
from databuffer.holdings.rows import Caller
from databuffer.records import steps, table
from databuffer.records.backlog import Backlog
from databuffer.records.scan import Scan
from databuffer.search import table as bundles
from databuffer.search.table import BundleRow
from databuffer.settings import BufferSettings, OnFrozen
from databuffer.storage.catalog import BatchRow, Catalog, Database, SegmentFilter, SegmentRow, backup
from databuffer.storage.spending import Spending
from databuffer.tiers.ledger import pins, replicas
from gwwire.bundles import BundleFormat, BundleState
from gwwire.datastore import FreezeOrder
from gwwire.holdings import NewFile, TransactionOrder
from gwwire.public import BatchState, ThawOrder, Verification
from gwwire.records import StepClaim
from gwwire.tiering import Tiering
from tests.support.segments import segment_body

anyio = pytest.mark.anyio
OpenBuffer = Callable[[], Awaitable[Buffer]]

MINUTE = 60 * 10**9


def row(number: int, key: str | None = None) -> SegmentRow:
    return SegmentRow(f"gwb{number}.json", 10, f"{number:064x}", None, float(number), 0.5, 2, number, key)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def lose(catalog: Catalog) -> None:
    catalog.close()
    for path in catalog.database.path.parent.glob("catalog.sqlite*"):
        path.unlink()


# ---- content


def test_a_key_answers_for_its_segment_when_the_row_of_that_is_gone(catalog: Catalog) -> None:
    catalog.batches.put(BatchRow("a", BatchState.ARCHIVED, 0, "2026-11-20 23 41"))
    catalog.segments.add("a", [row(1, "one"), row(2)])
    catalog.batches.drop("a")
    assert catalog.segments.find(SegmentFilter()) == []
    assert catalog.ledger.by_key(["one", "two"])["one"][1:] == ("gwb1.json", f"{1:064x}", 10, 1)


def test_the_key_of_a_segment_that_was_lost_is_forgotten(catalog: Catalog) -> None:
    catalog.segments.add("a", [row(1, "one"), row(2, "two")])
    catalog.segments.remove("a", ["gwb1.json"])
    assert catalog.ledger.by_key(["one", "two"]).keys() == {"two"}


def test_the_key_of_a_segment_that_another_batch_has_is_kept(catalog: Catalog) -> None:
    catalog.segments.add("a", [row(1, "one")])
    catalog.segments.add("b", [row(1)], recovered=True)
    catalog.segments.remove("a", ["gwb1.json"])
    assert catalog.ledger.by_key(["one"]).keys() == {"one"}


def test_a_recovered_segment_with_a_known_key_is_not_assigned_to_another_key(catalog: Catalog) -> None:
    catalog.segments.add("lost", [row(1, "one")])
    catalog.segments.add("a", [row(1), row(2)], recovered=True)
    assert catalog.segments.recovered() == {f"{2:064x}"}
    assert catalog.ledger.claim_recovered(f"{1:064x}", "two") is None


def test_more_keys_are_looked_up_than_a_statement_takes(catalog: Catalog) -> None:
    catalog.segments.add("a", [row(number, f"key-{number}") for number in range(1200)])
    assert len(catalog.ledger.by_key(f"key-{number}" for number in range(2000))) == 1200


def test_the_use_of_groups_adds_up_until_the_next_day(catalog: Catalog) -> None:
    catalog.segments.add("a", [row(1)], Spending(7, {"detchar": 10}))
    catalog.segments.add("a", [row(2)], Spending(7, {"detchar": 5, "cal": 1}))
    catalog.ledger.subtract_spending(Spending(7, {"cal": 1}))
    assert catalog.ledger.spending(7) == Spending(7, {"detchar": 15, "cal": 0})
    assert catalog.ledger.spending(8) == Spending(8, {})
    assert catalog.ledger.spending(7) == Spending(7, {})


@pytest.mark.parametrize("ledger", [True, False])
def test_only_transactions_of_the_ledger_are_synced(catalog: Catalog, *, ledger: bool) -> None:
    with (catalog.database.writing_synced if ledger else catalog.database.writing)() as connection:
        [(level,)] = connection.exec_driver_sql("PRAGMA synchronous").fetchall()
        [(journal,)] = connection.exec_driver_sql("PRAGMA journal_mode").fetchall()
    assert (level, journal) == (2 if ledger else 1, "wal")


# ---- backups


def filled(catalog: Catalog) -> None:
    catalog.batches.put(BatchRow("a", BatchState.OPEN, 0, "data"))
    catalog.segments.add("a", [row(1, "one")], Spending(7, {"detchar": 10}))
    with catalog.database.writing_synced() as connection:
        table.write(connection, "file/a", lambda _: ("good", None, {"n": 1}), 0)
        claim = StepClaim("worker", kind="file")
        steps.claim(connection, claim, Backlog("copy", steps.declare(connection, "copy", claim)), 0)
        bundles.put(connection, BundleRow("a", BundleFormat.TAR, BundleState.READY, "{}", "{}", 1, 0, 0, 0))
        replicas.begin_write(connection, "batch/a", "tape", "batches/a.tar", 5)
        replicas.put_tiering(connection, "batch/a", Tiering(("tape",)))
        pins.put(connection, "batch/a", "alice", 2, 1)
        order = TransactionOrder([NewFile("/a")], tags={"site": "LLO"})
        transaction = holdings.begin(connection, Caller("alice", None), order, "id", 0)
        holdings.add(connection, transaction, order.files, 0, Quotas())
        packed.insert(connection, Packed(1, "files/t", 1, 0))


def test_a_backup_holds_the_ledger_and_none_of_the_index(catalog: Catalog, tmp_path: Path) -> None:
    filled(catalog)
    catalog.note_clean_stop("traces")
    backup = catalog.backups.write(1)
    assert backup == tmp_path / ".ledger" / "ledger-1.sqlite"
    with closing(sqlite3.connect(backup)) as connection:
        count = {
            table: connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 (names of our tables)
            for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        }
    assert count == {
        "idempotency_keys": 1,
        "spending": 1,
        "records": 1,
        "record_conditions": 1,
        "steps": 1,
        "step_declarations": 1,
        "bundles": 1,
        "replicas": 1,
        "tierings": 1,
        "pins": 1,
        "holdings": 1,
        "holding_tags": 1,
        "transactions": 1,
        "holding_files": 1,
        "file_packs": 1,
        "schema": 1,
        "counter": 1,
        "segments": 0,
        "batches": 0,
        "segment_conditions": 0,
        "totals": 0,
        "unread_meta": 0,
        "clean_stop": 0,
    }
    assert files(tmp_path) == [".ledger", "catalog.sqlite", "catalog.sqlite-shm", "catalog.sqlite-wal"]


def test_the_newest_three_backups_are_kept(catalog: Catalog, tmp_path: Path) -> None:
    for now in (9, 10, 11, 100):
        catalog.backups.write(now)
    assert files(tmp_path / ".ledger") == ["ledger-10.sqlite", "ledger-100.sqlite", "ledger-11.sqlite"]


def test_a_backup_is_due_when_the_ledger_changed_and_ten_minutes_have_passed(catalog: Catalog) -> None:
    backups = catalog.backups
    assert backups.write_if_due(0) is None
    filled(catalog)
    assert backups.write_if_due(9 * MINUTE) is None
    assert backups.write_if_due(10 * MINUTE)
    assert backups.write_if_due(30 * MINUTE) is None, "nothing has changed"
    catalog.segments.add("a", [row(2)])
    assert backups.write_if_due(40 * MINUTE) is None, "a segment without a key changes only the index"
    catalog.segments.add("a", [row(3, "three")])
    assert backups.write_if_due(50 * MINUTE)
    with catalog.database.writing_synced() as connection:
        table.write(connection, "file/b", lambda _: ("good", None, None), 0)
    assert backups.write_if_due(51 * MINUTE) is None
    assert backups.write_if_due(60 * MINUTE)


def test_backups_go_on_after_the_clock_was_ahead_and_the_newest_is_restored(catalog: Catalog) -> None:
    filled(catalog)
    ahead = 5_000_000 * MINUTE
    catalog.backups.write(ahead)
    again = Catalog(Database(catalog.database.path), catalog.backups.folder)
    again.segments.add("a", [row(2, "two")])
    assert again.backups.write_if_due(MINUTE)
    assert again.backups.write_if_due(2 * MINUTE) is None
    again.close()
    lose(catalog)
    catalog.open()
    assert catalog.ledger.by_key(["one", "two"]).keys() == {"one", "two"}


def test_a_restart_waits_from_the_last_backup_on(catalog: Catalog) -> None:
    filled(catalog)
    catalog.backups.write(MINUTE)
    again = Catalog(Database(catalog.database.path), catalog.backups.folder)
    assert again.backups.write_if_due(10 * MINUTE) is None
    assert again.backups.write_if_due(11 * MINUTE)
    again.close()


def test_a_backup_that_fails_leaves_the_others_and_is_tried_again(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(catalog)
    catalog.backups.write(MINUTE)
    catalog.segments.add("a", [row(2, "two")])
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(VolumeFailed.__base__ or VolumeFailed, match="No space left"):
            catalog.backups.write_if_due(20 * MINUTE)
    assert "ledger-60000000000.sqlite" in files(tmp_path / ".ledger")
    assert catalog.backups.write_if_due(21 * MINUTE) is None
    assert catalog.backups.write_if_due(30 * MINUTE)
    assert files(tmp_path / ".ledger") == ["ledger-1800000000000.sqlite", "ledger-60000000000.sqlite"]


def test_a_folder_of_backups_that_cannot_be_listed_is_tried_again_in_ten_minutes(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(catalog)
    catalog.backups.write(MINUTE)
    again = Catalog(Database(catalog.database.path), catalog.backups.folder)
    for now in (20, 40):
        with monkeypatch.context() as patched:
            deny_listing(patched, tmp_path / ".ledger")
            with pytest.raises(VolumeFailed, match=r"Permission denied: .*ledger"):
                again.backups.write_if_due(now * MINUTE)
            assert again.backups.write_if_due((now + 9) * MINUTE) is None
    assert again.backups.write_if_due(50 * MINUTE)
    again.close()


def deny_listing(patched: pytest.MonkeyPatch, folder: Path) -> None:
    """Refuse to list a folder as the operating system does without the right to."""
    iterdir = Path.iterdir

    def denied(path: Path) -> Iterator[Path]:
        if path == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return iterdir(path)

    patched.setattr(Path, "iterdir", denied)


# ---- restoring


def test_a_backup_that_cannot_be_read_is_passed_over(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(catalog)
    catalog.backups.write(1)
    damaged = catalog.backups.write(2)
    (tmp_path / ".ledger" / "ledger-99.sqlite").mkdir()
    lose(catalog)

    with (tmp_path / ".ledger" / "ledger-98.sqlite").open("wb") as endless:
        endless.truncate(2**40)

    def open_stored(path: Path) -> BinaryIO:
        if path == damaged:
            raise OSError(5, "Input/output error", str(path))
        return path.open("rb")

    monkeypatch.setattr(backup, "open_stored", open_stored)
    catalog.open()
    assert catalog.ledger.by_key(["one"])


def test_a_missing_database_gets_the_ledger_of_the_newest_backup(
    catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    filled(catalog)
    catalog.backups.write(1)
    catalog.segments.add("a", [row(2, "two")])
    catalog.backups.write(1_795_000_000 * 10**9)
    catalog.segments.add("a", [row(3, "three")])
    lose(catalog)
    catalog.open()
    assert catalog.ledger.by_key(["one", "two", "three"]).keys() == {"one", "two"}
    assert catalog.ledger.spending(7).used == {"detchar": 10}
    assert catalog.segments.find(SegmentFilter()) == []
    assert catalog.take_clean_stop() is None
    assert "restored from its backup of 2026-11-18T11:06:40.000000Z" in caplog.text
    assert "written after that are lost" in caplog.text


@pytest.mark.parametrize("number", [253402300800 * 10**9, 10**30])
def test_a_backup_whose_name_is_later_than_any_date_is_restored(
    catalog: Catalog, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    filled(catalog)
    ahead = catalog.backups.write(1)
    ahead.rename(ahead.with_name(f"ledger-{number}.sqlite"))
    for expected in (1, 2):
        lose(catalog)
        catalog.open()
        assert catalog.ledger.by_key(["one"])
        assert caplog.text.count("restored from its backup of 9999-12-31T23:59:59.999999Z") == expected
        assert catalog.backups.write(2).name == f"ledger-{number + expected}.sqlite"


def damage_header(path: Path) -> None:
    path.write_bytes(b"this is no page of a database" + path.read_bytes()[29:])


def damage_page(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: 3 * 4096] + bytes(4096) + content[4 * 4096 :])


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize("damage", [damage_header, damage_page, cut_short])
def test_a_damaged_database_is_moved_aside_and_the_ledger_restored(
    catalog: Catalog, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    filled(catalog)
    catalog.backups.write(1)
    path = catalog.database.path
    catalog.close()
    damage(path)
    again = Catalog(Database(path), catalog.backups.folder)
    again.open()
    assert again.ledger.by_key(["one"]).keys() == {"one"}
    assert path.with_name("catalog.sqlite.unreadable").exists()
    assert "is damaged; it is moved aside" in caplog.text
    again.close()


@pytest.mark.parametrize("damage", [damage_header, damage_page, cut_short, lambda path: path.write_bytes(b"")])
def test_an_unreadable_backup_is_passed_over_for_an_older_one(
    catalog: Catalog, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    filled(catalog)
    catalog.backups.write(1)
    damage(catalog.backups.write(2))
    lose(catalog)
    catalog.open()
    assert catalog.ledger.by_key(["one"]).keys() == {"one"}
    assert "ledger-2.sqlite cannot be restored" in caplog.text


def test_a_backup_of_a_newer_release_is_passed_over(catalog: Catalog) -> None:
    filled(catalog)
    catalog.backups.write(1)
    with closing(sqlite3.connect(catalog.backups.write(2))) as connection:
        connection.execute("UPDATE schema SET version = 99")
        connection.commit()
    lose(catalog)
    catalog.open()
    assert catalog.ledger.by_key(["one"]).keys() == {"one"}


def test_damage_without_a_backup_is_logged_and_begins_a_new_database(
    catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    filled(catalog)
    catalog.close()
    damage_header(catalog.database.path)
    again = Catalog(Database(catalog.database.path), catalog.backups.folder)
    again.open()
    assert again.ledger.spending(7).used == {}
    assert "no backup of the ledger can be read" in caplog.text
    again.close()


def test_damage_that_shows_while_it_runs_is_repaired_by_the_next_open(catalog: Catalog) -> None:
    filled(catalog)
    catalog.backups.write(1)
    with catalog.database.writing() as connection:
        connection.exec_driver_sql("PRAGMA writable_schema = ON")
        connection.exec_driver_sql("UPDATE sqlite_master SET rootpage = 9999 WHERE name = 'spending'")
    catalog.close()
    with pytest.raises(VolumeFailed, match="malformed"):
        catalog.ledger.spending(7)
    catalog.open()
    assert catalog.ledger.spending(7).used == {"detchar": 10}


def test_a_log_of_a_deleted_database_is_not_played_into_the_backup(catalog: Catalog) -> None:
    filled(catalog)
    catalog.backups.write(1)
    path = catalog.database.path
    beside = {suffix: path.with_name(path.name + suffix).read_bytes() for suffix in ("-wal", "-shm")}
    assert beside["-wal"]
    lose(catalog)
    for suffix, content in beside.items():
        path.with_name(path.name + suffix).write_bytes(content)
    again = Catalog(Database(path), catalog.backups.folder)
    again.open()
    assert again.database.integrity_error() is None
    assert again.segments.find(SegmentFilter()) == []
    assert again.ledger.by_key(["one"]).keys() == {"one"}
    again.close()


# ---- in the buffer


def lose_catalog(settings: BufferSettings) -> None:
    for path in settings.ADMROOT.glob("catalog.sqlite*"):
        path.unlink()


async def verification(buffer: Buffer, batch: str) -> Verification:
    """Return the result of a verification that was requested."""
    while (found := await buffer.verifier.verifications([await buffer.queries.batch(batch)]))[batch].state == "running":
        await asyncio.wait([buffer.records.next_change(Scan(()))], timeout=1)
    return found[batch]


@anyio
async def test_keys_and_a_verification_outlive_a_lost_catalog(
    open_buffer: OpenBuffer, settings: BufferSettings, caplog: pytest.LogCaptureFixture
) -> None:
    buffer = await open_buffer()
    first = await buffer.ingest.append(segment_body(1), "one")
    batch = (await buffer.batches.freeze(FreezeOrder("alice", "secret"))).batch
    await buffer.batches.flush()
    await buffer.verifier.request(batch)
    found = await verification(buffer, batch)
    await buffer.ingest.append(segment_body(2))
    await buffer.batches.flush()
    later = await buffer.ingest.append(segment_body(3), "three")
    await buffer.close()
    lose_catalog(settings)
    buffer = await open_buffer()
    assert (await buffer.ingest.append(segment_body(1), "one")).receipt == first.receipt
    assert await verification(buffer, batch) == found
    again = await buffer.ingest.append(segment_body(3), "three")
    assert again.receipt == later.receipt, "recovered, and claimed by its sender"
    assert buffer.queries.stats.n_itm == 1
    assert "the ledger is restored from its backup of" in caplog.text


@anyio
async def test_a_restored_key_does_not_lose_its_segment_to_another_key(
    open_buffer: OpenBuffer, settings: BufferSettings
) -> None:
    buffer = await open_buffer()
    await buffer.ingest.append(segment_body(1), "one")
    buffer._store.catalog.backups.write(1)  # noqa: SLF001 (10 minutes are too long for a test)
    await buffer.close()
    lose_catalog(settings)
    buffer = await open_buffer()
    await buffer.ingest.append(segment_body(1), "two")
    assert buffer.queries.stats.n_itm == 2


@anyio
async def test_a_lost_thaw_keeps_its_keys(settings: BufferSettings) -> None:
    settings = settings.model_copy(update={"ON_FROZEN": OnFrozen.ROTATE})
    buffer = create_buffer(settings)
    await buffer.open()
    await buffer.ingest.append(segment_body(1), "one")
    await buffer.batches.freeze(FreezeOrder("alice", "secret"))
    first = await buffer.ingest.append(segment_body(2), "two")
    before = {path: path.read_bytes() for path in settings.ADMROOT.glob("catalog.sqlite*")}
    await buffer.batches.thaw(ThawOrder("alice", "secret"))
    await buffer.close()
    lose_catalog(settings)
    for path, content in before.items():
        path.write_bytes(content)
    buffer = create_buffer(settings)
    await buffer.open()
    assert (await buffer.ingest.append(segment_body(2), "two")).receipt == first.receipt
    assert buffer.queries.stats.n_itm == 2
    await buffer.close()


@anyio
@pytest.mark.parametrize("fault", ["a file", "not listed"])
async def test_steps_succeed_when_the_ledger_cannot_be_backed_up(
    buffer: Buffer,
    settings: BufferSettings,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = settings.DTVOLROOT / ".ledger"
    if fault == "a file":
        folder.write_bytes(b"a file where a folder should be")
    else:
        folder.mkdir(exist_ok=True)
        deny_listing(monkeypatch, folder)
    await buffer.ingest.append(segment_body(1))
    assert (await buffer.holdings.put(Caller("alice", None), TransactionOrder([NewFile("/a")]))).transaction
    assert (await buffer.batches.flush()).folder
    assert "the ledger could not be backed up" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_killed_buffer_with_a_damaged_catalog_answers_as_before(settings: BufferSettings) -> None:
    script = textwrap.dedent(f"""
        import asyncio, os, signal
        from pathlib import Path
        from databuffer.app import create_buffer
        from databuffer.settings import BufferSettings
        from gwwire.datastore import FreezeOrder
        from tests.support.segments import segment_body

        async def main():
            buffer = create_buffer(BufferSettings(
                DTVOLROOT=Path({str(settings.DTVOLROOT)!r}), DATAROOT=Path({str(settings.DATAROOT)!r}),
                ADMROOT=Path({str(settings.ADMROOT)!r}), LOGROOT=Path({str(settings.LOGROOT)!r}), GROUP_QUOTA=10**6,
            ))
            await buffer.open()
            first = await buffer.ingest.append(segment_body(1), "one", "detchar")
            await buffer.batches.flush()
            second = await buffer.ingest.append(segment_body(2), "two", "detchar")
            print(first.name, second.name, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
    """)
    killed = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    for path in settings.ADMROOT.glob("catalog.sqlite*"):
        damage_header(path)
    buffer = create_buffer(settings.model_copy(update={"GROUP_QUOTA": 10**6}))
    buffer.state.recover()
    store = buffer._store  # noqa: SLF001 (what it has restored)
    first, second = killed.stdout.split()
    assert store.catalog.ledger.by_key(["one"])["one"].segment == first
    [recovered] = store.catalog.segments.find(SegmentFilter(batch=store.load(store.current).id))
    assert recovered.name == second
    quota = buffer.queries.quota("detchar")
    assert quota
    assert quota.used == recovered.bytes, "of two segments alike, that of the second was not backed up"
    with store.catalog.database.reading() as connection:
        assert connection.execute(sa.text("PRAGMA quick_check")).scalar() == "ok"
    store.close()
