"""The catalog: the index of segments and batches, and SQL that both dialects accept."""

import math
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

from databuffer.errors import VolumeFailed
from databuffer.storage.catalog import BatchRow, Catalog, SegmentFilter, SegmentRow
from databuffer.storage.catalog import segments as segments_module
from databuffer.storage.catalog.database import insert, sql_text, upsert
from databuffer.storage.catalog.schema import BATCHES, IDEMPOTENCY_KEYS, SEGMENTS, SPENDING, TABLES
from databuffer.storage.catalog.segments import segments_query
from databuffer.storage.catalog.totals import tally_query
from databuffer.storage.spending import Spending
from databuffer.storage.tally import counted
from gwwire.overview import ChannelOverview
from gwwire.public import BatchState
from gwwire.spans import stop_of
from tests.support.faulty_volume import Crash, Fault, FaultyDatabase, FaultyVolume

POSTGRESQL: sa.Dialect = postgresql.dialect(paramstyle="format")  # type: ignore[no-untyped-call]
DIALECTS = [sqlite.dialect(), POSTGRESQL]


def row(number: int, channel: str | None = None, key: str | None = None) -> SegmentRow:
    return SegmentRow(f"gwb{number}.json", 10, f"{number:064x}", channel, float(number), 0.5, 2, number, key)


def names(catalog: Catalog, **wanted: Any) -> list[str]:
    return [found.name for found in catalog.segments.find(SegmentFilter(**wanted))]


def test_seqs_grow_without_a_gap_and_are_never_given_twice(catalog: Catalog) -> None:
    assert catalog.last_seq() == 0
    catalog.segments.add("a", [row(1), row(2)])
    catalog.segments.add("b", [row(3)])
    assert [(found.seq, found.batch) for found in catalog.segments.find(SegmentFilter())] == [
        (1, "a"),
        (2, "a"),
        (3, "b"),
    ]
    catalog.segments.remove("b", ["gwb3.json"])
    assert catalog.last_seq() == 3
    catalog.segments.add("b", [row(4)])
    assert catalog.last_seq() == 4 == catalog.segments.find(SegmentFilter(batch="b"))[0].seq


def test_a_group_is_inserted_whole_or_not_at_all(catalog: Catalog) -> None:
    catalog.segments.add("a", [row(1, key="one")])
    with pytest.raises(VolumeFailed, match="UNIQUE"):
        catalog.segments.add("a", [row(2, key="two"), row(3, key="one")], Spending(1, {"detchar": 20}))
    assert names(catalog) == ["gwb1.json"]
    assert catalog.last_seq() == 1
    assert catalog.ledger.by_key(["two"]) == {}
    assert catalog.ledger.spending(1).used == {}


def test_a_process_that_dies_before_the_commit_leaves_nothing(tmp_path: Path) -> None:
    faults = FaultyVolume()
    catalog = Catalog(FaultyDatabase(tmp_path / "catalog.sqlite", faults), tmp_path / ".ledger")
    catalog.open()
    faults.arm(Fault(call=0, number=None))
    with pytest.raises(Crash):
        catalog.segments.add("a", [row(1)])
    faults.heal()
    assert names(catalog) == []
    catalog.close()


def test_filters_select_and_pages_follow_each_other(catalog: Catalog) -> None:
    catalog.segments.add("a", [row(number, ("H1:A", "L1:A")[number % 2]) for number in range(1, 7)])
    catalog.segments.add("b", [row(7, "H1:A")])
    assert names(catalog, channel="L1:A") == ["gwb1.json", "gwb3.json", "gwb5.json"]
    assert names(catalog, batch="b") == ["gwb7.json"]
    assert names(catalog, start=5.0, stop=7.0) == ["gwb5.json", "gwb6.json"]
    assert names(catalog, after=2, limit=2) == ["gwb3.json", "gwb4.json"]
    assert names(catalog, before=4, limit=2) == ["gwb3.json", "gwb2.json"]
    assert len(names(catalog, limit=-1)) == 7


def test_long_lists_are_read_in_portions_and_stay_in_order(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments_module, "_PORTION", 3)
    catalog.segments.add("a", [row(number) for number in range(20)])
    assert list(catalog.segments.sizes("a").items()) == [(f"gwb{number}.json", 10) for number in range(20)]
    assert [extent.seq for extent in catalog.segments.extents("a", 5)] == list(range(6, 21))


def test_the_newest_segment_of_a_name_is_returned(catalog: Catalog) -> None:
    catalog.segments.add("a", [row(1)])
    catalog.segments.add("b", [row(1)])
    found = catalog.segments.get("gwb1.json")
    assert found
    assert (found.batch, found.seq) == ("b", 2)
    assert catalog.segments.get("gwb2.json") is None


