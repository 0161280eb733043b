"""Facets: by which filters a query can be narrowed, with the number of segments of each value."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping

import sqlalchemy as sa

from databuffer.search.facet_counts import Condition, Counts, Part, count, facility_of
from gwwire.detectors import describe, detector_of
from gwwire.facets import Facet, Facets, FacetValue
from gwwire.query import Query

#: Values of one facet, and facets of conditions.
_MOST_VALUES, _MOST_CONDITIONS = 100, 100
#: CPU time for what is counted in ranges.
_SECONDS = 0.12


def facets(connection: sa.Connection, query: Query, seconds: float = _SECONDS) -> Facets:
    """Return the facets of the segments that a query selects.

    With several facilities, only those conditions of which each facility has a value. What takes longer than about
    `seconds` is counted for the newest segments only.
    """
    counts = count(connection, query, seconds)
    total = sum(part.segments for part in counts.parts.values())
    found = [*_of_parts(counts), *_of_records(counts)]
    conditions: Mapping[str, Condition] = counts.conditions
    if len(query.facility) > 1:
        present = {facility_of(channel) for _, channel in counts.parts} & set(query.facility)
        conditions = {name: each for name, each in conditions.items() if each.facilities >= present}
    ordered = sorted(conditions, key=lambda name: (-conditions[name].segments, name))
    listed = sorted(ordered[:_MOST_CONDITIONS])
    found += [_of_condition(name, conditions[name], counts.conditions_after) for name in listed]
    size = _sum(counts.parts.values())
    return Facets(total, found, len(ordered) - len(listed), bytes=size, after=counts.parts_after)


def _of_parts(counts: Counts) -> Iterator[Facet]:
    """Yield the facets of what segments are."""
    values: dict[str, dict[str, list[Part]]] = defaultdict(lambda: defaultdict(list))
    for (batch, channel), part in counts.parts.items():
        of_part = {"channel": channel, "batch": batch}
        if detector := detector_of(channel):
            of_part |= {"detector": detector, **describe(detector)._asdict()}
        for name, value in of_part.items():
            if value:
                values[name][value].append(part)
    after = counts.parts_after
    for name in ("facility", "site", "instrument", "detector", "channel", "batch"):
        if parts := values.get(name):
            numbers = {value: sum(part.segments for part in of_value) for value, of_value in parts.items()}
            yield _of_texts(name, numbers, after, sizes={value: _sum(of_value) for value, of_value in parts.items()})
    if parts_of_all := counts.parts.values():
        low, high = min(part.start for part in parts_of_all), max(part.stop for part in parts_of_all)
        yield Facet("time", sum(part.segments for part in parts_of_all), low=low, high=high, after=after)


def _of_records(counts: Counts) -> Iterator[Facet]:
    """Yield the facets of the status, unless it is known of some segments only, the run and the last step."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for (status, run, last), number in counts.records.items():
        for name, value in (("status", status), ("run", run), ("last", last)):
            if value is not None:
                found[name][value] += number
    for name in ("status", "run", "last") if counts.all_have_status else ("run", "last"):
        if numbers := {value: number for value, number in found[name].items() if number}:
            yield _of_texts(name, numbers, counts.records_after)


def _of_condition(name: str, known: Condition, after: int) -> Facet:
    return _of_texts(f"conditions.{name}", known.texts, after, numbers=known.numbers, low=known.low, high=known.high)


def _of_texts(  # noqa: PLR0913 (the parts of a facet)
    name: str,
    counts: Mapping[str, int],
    after: int,
    *,
    sizes: Mapping[str, int | None] | None = None,
    numbers: int = 0,
    low: float | None = None,
    high: float | None = None,
) -> Facet:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    values = [FacetValue(value, number, sizes[value] if sizes else None) for value, number in ordered[:_MOST_VALUES]]
    total = sum(counts.values()) + numbers
    return Facet(name, total, values, len(ordered) - len(values), low, high, after)


def _sum(parts: Iterable[Part]) -> int | None:
    """Return the bytes of some parts, or None if those of one are unknown."""
    sizes = [part.bytes for part in parts]
    return None if None in sizes else sum(filter(None, sizes))
