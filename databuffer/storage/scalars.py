"""The scalars of nested JSON that can be searched by dotted name."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec

from gwwire.decoding import parse_json

_LONGEST_NAME = 200
_LONGEST_TEXT = 1000
#: Levels of nesting that are looked into.
_MOST_DEPTH = 16
#: Scalars of one segment's `meta`, which are stored while its sender waits.
_MOST_OF_META = 100

#: A number or a text; the other is None.
Scalar = tuple[float | None, str | None]
#: Scalars by dotted name.
Scalars = tuple[tuple[str, Scalar], ...]


class _File(msgspec.Struct, frozen=True):
    meta: dict[str, Any] = {}


def searchable(value: dict[str, Any], most: int) -> Scalars:
    """Return the first `most` scalars that can be searched; of a repeated name the first.

    Null, long texts, names with control characters, numbers beyond float64 and what is nested deeper are left out.
    """
    found: dict[str, Scalar] = {}
    for name, scalar in _scalars("", value, _MOST_DEPTH):
        if len(name) <= _LONGEST_NAME and name.isprintable() and name not in found:
            found[name] = scalar
            if len(found) == most:
                break
    return tuple(found.items())


def meta_scalars(meta: dict[str, Any]) -> Scalars:
    """Return the scalars of a segment's `meta` that can be searched; its channel has a column of its own."""
    if len(meta) == ("channel" in meta):
        return ()
    return searchable({name: value for name, value in meta.items() if name != "channel"}, _MOST_OF_META)


def scalars_of_file(content: bytes) -> Scalars:
    """Return `meta_scalars` of the file of a segment; nothing if it is not a segment, which other checks report."""
    try:
        return meta_scalars(parse_json(content, _File).meta)
    except ValueError:
        return ()


def _scalars(prefix: str, value: Any, depth: int) -> Iterator[tuple[str, Scalar]]:
    if depth == 0:
        return
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in items:
        name = f"{prefix}{key}"
        match each:
            case bool():
                yield name, (None, str(each).lower())
            case int() | float():
                with suppress(OverflowError):
                    yield name, (float(each), None)
            case str() if len(each) <= _LONGEST_TEXT and "\0" not in each:
                yield name, (None, each)
            case dict() | list():
                yield from _scalars(f"{name}.", each, depth - 1)
