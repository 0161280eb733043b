"""Stored time spans, compared with joining samples by hand."""

import math
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from databuffer.buffer import Buffer
from databuffer.coverage import CoverageKeeper
from databuffer.errors import NotFound
from databuffer.settings import BufferSettings
from databuffer.storage.catalog import Catalog, Database, SegmentFilter, SegmentRow
from databuffer.storage.catalog.rows import Extent
from gwfiles.stretches import assemble
from gwwire.coverage import joined
from gwwire.datastore import FreezeOrder
from gwwire.public import SegmentRecord, Span
from gwwire.query import Query
from gwwire.segment import Segment, encode_segment
from preproc.batch import read_batch
from preproc.progress import silent
from preproc.runs import find_runs, most_sampled_rate

pytestmark = pytest.mark.anyio

#: Channel, dt, place of the first sample in units of dt/4, samples: few of each, so that segments meet.
Piece = tuple[str | None, float, int, int]
pieces = st.lists(
    st.tuples(
        st.sampled_from([None, "H1:A", "L1:A"]), st.sampled_from([0.25, 1.0]), st.integers(0, 80), st.integers(1, 5)
    ),
    max_size=40,
)


def row(number: int, piece: Piece) -> SegmentRow:
    channel, dt, place, n = piece
    return SegmentRow(f"gwb{number}.json", 10, "", channel, place * dt / 4, dt, n, 0)


