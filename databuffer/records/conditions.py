"""Conditions of records and results of steps: limits, merge patches, and the scalars that can be searched."""

from collections.abc import Iterator
from typing import Any

import msgspec

from gwwire.decoding import InvalidRequest, TooDeep
from gwwire.records import MOST_BYTES

_MOST_DEPTH = 16
_MOST_SCALARS = 1000
_LONGEST_NAME = 200
_LONGEST_TEXT = 1000

#: A number or a text; the other is None.
Scalar = tuple[float | None, str | None]


def encoded(value: Any, what: str) -> str:
    """Return a value as JSON; raise TooDeep or InvalidRequest if it is larger than a record may have."""
    if _depth(value, _MOST_DEPTH) < 0:
        raise TooDeep(f"{what}: nested more than {_MOST_DEPTH} levels deep", field=what)
    content = msgspec.json.encode(value)
    if len(content) > MOST_BYTES:
        raise InvalidRequest(f"{what}: {len(content)} bytes; the limit is {MOST_BYTES}", field=what)
    return content.decode()


def scalars(conditions: dict[str, Any]) -> dict[str, Scalar]:
    """Return the scalars that can be searched by dotted name; raise InvalidRequest if there are too many.

    Null, long texts, and names that contain an operator or a control character are left out.
    """
    found: dict[str, Scalar] = {}
    for name, scalar in _scalars("", conditions):
        if len(name) <= _LONGEST_NAME and name.isprintable() and name not in found:
            found[name] = scalar
            if len(found) > _MOST_SCALARS:
                raise InvalidRequest(f"conditions: more than {_MOST_SCALARS} values", field="conditions")
    return found


def merged(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def _depth(value: Any, left: int) -> int:
    """Return the levels of nesting left below a value; negative if it is too deep."""
    if not isinstance(value, (dict, list)) or left < 0:
        return left
    inside = value.values() if isinstance(value, dict) else value
    return min((_depth(each, left - 1) for each in inside), default=left - 1)


def _scalars(prefix: str, value: Any) -> Iterator[tuple[str, Scalar]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in items:
        name = f"{prefix}{key}"
        match each:
            case bool():
                yield name, (None, str(each).lower())
            case int() | float():
                yield name, (float(each), None)
            case str() if len(each) <= _LONGEST_TEXT and "\0" not in each:
                yield name, (None, each)
            case dict() | list():
                yield from _scalars(f"{name}.", each)
