"""The reason why a query selects no segment, as far as the filters of all stored segments show it."""

import re
from collections.abc import Iterator, Sequence

from gwwire.facets import Facet, Facets
from gwwire.query import CONDITION, FIELDS, LISTS, Query

#: Stored values that are named.
_MOST_NAMED = 8


def explain(query: Query, stored: Facets) -> list[str]:
    """Return reasons why `query` selects nothing; `stored` are the filters of the query that selects all.

    Filters that only the newest segments were counted for give no reasons.
    """
    if stored.after:
        return []
    if not stored.segments:
        return ["the datastore has no segment yet"]
    facets = {each.name: each for each in stored.facets}
    reasons = [reason for name in LISTS for reason in _unknown_values(query, name, facets.get(name))]
    reasons += _outside(query, facets.get("time"))
    conditions = [name.removeprefix(CONDITION) for name in facets if name.startswith(CONDITION)]
    reasons += [
        f"no segment has {name!r} in its metadata; stored: {_named(conditions) or 'none'}; "
        f"the fields are {', '.join(FIELDS)}"
        for name in query.conditions
        if name not in conditions
    ]
    return reasons


def _unknown_values(query: Query, name: str, facet: Facet | None) -> Iterator[str]:
    if facet is None or facet.more:
        return
    known = [each.value for each in facet.values]
    for value in getattr(query, name):
        if not any(matches(value, each) for each in known):
            several = f"; several are written {' '.join(f'{name}={each}' for each in value.split(','))}"
            hint = several if "," in value else ""
            yield f"no segment has {name}={value}; stored: {_named(known)}{hint}"


def _named(values: Sequence[str]) -> str:
    return ", ".join(values[:_MOST_NAMED]) + (", …" if len(values) > _MOST_NAMED else "")


def matches(pattern: str, name: str) -> bool:
    """Return whether a name is what a query selects by a pattern, in which `*` is any text."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name, re.DOTALL) is not None


def _outside(query: Query, time: Facet | None) -> Iterator[str]:
    if time is None or time.low is None or time.high is None:
        return
    after = query.start is not None and query.start >= time.high
    before = query.stop is not None and query.stop <= time.low
    if after or before:
        yield f"the stored strain is within [{time.low!r}, {time.high!r})"