def by_hand(of_one: Iterable[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Join segments that touch until none does; places in quarters of a sample."""
    found = [(place, place + 4 * n, 1) for place, n in of_one]
    changed = True
    while changed:
        changed = False
        for one in found:
            touching = [other for other in found if other is not one and other[0] <= one[1] and one[0] <= other[1]]
            if touching:
                together = [one, *touching]
                found = [each for each in found if all(each is not gone for gone in together)]
                found.append(
                    (min(a for a, _, _ in together), max(b for _, b, _ in together), sum(c for _, _, c in together))
                )
                changed = True
                break
    return sorted(found)


@settings(max_examples=60, deadline=None)
@given(pieces=pieces, portions=st.lists(st.integers(0, 40), max_size=4))
def test_coverage_equals_joining_by_hand_in_any_order_of_segments(pieces: list[Piece], portions: list[int]) -> None:
    folder = TemporaryDirectory()
    catalog = Catalog(Database(Path(folder.name) / "catalog.sqlite"), Path("nowhere"))
    catalog.open()
    keeper = CoverageKeeper(catalog)
    places = sorted({0, len(pieces), *(min(portion, len(pieces)) for portion in portions)})
    for start, stop in pairwise([*places, len(pieces)]):
        catalog.segments.add("b", [row(number, pieces[number]) for number in range(start, stop)])
        told = keeper.of(["b"])
    catalog.close()
    folder.cleanup()
    expected = {
        series: [
            (start * series[1] / 4, stop * series[1] / 4, count)
            for start, stop, count in by_hand((place, n) for channel, dt, place, n in pieces if (channel, dt) == series)
        ]
        for series in {(channel, dt) for channel, dt, _, _ in pieces}
    }
    assert told == [expected]


def test_the_spans_of_several_batches_are_joined(tmp_path: Path) -> None:
    catalog = Catalog(Database(tmp_path / "catalog.sqlite"), tmp_path / ".ledger")
    catalog.open()
    catalog.segments.add("a", [row(1, (None, 1.0, 0, 4))])
    catalog.segments.add("b", [row(2, (None, 1.0, 16, 4)), row(3, (None, 1.0, 400, 1))])
    keeper = CoverageKeeper(catalog)
    assert joined(keeper.of(["a", "b"])) == {(None, 1.0): [(0.0, 8.0, 2), (100.0, 101.0, 1)]}
    assert keeper.of(["a"]) == [{(None, 1.0): [(0.0, 4.0, 1)]}]
    assert keeper.of([]) == []
    catalog.close()


#: Spacings that are written in full and rounded, times that fit one of them, and the second of a segment.
rounded_pieces = st.lists(
    st.tuples(st.sampled_from([1 / 256, 0.00390628]), st.sampled_from([1 / 256, 0.00390628]), st.integers(0, 40)),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(pieces=rounded_pieces, portion=st.integers(1, 30))
def test_segments_with_rounded_spacings_cover_the_same_whether_they_are_read_at_once_or_in_portions(
    pieces: list[tuple[float, float, int]], portion: int
) -> None:
    folder = TemporaryDirectory()
    catalog = Catalog(Database(Path(folder.name) / "catalog.sqlite"), Path("nowhere"))
    catalog.open()
    keeper = CoverageKeeper(catalog)
    rows = [
        SegmentRow(f"gwb{i}.json", 10, "", "H1:A", 1e6 + second * 256 * true, written, 256, 0)
        for i, (true, written, second) in enumerate(pieces)
    ]
    for start in range(0, len(rows), portion):
        catalog.segments.add("b", rows[start : start + portion])
        (told,) = keeper.of(["b"])
        assert [told] == CoverageKeeper(catalog).of(["b"])
    catalog.close()
    folder.cleanup()


def test_a_new_segment_with_a_rounded_spacing_is_the_only_one_that_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = Catalog(Database(tmp_path / "catalog.sqlite"), tmp_path / ".ledger")
    catalog.open()
    rows = [SegmentRow(f"gwb{i}.json", 10, "", "H1:A", 1e9 + i, 0.00024414, 4096, 0) for i in range(40)]
    catalog.segments.add("b", rows[:20])
    keeper, extents, read = CoverageKeeper(catalog), catalog.segments.extents, list[int]()

    def counted(batch: str, after: int) -> list[Extent]:
        found = list(extents(batch, after))
        read.append(len(found))
        return found

    monkeypatch.setattr(catalog.segments, "extents", counted)
    for row_ in rows[20:]:
        keeper.of(["b"])
        catalog.segments.add("b", [row_])
    assert keeper.of(["b"]) == [{("H1:A", 1 / 4096): [(1e9, 1e9 + 40, 40)]}]
    assert read == [20] + 20 * [1]
    catalog.close()


def test_a_sample_spacing_that_was_rounded_is_the_same_series(tmp_path: Path) -> None:
    catalog = Catalog(Database(tmp_path / "catalog.sqlite"), tmp_path / ".ledger")
    catalog.open()
    spacings = [1 / 4096, 0.00024414]
    catalog.segments.add(
        "b", [SegmentRow(f"gwb{i}.json", 10, "", "H1:A", 1e9 + i, spacings[i % 2], 4096, 0) for i in range(32)]
    )
    assert CoverageKeeper(catalog).of(["b"]) == [{("H1:A", 1 / 4096): [(1e9, 1e9 + 32, 32)]}]
    catalog.close()


async def test_the_coverage_of_a_growing_batch_is_current_and_stays_after_archiving(buffer: Buffer) -> None:
    async def spans(batch: str | None = None) -> list[Span]:
        told = await buffer.search.coverage(Query(batch=(batch,) if batch else ()))
        assert told.batch == batch
        return [span for channel in told.channels for span in channel.spans]

    assert await spans() == []
    await buffer.ingest.append(b'{"h":[1.0,2.0],"t":[100,1]}')
    assert await spans() == [(100.0, 102.0, 1)]
    await buffer.ingest.append(b'{"h":[1.0,2.0],"t":[102,1]}')
    first = (await buffer.batches.freeze(FreezeOrder("alice", "secret"))).batch
    assert await spans() == await spans(first) == [(100.0, 104.0, 2)]
    await buffer.batches.flush()
    await buffer.ingest.append(b'{"h":[1.0,2.0],"t":[200,1]}')
    assert await spans(first) == [(100.0, 104.0, 2)]
    assert await spans() == [(100.0, 104.0, 2), (200.0, 202.0, 1)]
    with pytest.raises(NotFound):
        await spans("nothing")


@pytest.mark.parametrize("computed", [False, True], ids=["exact times", "times computed with dt"])
@pytest.mark.parametrize(
    ("rate", "written"), [(4096, 0.00024414), (16384, 6.1035e-05), (4096, 0.00024414063), (256, 0.00390628)]
)
async def test_coverage_overview_client_and_preprocessing_join_the_same_segments(
    buffer: Buffer, settings: BufferSettings, rate: int, written: float, *, computed: bool
) -> None:
    noise = np.random.default_rng(1).standard_normal((8, rate))
    dt = written if computed else 1 / rate
    for second, h in enumerate(noise):
        t = 1e9 + second * rate * dt, written if computed or second % 3 else dt
        await buffer.ingest.append(encode_segment(Segment(h.tolist(), t, {"channel": "H1:A"})))
        # Each time, it reads what is new.
        (covered,) = (await buffer.search.coverage(Query())).channels
    whole: Any = pytest.approx((1e9, 1e9 + 8 * rate * dt), rel=0, abs=1e-2 / rate)
    ((start, stop, count),) = covered.spans
    assert ((start, stop), count) == (whole, 8)
    (channel,) = (await buffer.queries.overview()).channels
    assert (channel.start, channel.stop) == pytest.approx((1e9, 1e9 + 8 * rate * dt), rel=0, abs=0.1 / rate)
    assert channel.seconds == 8

    rows = await buffer.queries.segments(SegmentFilter(limit=100))
    records = [
        SegmentRecord(each.seq, each.name, "", each.bytes, each.sha256, each.channel, each.t0, each.dt, each.n, "")
        for each in rows
    ]
    (stretch,), left_out = assemble(records, -math.inf, math.inf)
    assert ((stretch.t0, stretch.stop), stretch.count, left_out) == (whole, 8 * rate, [])

    batch = read_batch(settings.DATAROOT, silent)
    pieces, rejected = most_sampled_rate(batch.pieces)
    runs = find_runs(pieces, batch.load)
    ((run,),) = runs.by_channel.values()
    assert (runs.grid.gps(run.start), runs.grid.gps(run.stop)) == whole
    assert not rejected + runs.rejected
    assert covered.dt == stretch.dt == runs.grid.dt
    assert computed or covered.dt == 1 / rate
