"""The conditions of segments in words."""

import re
from collections.abc import Mapping, Sequence
from itertools import groupby

from gwwire.facets import Facet
from gwwire.names import printable
from gwwire.query import CONDITION, FIELDS

#: Conditions that are shown.
_MOST_SHOWN = 20
#: The name of a value in a list: that of the list, and the place.
_IN_LIST = re.compile(r"(.+)\.(\d+)")
_MILLION, _LARGE = 1e6, 1e15


def conditions_text(facets: Sequence[Facet]) -> str:
    """Return the names of conditions, with the ranges of numbers, and each list once, or "" if there are none.

    Conditions with the name of a field are left out.
    """
    named = {each.name.removeprefix(CONDITION): each for each in facets if each.name.startswith(CONDITION)}
    names = sorted(named.keys() - set(FIELDS), key=_list_and_place)
    texts = [_text(list(some), named) for _, some in groupby(names, lambda name: _list_and_place(name)[0])]
    more = [f"{len(texts) - _MOST_SHOWN:,} more"] if len(texts) > _MOST_SHOWN else []
    return ", ".join(texts[:_MOST_SHOWN] + more)


def _list_and_place(name: str) -> tuple[str, int]:
    found = _IN_LIST.fullmatch(name)
    return (found[1], int(found[2])) if found else (name, -1)


def _text(names: Sequence[str], facets: Mapping[str, Facet]) -> str:
    """Return the name of a condition with its range, or the first and last name of the values of a list."""
    first, last = printable(names[0]), printable(names[-1])
    if len(names) > 1:
        return f"{first} … {last}"
    low, high = facets[names[0]].low, facets[names[0]].high
    if low is None or high is None:
        return first
    return f"{first} {_number(low)}" if low == high else f"{first} {_number(low)} to {_number(high)}"


def _number(value: float) -> str:
    """Return a number as a query takes it, with six digits, or as a whole number of more."""
    return f"{value:.0f}" if _MILLION <= abs(value) < _LARGE else f"{value:.6g}"
