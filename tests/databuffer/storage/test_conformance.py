"""What the SQL of the catalog does in every database that may contain it."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from databuffer.records import steps, table
from databuffer.records.backlog import Backlog
from databuffer.records.overview import overview
from databuffer.records.selection import Selection
from databuffer.storage.catalog import BatchRow, Database, SegmentFilter, SegmentRow
from databuffer.storage.catalog.ledger import Ledger
from databuffer.storage.catalog.migrations import migrate
from databuffer.storage.catalog.schema import COUNTER, TABLES
from databuffer.storage.catalog.segments import Batches, Segments
from databuffer.storage.spending import Spending
from gwwire.public import BatchState
from gwwire.records import Record, StepClaim, StepEnd, StepState
from tests.support.postgres import PostgresDatabase, running_postgres

SECOND = 10**9


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared(request: pytest.FixtureRequest) -> Iterator[Database]:
    with ExitStack() as stack:
        home = Path(stack.enter_context(TemporaryDirectory()))  # a path short enough for a socket
        if request.param == "postgresql":
            database: Database = PostgresDatabase(stack.enter_context(running_postgres(home)))
        else:
            database = Database(home / "catalog.sqlite")
            database.create()
        migrate(database)
        yield database
        database.close()


@pytest.fixture
def database(shared: Database) -> Database:
    """Return the database with empty tables."""
    with shared.writing() as connection:
        for table_ in TABLES.sorted_tables:
            if table_.name not in {"schema", "counter"}:
                connection.execute(sa.delete(table_))
        connection.execute(sa.update(COUNTER).values(seq=0))
    return shared


def row(number: int, channel: str | None = None, key: str | None = None) -> SegmentRow:
    return SegmentRow(f"gwb{number}.json", 10, f"{number:064x}", channel, float(number), 0.5, 2, number, key)


def claim_order(**values: Any) -> StepClaim:
    return msgspec.convert({"worker": "w", **values}, StepClaim)


class TestCatalog:
    """Segments, batches, ledger, records, steps and the order of the feed."""

    def test_segments_are_numbered_in_the_order_of_commits_and_found_by_filters(self, database: Database) -> None:
        segments = Segments(database)
        assert segments.add("a", [row(1, "H1:A"), row(2)]) == 2
        assert segments.add("b", [row(3, "H1:A")]) == 3
        assert [found.seq for found in segments.find(SegmentFilter(channel="H1:A"))] == [1, 3]
        assert [found.seq for found in segments.find(SegmentFilter(start=2.5, stop=9.0))] == [2, 3]
        assert {name: each.seconds for name, each in segments.tally("a").items()} == {"H1:A": 1.0, None: 1.0}
        segments.remove("b", ["gwb3.json"])
        assert segments.add("b", [row(4)]) == 4

    def test_a_group_is_inserted_whole_or_not_at_all(self, database: Database) -> None:
        segments, ledger = Segments(database), Ledger(database)
        segments.add("a", [row(1, key="one")], Spending(1, {"g": 5}))
        with pytest.raises(Exception, match=r"(?i)unique"):
            segments.add("a", [row(2, key="two"), row(3, key="one")], Spending(1, {"g": 20}))
        assert [found.name for found in segments.find(SegmentFilter())] == ["gwb1.json"]
        assert ledger.by_key(["one", "two"]).keys() == {"one"}
        segments.add("a", [row(2)], Spending(1, {"g": 20}))
        assert ledger.spending(1).used == {"g": 25}
        assert segments.find(SegmentFilter())[-1].seq == 2

    def test_a_change_of_state_numbers_a_batch_anew(self, database: Database) -> None:
        batches = Batches(database)
        batch = BatchRow("a", BatchState.OPEN, 1, "data")
        batches.put(batch)
        with database.writing() as connection:
            table.write(connection, "batch/a", lambda _: ("good", "O4", {}), 1)
        batches.put(BatchRow("a", BatchState.FROZEN, 1, "data", frozen=2, digest="d"))
        [found] = self.find(database, Selection("batch"))
        assert (found.last, found.run, found.seq) == ("sealed", "O4", 3)
        batches.put(batch)
        [found] = self.find(database, Selection("batch"))
        assert (found.last, found.seq) == (None, 4)

    def test_records_are_listed_by_their_last_change(self, database: Database) -> None:
        Segments(database).add("a", [row(1)])
        Batches(database).put(BatchRow("a", BatchState.OPEN, 1, "data"))
        with database.writing_synced() as connection:
            for number in range(3):
                conditions = {"t": number, "site": "LSM", "ok": True}
                table.write(connection, f"file/{number}", lambda _, c=conditions: ("good", None, c), 1)  # type: ignore[misc]
            table.write(connection, "file/0", lambda _: ("noisy", None, {}), 2)
        found = self.find(database, Selection())
        assert [each.id for each in found] == ["segment/gwb1.json", "batch/a", "file/1", "file/2", "file/0"]
        assert [each.seq for each in found] == sorted({each.seq for each in found})
        assert [each.id for each in self.find(database, Selection("file"), after=found[2].seq)] == ["file/2", "file/0"]

    def test_steps_are_claimed_once_and_in_their_order(self, database: Database) -> None:
        with database.writing_synced() as connection:
            for number in range(3):
                table.write(connection, f"file/{number}", lambda _, t=number: ("good", None, {"t": t}), 1)  # type: ignore[misc]
        query = {"conditions": {"t": {"ge": 1}}}
        assert self.claim(database, "copy", kind="file", query=query, limit=5) == ["file/1", "file/2"]
        assert self.claim(database, "copy", kind="file", query=query, limit=5) == []
        assert self.claim(database, "fit", after=["copy"]) == []
        with database.writing_synced() as connection:
            done = steps.end(connection, "file/2", "copy", StepEnd(1, StepState.DONE, {"n": 1}), 2 * SECOND)
            failed = steps.end(connection, "file/1", "copy", StepEnd(1, StepState.FAILED, reason="ä"), 2 * SECOND)
        assert (done.last, done.steps[0].result) == ("copy", {"n": 1})
        assert failed.steps[0].state is StepState.WAITING
        assert self.claim(database, "fit", after=["copy"]) == ["file/2"]
        assert self.claim(database, "copy", kind="file", query=query, now=8) == ["file/1"]
        with database.writing_synced() as connection:
            redone = steps.redo(connection, "file/2", "copy", 9 * SECOND)
        assert {step.state for step in redone.steps} == {StepState.WAITING}
        with database.snapshot() as connection:
            counts = overview(connection, Backlog, 9 * SECOND).steps
        assert [(each.name, each.waiting, each.running) for each in counts] == [("copy", 1, 1), ("fit", 0, 0)]

    def claim(self, database: Database, step: str, *, now: float = 1, **values: Any) -> list[str]:
        wanted = claim_order(**values)
        with database.writing_synced() as connection:
            backlog = Backlog(step, steps.declare(connection, step, wanted))
            found, _ = steps.claim(connection, wanted, backlog, int(now * SECOND))
            return [record.id for record in found]

    def find(self, database: Database, wanted: Selection, after: int = 0) -> list[Record]:
        with database.snapshot() as connection:
            return table.find(connection, wanted, after, 100)
