"""A search reads only the part of the segments that can match."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from databuffer.records.selection import segments_matching
from databuffer.search.plan import plan
from databuffer.storage.catalog import Catalog, Database, SegmentFilter
from databuffer.storage.catalog.segments import segments_query
from gwwire.query import parse_words
from tools.benchmark.search import fill, measure

NUMBER, START = 4000, 1_126_250_000


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    folder: Path = tmp_path_factory.mktemp("many")
    catalog = Catalog(Database(folder / "catalog.sqlite"), folder / ".ledger")
    catalog.open()
    fill(catalog, NUMBER, batches=4, records=100)
    yield catalog
    catalog.close()


def steps_of(catalog: Catalog, words: str) -> list[str]:
    """Return what SQLite does for the first page of a query."""
    query = parse_words(words.split())
    with catalog.database.snapshot() as connection:
        clauses = (*plan(connection, query), *segments_matching(query))
        page = segments_query(SegmentFilter(clauses=clauses))
        compiled = page.compile(dialect=catalog.database.dialect, compile_kwargs={"render_postcompile": True})
        values = tuple(compiled.params[name] for name in compiled.positiontup or ())
        return [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", values)]


@pytest.mark.parametrize(
    ("words", "index"),
    [
        (f"start={START + 250} stop={START + 260}", "segments_by_time (batch=? AND channel=? AND t0>? AND t0<?)"),
        ("detector=L1", "segments_by_time (batch=? AND channel=?)"),
        ("snr<1", "segment_conditions_by_value (name=? AND number<?)"),
        ("run=O4", "segments_by_name (name=?)"),
    ],
)
def test_what_few_segments_can_match_is_looked_up_by_an_index(catalog: Catalog, words: str, index: str) -> None:
    steps = steps_of(catalog, words)
    assert any(index in step for step in steps), steps
    assert any(step.startswith("SEARCH segments USING INTEGER PRIMARY KEY (rowid=?)") for step in steps), steps


def test_nothing_is_read_for_a_detector_without_segments(catalog: Catalog) -> None:
    query = parse_words(["detector=X9"])
    with catalog.database.snapshot() as connection:
        assert [str(clause) for clause in plan(connection, query)] == ["false"]


def test_reading_on_begins_at_the_first_segment_that_can_match(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("databuffer.search.plan._FEW", 0)
    query = parse_words([f"start={START + 250}", "detector=L1"])
    with catalog.database.snapshot() as connection:
        [between] = plan(connection, query)
        everything = catalog.segments.find(SegmentFilter(limit=-1))
        matching = [
            row.seq for row in everything if row.channel in {"L1:STRAIN", "L1:AUX"} and row.t0 + 1 > START + 250
        ]
        assert between.compile().params == {"seq_1": matching[0], "seq_2": matching[-1]}


def test_the_benchmark_prints_a_table(catalog: Catalog, capsys: pytest.CaptureFixture[str]) -> None:
    measure(catalog, NUMBER)
    assert len(capsys.readouterr().out.splitlines()) == 19