def test_a_tally_counts_by_channel(catalog: Catalog) -> None:
    catalog.segments.add("a", [row(1, "H1:A"), row(2), row(9, "H1:A")])
    assert catalog.segments.tally("a") == {
        "H1:A": ChannelOverview("H1:A", 2, 20, 2.0, 1.0, 10.0, "gwb9.json"),
        None: ChannelOverview(None, 1, 10, 1.0, 2.0, 3.0, "gwb2.json"),
    }
    assert catalog.segments.tally("b") == {}


def test_a_batch_is_replaced_merged_and_dropped(catalog: Catalog) -> None:
    first, second = (BatchRow(name, BatchState.OPEN, opened, "data") for opened, name in enumerate("ab"))
    catalog.batches.put(second)
    catalog.batches.put(first)
    catalog.batches.put(BatchRow("a", BatchState.ARCHIVED, 0, "2026-11-20 23 41", n_itm=3))
    assert [(batch.id, batch.state, batch.n_itm) for batch in catalog.batches.all()] == [
        ("a", BatchState.ARCHIVED, 3),
        ("b", BatchState.OPEN, 0),
    ]
    catalog.batches.put(BatchRow("c", BatchState.ARCHIVED, 10**18, "2026-11-20 23 42"))  # the clock was set back later
    catalog.segments.add("c", [row(2)])
    assert [batch.id for batch in catalog.batches.all()] == ["c", "a", "b"]
    catalog.batches.drop("c")
    assert catalog.batches.archived() == 1
    catalog.segments.add("b", [row(1)])
    catalog.batches.merge("b", "a")
    assert catalog.batches.get("b") is None
    assert list(catalog.segments.sizes("a")) == ["gwb1.json"]
    catalog.batches.drop("a")
    assert catalog.batches.all() == []
    assert names(catalog) == []


def test_a_reader_is_not_blocked_by_a_transaction_and_sees_nothing_of_it(catalog: Catalog) -> None:
    catalog.segments.add("a", [row(1)])
    with catalog.database.writing() as connection:
        connection.execute(sa.delete(SEGMENTS))
        assert names(catalog) == ["gwb1.json"]
    assert names(catalog) == []


def plan(catalog: Catalog, query: sa.Select[Any]) -> list[str]:
    compiled = query.compile(dialect=catalog.database.dialect, compile_kwargs={"literal_binds": True})
    with catalog.database.reading() as connection:
        return [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}")]


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (SegmentFilter(), "PRIMARY KEY"),
        (SegmentFilter(batch="a"), "segments_by_batch"),
        (SegmentFilter(channel="H1:A"), "segments_by_channel"),
        (SegmentFilter(batch="a", before=9), "segments_by_batch"),
    ],
)
def test_no_page_of_segments_is_sorted_or_searched_in_the_whole_table(
    catalog: Catalog, wanted: SegmentFilter, index: str
) -> None:
    [step] = plan(catalog, segments_query(wanted))
    assert step.startswith("SEARCH")
    assert index in step


@pytest.mark.parametrize("dt", [0.00024414, 1 / 4096, 6.1035e-05, 1 / 4096.5, 59.9999999, 0.7, 1e-9, 1e6, 5e-324])
def test_a_segment_ends_where_its_sampling_says(catalog: Catalog, dt: float) -> None:
    n, t0 = 10**6, 1e9
    rows = [row(1)._replace(t0=t0, dt=dt, n=n)]
    catalog.segments.add("b", rows)
    stop = stop_of(t0, n, dt)
    assert names(catalog, start=math.nextafter(stop, t0)) == (["gwb1.json"] if stop > t0 else [])
    assert names(catalog, start=stop) == []
    assert catalog.segments.tally("b") == counted({}, rows)


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: dialect.name)
def test_every_statement_compiles_for_both_dialects(dialect: sa.Dialect) -> None:
    for table in TABLES.sorted_tables:
        CreateTable(table).compile(dialect=dialect)
        for index in table.indexes:
            CreateIndex(index).compile(dialect=dialect)
    for statement in (
        segments_query(SegmentFilter("a", "H1:A", 1.0, 2.0, 3, 4, 5)),
        tally_query(),
        upsert(dialect, BATCHES),
        insert(dialect, SPENDING).on_conflict_do_nothing(),
        segments_module._CLAIMED_BEFORE,  # noqa: SLF001 (not reachable otherwise without a server)
    ):
        statement.compile(dialect=dialect)
    for text in (sql_text(dialect, sa.insert(SEGMENTS)), sql_text(dialect, sa.insert(IDEMPOTENCY_KEYS))):
        assert text.count("?" if dialect.name == "sqlite" else "%s") in {5, 11}


def test_times_in_nanoseconds_fit_into_the_columns_of_postgresql() -> None:
    text = str(CreateTable(SEGMENTS).compile(dialect=POSTGRESQL))
    assert "stored BIGINT" in text
    assert "seq BIGINT" in text
    assert "t0 DOUBLE PRECISION" in text
