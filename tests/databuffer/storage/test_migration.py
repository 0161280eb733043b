"""Migrations of the catalog from a file that the first release wrote."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from databuffer.errors import VolumeFailed
from databuffer.records.table import load
from databuffer.storage.catalog import Catalog, Database, IdempotencyKey, SegmentFilter, SegmentRow
from databuffer.storage.catalog.database import columns_of_tables
from databuffer.storage.catalog.migrations import MIGRATIONS, VERSION
from databuffer.storage.catalog.schema import FILE_PACKS, RECORDS, STEPS
from databuffer.storage.spending import Spending
from gwwire.public import BatchState, Verification
from gwwire.records import Record

VERSION_0 = Path(__file__).with_name("catalog_version_0.sql")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "catalog.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_0.read_text())
    return path


@pytest.fixture
def catalog(old: Path) -> Iterator[Catalog]:
    catalog = Catalog(Database(old), old.with_name(".ledger"))
    catalog.open()
    yield catalog
    catalog.close()


def structure(path: Path) -> dict[str, object]:
    """Return columns by table, and the columns of each index; order and declared length of names do not matter."""
    with closing(sqlite3.connect(path)) as connection:
        names = [
            name
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB 'sqlite_*'"
            )
        ]
        found: dict[str, object] = {}
        for table in names:
            columns = connection.execute(f"SELECT name, pk FROM pragma_table_info('{table}')").fetchall()  # noqa: S608 (names of our tables)
            found[table] = sorted(columns)
            for _, index, unique, origin, partial in connection.execute(f"PRAGMA index_list('{table}')"):
                inside = [name for _, _, name in connection.execute(f"PRAGMA index_info('{index}')")]
                if origin == "c":
                    found[index] = table, inside, unique, partial
        return found


def test_a_migrated_file_has_the_tables_and_indices_of_a_new_one(catalog: Catalog, tmp_path: Path) -> None:
    new = Catalog(Database(tmp_path / "new.sqlite"), tmp_path / ".ledger")
    new.open()
    new.close()
    catalog.close()
    assert structure(catalog.database.path) == structure(new.database.path)


def test_segments_and_batches_keep_their_columns(catalog: Catalog) -> None:
    found = catalog.segments.find(SegmentFilter())
    assert [(row.seq, row.batch, row.bytes, row.channel, row.t0) for row in found] == [
        (1, "b1", 91, "L1:A", 1001.0),
        (2, "b1", 92, None, 1002.0),
        (3, "b1", 93, "H1:A", 1003.0),
        (4, "b2", 94, "L1:A", 1004.0),
        (5, "b2", 95, None, 1005.0),
        (7, "b2", 97, "L1:A", 1007.0),
    ]
    assert [(row.id, row.state, row.n_itm, row.holder) for row in catalog.batches.all()] == [
        ("b1", BatchState.ARCHIVED, 3, "alice"),
        ("b2", BatchState.OPEN, 0, ""),
    ]
    assert catalog.take_clean_stop() == "trace of a clean stop"


def test_the_meta_of_all_segments_is_to_be_read(catalog: Catalog) -> None:
    assert (catalog.segments.number_of_unread(), catalog.segments.unread(2)[0][0]) == (6, 1)


def test_keys_move_to_their_own_table(catalog: Catalog) -> None:
    found = catalog.ledger.by_key(["key-1", "key-2", "key-3", "key-4"])
    assert found.keys() == {"key-1", "key-3", "key-4"}
    name = "gwb1795000000000000004.json"
    assert found["key-4"] == IdempotencyKey("key-4", name, f"{4:064x}", 94, 1795000000000000004)


def test_a_recovered_segment_can_still_be_claimed(catalog: Catalog) -> None:
    assert catalog.segments.recovered() == {f"{7:064x}"}
    claimed = catalog.ledger.claim_recovered(f"{7:064x}", "key-7")
    assert claimed
    assert claimed.segment == "gwb1795000000000000007.json"


def test_seqs_go_on_after_the_last_that_was_ever_given(catalog: Catalog) -> None:
    assert catalog.last_seq() == 10 + 1, "a verification became a step"
    catalog.segments.add("b2", [SegmentRow("gwb9.json", 1, "", None, 0.0, 1.0, 1, 9)])
    assert catalog.last_seq() == 12


def records(catalog: Catalog) -> list[Record]:
    """Return the records that were written."""
    with catalog.database.reading() as connection:
        return list(load(connection, connection.execute(sa.select(RECORDS.c.id)).scalars()).values())


def test_quotas_and_verifications_stay(catalog: Catalog) -> None:
    assert catalog.ledger.spending(20775) == Spending(20775, {"detchar": 284})
    [verified] = records(catalog)
    assert (verified.id, verified.rev, verified.seq, verified.last) == ("batch/b1", 1, catalog.last_seq(), "verify")
    assert [(step.name, step.state) for step in verified.steps] == [
        ("sealed", "DONE"),
        ("archived", "DONE"),
        ("verify", "DONE"),
    ]
    assert msgspec.convert(verified.steps[-1].result, Verification).checked == 3


def test_a_backup_of_the_ledger_with_claims_of_version_2_is_restored(old: Path) -> None:
    database = Database(old)
    database.create()
    with database.writing() as connection:
        for migration in MIGRATIONS[:2]:
            migration(connection)
        connection.exec_driver_sql("UPDATE schema SET version = 2")
    database.close()
    backups = old.with_name(".ledger")
    backups.mkdir()
    old.rename(backups / "ledger-5.sqlite")
    catalog = Catalog(Database(old), backups)
    catalog.open()
    assert [record.id for record in records(catalog)] == ["batch/b1"]
    catalog.close()
    assert "claims" not in structure(old)


def test_packs_of_files_know_their_bytes(old: Path) -> None:
    database = Database(old)
    database.create()
    with database.writing() as connection:
        for migration in MIGRATIONS[:7]:
            migration(connection)
        file = "INSERT INTO holding_files VALUES (?, 4, 1, ?, 'FILE', ?, 420, 0, NULL, NULL, ?, NULL, 1, NULL, NULL)"
        for row in ((1, "/a", 10, "COMPLETE"), (2, "/b", 20, "DELETED"), (3, "/c", 40, "FAILED")):
            connection.exec_driver_sql(file, row)
        connection.exec_driver_sql("INSERT INTO file_packs VALUES (4, 'files/x', 1)")
        connection.exec_driver_sql("UPDATE schema SET version = 7")
    database.close()
    catalog = Catalog(Database(old), old.with_name(".ledger"))
    catalog.open()
    with catalog.database.reading() as connection:
        assert connection.execute(sa.select(FILE_PACKS.c.bytes)).scalars().all() == [30]
    catalog.close()


def test_steps_know_since_when_they_wait(old: Path) -> None:
    database = Database(old)
    database.create()
    with database.writing() as connection:
        for migration in MIGRATIONS[:9]:
            migration(connection)
        columns = "record, name, state, worker, attempt, failures, due, started"
        step = f"INSERT INTO steps ({columns}) VALUES (?, 'c', ?, '', 1, ?, ?, ?)"  # noqa: S608 (names of our columns)
        for row in (("a", "WAITING", 0, 10, None), ("b", "WAITING", 1, 90, 20), ("c", "DONE", 0, None, 30)):
            connection.exec_driver_sql(step, row)
        connection.exec_driver_sql("UPDATE schema SET version = 9")
    database.close()
    catalog = Catalog(Database(old), old.with_name(".ledger"))
    catalog.open()
    with catalog.database.reading() as connection:
        mine = sa.select(STEPS.c.asked).where(STEPS.c.name == "c").order_by(STEPS.c.record)
        assert connection.execute(mine).scalars().all() == [10, 20, 30]
    catalog.close()


@pytest.mark.parametrize("table", ["verifications", "spending", "claims", "clean_stop"])
def test_a_file_from_before_one_of_the_tables_is_migrated_too(old: Path, table: str) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.execute(f"DROP TABLE {table}")
    catalog = Catalog(Database(old), old.with_name(".ledger"))
    catalog.open()
    assert [record.id for record in records(catalog)] == ([] if table == "verifications" else ["batch/b1"])
    catalog.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was(old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("CREATE TABLE segments_1 (already INTEGER)")
    before = structure(old)
    catalog = Catalog(Database(old), old.with_name(".ledger"))
    with pytest.raises(VolumeFailed, match="segments_1"):
        catalog.open()
    catalog.close()
    assert structure(old) == before
    with closing(sqlite3.connect(old)) as connection:
        assert connection.execute("SELECT count(*) FROM segments").fetchone() == (6,)


def test_a_file_of_a_newer_release_is_refused_and_left_alone(catalog: Catalog) -> None:
    path = catalog.database.path
    catalog.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE schema SET version = 99")
        connection.commit()
    with pytest.raises(VolumeFailed, match=f"schema version 99 is newer than {VERSION}"):
        catalog.open()
    assert not path.with_name(f"{path.name}.unreadable").exists()


def test_one_query_reads_the_columns_of_all_tables(catalog: Catalog) -> None:
    statements: list[str] = []
    with catalog.database.reading() as connection:
        inspector = sa.inspect(connection)
        expected = {
            table: {column["name"] for column in inspector.get_columns(table)} for table in inspector.get_table_names()
        }
        sa.event.listen(connection, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
        assert columns_of_tables(connection) == expected
    assert expected
    assert len(statements) == 1
