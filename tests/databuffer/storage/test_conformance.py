"""The SQL of the catalog behaves alike in every database that may contain it."""

import dataclasses
import threading
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
from databuffer.storage.catalog.batches import Batches
from databuffer.storage.catalog.ledger import Ledger
from databuffer.storage.catalog.migrations import migrate
from databuffer.storage.catalog.schema import COUNTER, REPLICAS, TABLES
from databuffer.storage.catalog.segments import Segments
from databuffer.storage.spending import Spending
from databuffer.tiers.ledger import replicas
from databuffer.tiers.ledger.replicas import ReplicaRow
from databuffer.tiers.upkeep.census import Held, take_census, unreadable_packs
from gwwire.public import BatchState
from gwwire.records import Record, StepClaim, StepEnd, StepState
from gwwire.tiering import ReplicaState, Tiering
from tests.support.postgres import PostgresDatabase, running_postgres

SECOND = 10**9
TIERS = ("object", "tape")


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
    """Segments, batches, ledger, records, steps, replicas and the order of the feed."""

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

    def test_replicas_are_verified_once_they_are_written_and_compared(self, database: Database) -> None:
        self.store_replicas(database, {"disk": 3})
        with database.writing_synced() as connection:
            replicas.begin_write(connection, "batch/a", "tape", "batches/a.tar", 5)
            replicas.note_written(connection, "batch/a", "tape", "f" * 64, 7)
            census = take_census(connection, ["tape"])
            assert (census["disk"].held, census["disk"].verified) == ({ReplicaState.VERIFIED: Held(1, 5)}, 3)
            assert (census["tape"].held, census["tape"].verified) == ({ReplicaState.WRITTEN: Held(1, 5)}, None)
            written = replicas.get(connection, "batch/a", "tape")
            assert written
            assert (written.state, written.written, written.verified) == ("WRITTEN", 7, None)
            assert replicas.note_verified(connection, dataclasses.replace(written, verified=9))
            census = take_census(connection, ["tape"])
            assert (census["tape"].held, census["tape"].verified) == ({ReplicaState.VERIFIED: Held(1, 5)}, 9)
            unverified = replicas.longest_unverified(connection, ["disk", "tape"], 10, 5)
            assert [(row.tier, row.written, row.verified) for row in unverified] == [("disk", 3, 3), ("tape", 7, 9)]
            assert replicas.longest_unverified(connection, ["tape"], 9, 5) == []
            for tier in ("disk", "object"):
                replicas.put(connection, ReplicaRow("batch/b", tier, "b", 5, ReplicaState.WRITTEN))
            unread = replicas.longest_unverified(connection, ["disk", "object", "tape"], 10, 1)
            assert [(row.pack, row.tier) for row in unread] == [("batch/b", "disk")]

    def test_packs_are_unreadable_if_only_tiers_have_them_that_there_are_not(self, database: Database) -> None:
        self.store_replicas(database, {"disk": 3, "object": 3, "tape": 3})
        with database.writing_synced() as connection:
            assert unreadable_packs(connection, []) == {}
            replicas.remove(connection, "batch/a", "disk")
            assert unreadable_packs(connection, ["other"]) == {"object": 1, "tape": 1}
            assert unreadable_packs(connection, ["tape"]) == {}
            census = take_census(connection, ["tape"])
            assert {tier: (each.unreadable, each.verified) for tier, each in census.items()} == {
                "disk": (0, None), "tape": (0, 3), "object": (0, None),
            }  # fmt: skip
            assert take_census(connection, [])["object"].unreadable == 1

    def test_only_a_replica_that_is_as_it_was_seen_becomes_lost(self, database: Database) -> None:
        self.store_replicas(database, {"disk": 3, "tape": 3})
        with database.writing_synced() as connection:
            seen = replicas.get(connection, "batch/a", "tape")
            assert seen
            replicas.note_verified(connection, dataclasses.replace(seen, verified=4))
            assert not replicas.note_lost(connection, seen, "differs"), "it was verified meanwhile"
            seen = replicas.of_pack(connection, "batch/a")[1]
            assert replicas.note_lost(connection, seen, "differs")
            assert not replicas.note_lost(connection, seen, "differs")
            replicas.begin_write(connection, "batch/a", "tape", "batches/a.tar", 5)
            again = replicas.get(connection, "batch/a", "tape")
            assert again
            assert (again.state, again.error) == ("WRITING", "differs")

    def test_the_last_verified_replica_is_never_deleted(self, database: Database) -> None:
        self.store_replicas(database, {"disk": 3, "object": 3, "tape": 3})
        for state in (ReplicaState.WRITING, ReplicaState.WRITTEN, ReplicaState.LOST, ReplicaState.DELETING):
            with database.writing_synced() as connection:
                for tier in ("disk", "object"):
                    connection.execute(sa.update(REPLICAS).where(REPLICAS.c.tier == tier).values(state=state))
                with pytest.raises(replicas.LastReplica):
                    replicas.begin_delete(connection, "batch/a", "tape", among=TIERS)
                replicas.begin_delete(connection, "batch/a", "object", among=TIERS)
                assert {row.tier: row.state for row in replicas.of_pack(connection, "batch/a")} == {
                    "disk": state,
                    "object": ReplicaState.DELETING,
                    "tape": ReplicaState.VERIFIED,
                }

    def test_a_replica_of_another_pack_does_not_count(self, database: Database) -> None:
        self.store_replicas(database, {"disk": 3}, pack="batch/b")
        self.store_replicas(database, {"tape": 3})
        with database.writing_synced() as connection, pytest.raises(replicas.LastReplica):
            replicas.begin_delete(connection, "batch/a", "tape", among=TIERS)

    def test_a_replica_in_a_tier_that_there_is_not_does_not_count(self, database: Database) -> None:
        self.store_replicas(database, {"disk": 3, "gone": 3})
        with database.writing_synced() as connection, pytest.raises(replicas.LastReplica, match="only in gone"):
            replicas.begin_delete(connection, "batch/a", "disk", among=TIERS)

    def test_of_two_deletions_at_the_same_time_one_is_refused(self, database: Database) -> None:
        self.store_replicas(database, {"object": 3, "tape": 3})
        marked, refused = threading.Event(), []

        def delete_second() -> None:
            marked.wait()
            try:
                with database.writing_synced() as connection:
                    replicas.begin_delete(connection, "batch/a", "object", among=TIERS)
            except replicas.LastReplica as error:
                refused.append(error)

        second = threading.Thread(target=delete_second)
        second.start()
        with database.writing_synced() as connection:
            replicas.begin_delete(connection, "batch/a", "tape", among=TIERS)
            marked.set()
            second.join(0.3)
            assert second.is_alive(), "it waits for the end of the first"
        second.join()
        assert len(refused) == 1
        with database.reading() as connection:
            states = {row.tier: row.state for row in replicas.of_pack(connection, "batch/a")}
        assert states == {"object": ReplicaState.VERIFIED, "tape": ReplicaState.DELETING}

    def test_a_replica_that_is_being_deleted_is_neither_written_nor_verified(self, database: Database) -> None:
        self.store_replicas(database, {"disk": 3, "tape": 3})
        with database.writing_synced() as connection:
            replicas.begin_delete(connection, "batch/a", "tape", among=TIERS)
            with pytest.raises(replicas.ReplicaBusy):
                replicas.begin_write(connection, "batch/a", "tape", "batches/a.tar", 5)
            seen = replicas.of_pack(connection, "batch/a")[1]
            assert not replicas.note_verified(connection, dataclasses.replace(seen, verified=9))
            replicas.keep(connection, "batch/a", "tape", 9, None)
            assert replicas.of_pack(connection, "batch/a")[1] == dataclasses.replace(
                seen, state=ReplicaState.VERIFIED, verified=9
            )
            replicas.note_deleted(connection, "batch/a", "tape")
            replicas.begin_delete(connection, "batch/a", "tape", among=TIERS)
            replicas.note_deleted(connection, "batch/a", "tape")
            assert [row.tier for row in replicas.of_pack(connection, "batch/a")] == ["disk"]

    def test_archived_batches_are_found_with_their_policy_and_replicas(self, database: Database) -> None:
        batches = Batches(database)
        batches.put(BatchRow("a", BatchState.ARCHIVED, 1, "2026-11-20 23 41", frozen=2, archived=3))
        batches.put(BatchRow("b", BatchState.ARCHIVED, 1, "2026-11-20 23 42", frozen=2, archived=2))
        batches.put(BatchRow("old", BatchState.ARCHIVED, 1, "2026-11-20 23 40", archived=3))
        batches.put(BatchRow("none", BatchState.ARCHIVED, 1, "2026-11-20 23 39", frozen=2, archived=3))
        batches.put(BatchRow("open", BatchState.OPEN, 1, "data"))
        self.store_replicas(database, {"disk": 3})
        with database.writing_synced() as connection:
            for pack in ("batch/a", "batch/b", "batch/old", "batch/open", "batch/gone"):
                replicas.put_tiering(connection, pack, Tiering(("object",)))
            replicas.put_tiering(connection, "batch/b", Tiering(("tape",), 7))
        with database.snapshot() as connection:
            found = replicas.archives(connection, 0)
            assert replicas.tiering_of(connection, "batch/none") is None
        assert [(each.pack, each.archived, each.tiering, list(each.replicas)) for each in found] == [
            ("batch/b", 2, Tiering(("tape",), 7), []),
            ("batch/a", 3, Tiering(("object",)), ["disk"]),
        ]

    def store_replicas(self, database: Database, verified: dict[str, int], pack: str = "batch/a") -> None:
        """Store VERIFIED replicas, given by tier with the time of their verification."""
        with database.writing_synced() as connection:
            for tier, at in verified.items():
                row = ReplicaRow(pack, tier, "batches/a.tar", 5, ReplicaState.WRITTEN, "f" * 64, verified=at)
                assert replicas.note_verified(connection, row)

    def claim(self, database: Database, step: str, *, now: float = 1, **values: Any) -> list[str]:
        wanted = claim_order(**values)
        with database.writing_synced() as connection:
            backlog = Backlog(step, steps.declare(connection, step, wanted))
            found, _ = steps.claim(connection, wanted, backlog, int(now * SECOND))
            return [record.id for record in found]

    def find(self, database: Database, wanted: Selection, after: int = 0) -> list[Record]:
        with database.snapshot() as connection:
            return table.find(connection, wanted, after, 100)
