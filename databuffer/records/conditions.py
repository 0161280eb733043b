"""Conditions of records and results of steps: limits, and merge patches."""

from typing import Any

import msgspec

from databuffer.storage.scalars import Scalar, searchable
from gwwire.decoding import InvalidRequest, TooDeep
from gwwire.records import MOST_BYTES

_MOST_DEPTH = 16
_MOST_SCALARS = 1000


def encoded(value: Any, what: str) -> str:
    """Return a value as JSON; raise TooDeep or InvalidRequest if it is larger than a record may have."""
    if _depth(value, _MOST_DEPTH) < 0:
        raise TooDeep(f"{what}: nested more than {_MOST_DEPTH} levels deep", field=what)
    content = msgspec.json.encode(value)
    if len(content) > MOST_BYTES:
        raise InvalidRequest(f"{what}: {len(content)} bytes; the limit is {MOST_BYTES}", field=what)
    return content.decode()


def scalars(conditions: dict[str, Any]) -> dict[str, Scalar]:
    """Return the scalars that can be searched by dotted name; raise InvalidRequest if there are too many."""
    found = dict(searchable(conditions, _MOST_SCALARS + 1))
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
