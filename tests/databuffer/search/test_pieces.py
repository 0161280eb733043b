"""A span that cuts many channels is answered by few statements."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from databuffer.search.coverage import spans_of_totals
from databuffer.search.facet_counts import count
from databuffer.search.plan import plan, totals_of
from databuffer.storage.catalog import BatchRow, Catalog, Database, SegmentRow
from gwwire.coverage import spans_of_extents
from gwwire.public import BatchState
from gwwire.query import Query

CHANNELS = [f"H1:AUX-{number:03d}" for number in range(200)]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    folder: Path = tmp_path_factory.mktemp("many")
    catalog = Catalog(Database(folder / "catalog.sqlite"), folder / ".ledger")
    catalog.open()
    catalog.batches.put(BatchRow("b1", BatchState.OPEN, 1, "data"))
    for second in range(4):
        rows = [
            SegmentRow(f"gwb{second}{number:03d}.json", 10, "0" * 64, channel, float(second), 0.25, 4, 1)
            for number, channel in enumerate(CHANNELS)
        ]
        catalog.segments.add("b1", rows)
    yield catalog
    catalog.close()


@pytest.mark.parametrize("query", [Query(start=0.5, stop=2.5), Query(start=1.5, channel=("*-1*", "H1:*"))])
def test_the_number_of_statements_does_not_grow_with_the_channels_that_a_span_cuts(
    catalog: Catalog, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("databuffer.search.plan._FEW", 0)
    kept = {"b1": spans_of_extents({(channel, 0.25): [(float(t0), 4) for t0 in range(4)] for channel in CHANNELS})}
    statements = []
    with catalog.database.snapshot() as connection:
        sa.event.listen(connection, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
        rows = totals_of(connection, query)
        covered = spans_of_totals(connection, query, rows, kept)
        counted = count(connection, query, 1.0)
        plan(connection, query)
    first, stop = (0.0 if query.stop else 1.0), (3.0 if query.stop else 4.0)
    assert covered == {(channel, 0.25): [(first, stop, 3)] for channel in CHANNELS}
    assert [(each.segments, each.bytes) for each in counted.parts.values()] == [(3, 30)] * len(CHANNELS)
    assert len(statements) < 30
