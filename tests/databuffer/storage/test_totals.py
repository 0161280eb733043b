"""The totals of segments by batch and channel agree with the segments after every change."""

from pathlib import Path
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa

from databuffer.storage.catalog import BatchRow, Catalog, Database, SegmentRow
from databuffer.storage.catalog.schema import SEGMENTS, TOTALS
from gwwire.public import BatchState
from gwwire.spans import stop_of


def row(number: int, chance: Random) -> SegmentRow:
    channel, dt = chance.choice(["L1:A", "H1:A", None]), chance.choice([0.00024414, 1 / 4096, 0.3, 2.00001])
    t0 = 1126250000 + chance.randrange(1000)
    return SegmentRow(f"gwb{number}.json", 90 + number, "", channel, t0, dt, chance.randrange(1, 9), number)


def totals(catalog: Catalog) -> list[tuple[Any, ...]]:
    with catalog.database.reading() as connection:
        return [
            tuple(each) for each in connection.execute(sa.select(TOTALS).order_by(TOTALS.c.batch, TOTALS.c.channel))
        ]


def counted(catalog: Catalog) -> list[tuple[Any, ...]]:
    parts: dict[tuple[str, str], list[Any]] = {}
    with catalog.database.reading() as connection:
        for each in connection.execute(sa.select(SEGMENTS).order_by(SEGMENTS.c.seq)):
            parts.setdefault((each.batch, each.channel or ""), []).append(each)
    return [
        (
            *key,
            len(rows),
            sum(each.bytes for each in rows),
            min(each.t0 for each in rows),
            max(stop_of(each.t0, each.n, each.dt) for each in rows),
            max(stop_of(0.0, each.n, each.dt) for each in rows),
            rows[0].seq,
            rows[-1].seq,
        )
        for key, rows in sorted(parts.items())
    ]


def approximately(rows: list[tuple[Any, ...]]) -> list[Any]:
    return [(*each[:4], *map(pytest.approx, each[4:7]), *each[7:]) for each in rows]


def test_totals_follow_additions_removals_and_moves(catalog: Catalog) -> None:
    chance = Random(3)
    for number, batch in enumerate(["b1", "b2", "b3"]):
        catalog.batches.put(BatchRow(batch, BatchState.OPEN, number, batch))
    for group in range(12):
        catalog.segments.add(f"b{1 + group % 3}", [row(10 * group + n, chance) for n in range(chance.randrange(1, 9))])
        assert totals(catalog) == approximately(counted(catalog))
    catalog.segments.remove("b1", ["gwb0.json", "gwb30.json", "gwb31.json"])
    assert totals(catalog) == approximately(counted(catalog))
    catalog.batches.merge("b2", "b1")
    assert totals(catalog) == approximately(counted(catalog))
    catalog.batches.drop("b1")
    assert {each[0] for each in totals(catalog)} == {"b3"}
    catalog.segments.remove("b3", list(catalog.segments.sizes("b3")))
    assert totals(catalog) == [] == counted(catalog)


def test_a_migration_counts_the_segments_that_are_there(tmp_path: Path) -> None:
    chance = Random(4)
    new = Catalog(Database(tmp_path / "catalog.sqlite"), tmp_path / ".ledger")
    new.open()
    new.segments.add("b1", [row(number, chance) for number in range(50)])
    expected = totals(new)
    with new.database.writing() as connection:
        for statement in (
            "DROP TABLE totals",
            "DROP INDEX segments_by_time",
            "DROP TABLE segment_conditions",
            "DROP TABLE bundles",
            "DROP TABLE unread_meta",
            "ALTER TABLE steps DROP COLUMN asked",
            "DROP TABLE replicas",
            "DROP TABLE tierings",
            "DROP TABLE pins",
            "DROP TABLE holdings",
            "DROP TABLE holding_tags",
            "DROP TABLE holding_files",
            "DROP TABLE transactions",
            "DROP TABLE file_packs",
            "CREATE TABLE verifications (batch VARCHAR PRIMARY KEY, found VARCHAR NOT NULL)",
            "CREATE TABLE claims (batch VARCHAR PRIMARY KEY, worker VARCHAR NOT NULL, expires BIGINT NOT NULL)",
            "UPDATE schema SET version = 2",
        ):
            connection.exec_driver_sql(statement)
    new.close()
    new.open()
    assert totals(new) == approximately(expected)
    new.close()


@pytest.mark.parametrize("state", [BatchState.OPEN, BatchState.FROZEN])
def test_a_sealed_batch_changes_when_recovery_adds_segments_to_it(catalog: Catalog, state: BatchState) -> None:
    catalog.batches.put(BatchRow("b1", state, 1, "data"))
    before = catalog.batches.get("b1")
    last = catalog.segments.add("b1", [row(1, Random(5))], recovered=True)
    after = catalog.batches.get("b1")
    assert before
    assert after
    assert after.seq == (before.seq if state is BatchState.OPEN else last + 1)
