"""Count the segments that a query selects, by what they are, by their records, and by their conditions.

Numbers that TOTALS has, and those of a few records or segments, are exact. The rest is counted in ranges of seq,
the newest first, until a time is over: `after` is then the seq up to which nothing was counted.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from msgspec import structs

from databuffer.records.selection import segments_matching
from databuffer.search.clauses import SEGMENT_RECORD, Clause, of_segments
from databuffer.search.plan import count_inside, few_of, is_inside, is_of_segment, name_of, named, totals_of
from databuffer.storage.catalog.schema import RECORD_CONDITIONS, RECORDS, SEGMENT_CONDITIONS, SEGMENTS
from databuffer.storage.catalog.spans import stop_column
from gwwire.detectors import describe, detector_of
from gwwire.query import Query
from gwwire.records import GOOD

#: So many segments, records or conditions are counted at once.
_FEW = 10_000
#: The width of the first range of seqs, and the factor from one to the next.
_FIRST_WIDTH, _FACTOR = 4096, 4
#: The most seconds for all ranges on a machine that is busy.
_ELAPSED_SECONDS = 1.0
_C = SEGMENTS.c
_RECORD_ID = sa.literal(SEGMENT_RECORD) + _C.name
# Aliases: the clauses of a query have these tables in queries of their own.
_RECORD, _META, _WRITTEN = RECORDS.alias("record"), SEGMENT_CONDITIONS.alias("meta"), RECORD_CONDITIONS.alias("written")


@dataclass
class Part:
    """The matching segments of one batch and channel; `bytes` is None if it would take long to sum them."""

    segments: int
    bytes: int | None
    start: float
    stop: float


@dataclass
class Condition:
    """One condition: how many segments have a number, and each text; the range, and the facilities where it occurs."""

    numbers: int = 0
    texts: Counter[str] = field(default_factory=Counter)
    low: float | None = None
    high: float | None = None
    facilities: set[str] = field(default_factory=set)

    @property
    def segments(self) -> int:
        """The number of segments that have it."""
        return self.numbers + self.texts.total()

    def add(
        self, text: str | None, number: int, low: float | None, high: float | None, channel: str | None = None
    ) -> None:
        """Add segments that have it, with a text or with numbers in a range, those of one channel or of any."""
        self.facilities.add(facility_of(channel))
        if text is not None:
            self.texts[text] += number
            return
        self.numbers += number
        self.low = min((each for each in (self.low, low) if each is not None), default=None)
        self.high = max((each for each in (self.high, high) if each is not None), default=None)


@dataclass
class Counts:
    """The counts by (batch, channel), by (status, run, last), and by condition.

    `after` are seqs: what was stored up to them is not in the counts of that kind; 0: all is.
    """

    parts: dict[tuple[str, str], Part] = field(default_factory=dict)
    records: Counter[tuple[str, str | None, str | None]] = field(default_factory=Counter)
    conditions: dict[str, Condition] = field(default_factory=lambda: defaultdict(Condition))
    parts_after: int = 0
    records_after: int = 0
    conditions_after: int = 0
    #: True if segments without a written record, which are good, are among those counted by records.
    all_have_status: bool = True


def count(connection: sa.Connection, query: Query, seconds: float) -> Counts:
    """Count the segments that a query selects, with about so much CPU time for what is counted in ranges.

    A range is begun only if it is expected to end in time, but for the first.
    """
    return _Counting(connection, query).counts(seconds)


def facility_of(channel: str | None) -> str:
    """Return the facility of a channel, or an empty text."""
    detector = detector_of(channel)
    return describe(detector).facility if detector else ""


class _Counting:
    def __init__(self, connection: sa.Connection, query: Query) -> None:
        self._connection = connection
        self._query = query
        self._matching = tuple(segments_matching(query))
        self._found = Counts()
        self._records = sa.select(name_of(RECORDS.c.id)).where(is_of_segment(RECORDS.c.id))
        self._rewritten = self._records.where(RECORDS.c.conditions.is_not(None))
        self._number = self._size(self._records)

    def counts(self, seconds: float) -> Counts:
        found, few_records = self._found, self._number <= _FEW
        known = self._add_known_parts()
        if few_records and self._number:
            self._add_records(_C.seq.in_(named(self._records)))
            self._add_record_conditions(_C.seq.in_(named(self._rewritten)))
        for some, of_meta, after in self._ranges(seconds):
            self._add_meta(of_meta)
            found.conditions_after = after
            if not known:
                self._add_parts(some)
                found.parts_after = after
            if not few_records:
                self._add_records(some)
                self._add_record_conditions(some)
                found.records_after = after
        if few_records:
            found.all_have_status = not found.parts_after
            total = sum(part.segments for part in found.parts.values())
            found.records[GOOD, None, None] += total - found.records.total()
        return found

    def _size(self, rows: sa.Select[Any]) -> int:
        """Return the number of rows, but at most one more than are few."""
        limited = rows.limit(_FEW + 1).subquery()
        return int(self._connection.execute(sa.select(sa.func.count()).select_from(limited)).scalar_one())

    # ---- ranges

    def _ranges(self, seconds: float) -> Iterator[tuple[Clause, Clause, int]]:
        """Yield clauses that select a part of what matches, one on segments and one on scalars of `meta`.

        With them comes the seq up to which matching segments are left, 0 if there are none.
        """
        if few := few_of(self._connection, self._query, _FEW):
            seqs = sa.select(_C.seq).where(*few, *self._matching, ~self._is_rewritten())
            yield sa.and_(*few), _META.c.segment.in_(seqs), 0
            return
        totals = totals_of(self._connection, self._query)
        first = min((row.first_seq for row in totals), default=1)
        high = max((row.last_seq for row in totals), default=0)
        width, expected = _FIRST_WIDTH, 0.0
        end, last_end = time.thread_time() + seconds, time.monotonic() + _ELAPSED_SECONDS
        while high >= first and (not expected or (time.thread_time() + expected < end and time.monotonic() < last_end)):
            low, began = max(high - width, first - 1), time.thread_time()
            selected = sa.exists().where(_C.seq == _META.c.segment, *self._matching, ~self._is_rewritten())
            of_meta = sa.and_(_META.c.segment.between(low + 1, high), selected)
            yield _C.seq.between(low + 1, high), of_meta, low if low >= first else 0
            expected, high = time.thread_time() - began, low
            if _FACTOR * expected < seconds / 4:
                width, expected = width * _FACTOR, expected * _FACTOR

    def _is_rewritten(self) -> Clause:
        """Return the clause that a segment's `meta` is not its conditions any more."""
        if not self._number:
            return sa.false()
        return sa.exists().where(RECORDS.c.id == _RECORD_ID, RECORDS.c.conditions.is_not(None))

    # ---- what segments are

    def _add_known_parts(self) -> bool:
        """Add the parts if they follow from TOTALS, and from few records that are not good; return whether they do."""
        query = self._query
        only_good = query.status == GOOD and self._number <= _FEW
        if (structs.replace(query, status=None) if only_good else query).selects_by_records:
            return False
        rows = totals_of(self._connection, query)
        cut = iter(count_inside(self._connection, query, [row for row in rows if not is_inside(row, query)]))
        for row in rows:
            number, size = (row.segments, int(row.bytes)) if is_inside(row, query) else next(cut)
            start = row.start if query.start is None else max(row.start, query.start)
            stop = row.stop if query.stop is None else min(row.stop, query.stop)
            if number:
                self._found.parts[row.batch, row.channel] = Part(number, size, start, stop)
        if only_good and self._number:
            self._subtract_bad_parts()
        return True

    def _subtract_bad_parts(self) -> None:
        bad = (_C.seq.in_(named(self._records.where(RECORDS.c.status != GOOD))), *of_segments(self._query))
        counted = sa.select(_C.batch, _C.channel, sa.func.count(), sa.func.sum(_C.bytes)).where(*bad)
        for batch, channel, number, size in self._connection.execute(counted.group_by(_C.batch, _C.channel)):
            part = self._found.parts[batch, channel or ""]
            part.segments -= number
            part.bytes = None if part.bytes is None else part.bytes - int(size)
            if not part.segments:
                del self._found.parts[batch, channel or ""]

    def _add_parts(self, some: Clause) -> None:
        # Grouped here: SQLite would read an index in the order of the groups, and all of it.
        wanted = sa.select(_C.batch, _C.channel, _C.bytes, _C.t0, stop_column(_C)).where(some, *self._matching)
        for batch, channel, size, start, stop in self._connection.execute(wanted):
            part = self._found.parts.setdefault((batch, channel or ""), Part(0, 0, start, stop))
            part.segments += 1
            part.bytes = (part.bytes or 0) + size
            part.start, part.stop = min(part.start, start), max(part.stop, stop)

    # ---- records

    def _add_records(self, some: Clause) -> None:
        """Add segments by their records: if these are few, only those that have one, from which the others follow."""
        columns = (_RECORD.c.status, _RECORD.c.run, _RECORD.c.last)
        joined = SEGMENTS.join(_RECORD, _RECORD.c.id == _RECORD_ID, isouter=self._number > _FEW)
        counted = sa.select(*columns, sa.func.count()).select_from(joined).where(some, *self._matching)
        for status, run, last, number in self._connection.execute(counted.group_by(*columns)):
            self._found.records[status or GOOD, run, last] += number

    # ---- conditions

    def _add_meta(self, of_meta: Clause) -> None:
        channel = sa.select(_C.channel).where(_C.seq == _META.c.segment).scalar_subquery()
        self._add_conditions(_META, channel, of_meta)

    def _add_record_conditions(self, some: Clause) -> None:
        records = sa.select(_RECORD_ID).where(some, *self._matching)
        newest = sa.select(_C.channel).where(_C.name == name_of(_WRITTEN.c.record)).order_by(_C.seq.desc()).limit(1)
        self._add_conditions(_WRITTEN, newest.scalar_subquery(), _WRITTEN.c.record.in_(records))

    def _add_conditions(self, table: sa.FromClause, channel: sa.ScalarSelect[Any], selected: Clause) -> None:
        """Add the scalars in a table by name and text; by channel, too, if facilities are compared."""
        of, more = table.c, [channel] if len(self._query.facility) > 1 else []
        ranges = (sa.func.min(of.number), sa.func.max(of.number))
        counted = sa.select(of.name, of.text, sa.func.count(), *ranges, *more).where(selected)
        for name, text, number, low, high, *channels in self._connection.execute(
            counted.group_by(of.name, of.text, *more)
        ):
            self._found.conditions[name].add(text, number, low, high, *channels)
