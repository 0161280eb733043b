"""Facets: by which filters a query can be narrowed, with the number of segments of each value."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from databuffer.records.selection import segments_matching
from databuffer.search.clauses import Clause
from databuffer.search.plan import count_inside, is_inside, plan, totals_of
from databuffer.storage.catalog.schema import SEGMENT_CONDITIONS, SEGMENTS
from databuffer.storage.catalog.segments import stop_column
from gwwire.detectors import describe, detector_of
from gwwire.facets import Facet, Facets, FacetValue
from gwwire.query import Query

#: Values of one facet, and facets of conditions.
_MOST_VALUES, _MOST_CONDITIONS = 100, 100
#: The conditions that are counted; those of the query are looked up in the table itself.
_FOUND = SEGMENT_CONDITIONS.alias("found")
_CONDITIONS = _FOUND.c
_JOINED = _FOUND.join(SEGMENTS, SEGMENTS.c.seq == _FOUND.c.segment)


@dataclass(frozen=True)
class _Part:
    """The matching segments of one batch and channel: their number and their span."""

    batch: str
    channel: str
    segments: int
    start: float
    stop: float


@dataclass
class _Condition:
    """What is known about one condition: segments with numbers and with texts, the range, and where it occurs."""

    numbers: int = 0
    texts: int = 0
    low: float | None = None
    high: float | None = None
    facilities: set[str] = field(default_factory=set)


def facets(connection: sa.Connection, query: Query) -> Facets:
    """Return the facets of the segments that a query selects.

    With several facilities, only those of which each facility has a value.
    """
    matching = (*plan(connection, query), *segments_matching(query))
    parts = list(_parts(connection, query, matching))
    found = [*_of_parts(parts)]
    conditions = _conditions(connection, query, matching)
    asked = {facility for facility in query.facility if any(_facility(part.channel) == facility for part in parts)}
    if len(query.facility) > 1:
        conditions = {name: each for name, each in conditions.items() if each.facilities >= asked}
    ordered = sorted(conditions, key=lambda name: (-conditions[name].numbers - conditions[name].texts, name))
    listed = sorted(ordered[:_MOST_CONDITIONS])
    found += [_of_condition(connection, query, matching, name, conditions[name]) for name in listed]
    return Facets(sum(part.segments for part in parts), found, len(ordered) - len(listed))


def _parts(connection: sa.Connection, query: Query, matching: Sequence[Clause]) -> Iterator[_Part]:
    """Yield the matching segments by batch and channel: counted before, if the query does not look at their records."""
    if query.run is None and query.status is None and query.last is None and not query.conditions:
        for row in totals_of(connection, query):
            number = row.segments if is_inside(row, query) else count_inside(connection, query, row)
            start = row.start if query.start is None else max(row.start, query.start)
            stop = row.stop if query.stop is None else min(row.stop, query.stop)
            if number:
                yield _Part(row.batch, row.channel, number, start, stop)
        return
    columns = SEGMENTS.c
    times = (sa.func.min(columns.t0), sa.func.max(stop_column(columns)))
    counted = (columns.batch, columns.channel, sa.func.count(), *times)
    for row in connection.execute(sa.select(*counted).where(*matching).group_by(columns.batch, columns.channel)):
        yield _Part(row[0], row[1] or "", *row[2:])


def _of_parts(parts: Sequence[_Part]) -> Iterator[Facet]:
    """Yield the facets of what segments are."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for part in parts:
        values = {"channel": part.channel, "batch": part.batch}
        if detector := detector_of(part.channel):
            values |= {"detector": detector, **describe(detector)._asdict()}
        for name, value in values.items():
            counts[name][value] += part.segments if value else 0
    for name in ("facility", "site", "instrument", "detector", "channel", "batch"):
        if listed := {value: number for value, number in counts[name].items() if value}:
            yield _of_texts(name, sum(listed.values()), listed)
    if parts:
        low, high = min(part.start for part in parts), max(part.stop for part in parts)
        yield Facet("time", sum(part.segments for part in parts), low=low, high=high)


def _conditions(connection: sa.Connection, query: Query, matching: Sequence[Clause]) -> dict[str, _Condition]:
    """Return what is known about the conditions of the matching segments, by name."""
    columns: list[Any] = [
        *(_CONDITIONS.name, sa.func.count(_CONDITIONS.number), sa.func.count(_CONDITIONS.text)),
        *(sa.func.min(_CONDITIONS.number), sa.func.max(_CONDITIONS.number)),
    ]
    if query == Query():
        grouped = sa.select(*columns, sa.literal("")).group_by(_CONDITIONS.name)
    else:
        counted = sa.select(*columns, SEGMENTS.c.channel).select_from(_JOINED)
        grouped = counted.where(*matching).group_by(_CONDITIONS.name, SEGMENTS.c.channel)
    found: dict[str, _Condition] = defaultdict(_Condition)
    rows: Iterable[Any] = connection.execute(grouped)
    for name, numbers, texts, low, high, channel in rows:
        each = found[name]
        each.numbers += numbers
        each.texts += texts
        each.low = min(filter(_is_number, (each.low, low)), default=None)
        each.high = max(filter(_is_number, (each.high, high)), default=None)
        each.facilities.add(_facility(channel))
    return found


def _of_condition(
    connection: sa.Connection, query: Query, matching: Sequence[Clause], name: str, known: _Condition
) -> Facet:
    """Return the facet of a condition, with the values that are texts."""
    total, facet_name = known.numbers + known.texts, f"conditions.{name}"
    if not known.texts:
        return Facet(facet_name, total, low=known.low, high=known.high)
    counted = sa.select(_CONDITIONS.text, sa.func.count()).where(_CONDITIONS.name == name, _CONDITIONS.number.is_(None))
    if query != Query():
        counted = counted.select_from(_JOINED).where(*matching)
    rows = connection.execute(counted.group_by(_CONDITIONS.text))
    return _of_texts(facet_name, total, {row[0]: row[1] for row in rows}, known.low, known.high)


def _of_texts(
    name: str, total: int, counts: dict[str, int], low: float | None = None, high: float | None = None
) -> Facet:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    values = [FacetValue(value, number) for value, number in ordered[:_MOST_VALUES]]
    return Facet(name, total, values, len(ordered) - len(values), low, high)


def _facility(channel: str | None) -> str:
    detector = detector_of(channel)
    return describe(detector).facility if detector else ""


def _is_number(value: float | None) -> bool:
    return value is not None
