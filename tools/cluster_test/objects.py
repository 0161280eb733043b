"""Comparing the objects of a cluster before and after an apply.

kubectl's word "configured" means that it sent a patch, also if the patch changed nothing. What counts is the server's
record: an object's `generation` and `resourceVersion`, and its content.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Object = Mapping[str, Any]

#: Parts that the server or a controller writes while nobody changes the object.
_OTHERS = {"status"}
_OTHERS_METADATA = {"resourceVersion", "managedFields"}


def changes(before: Sequence[Object], after: Sequence[Object]) -> list[str]:
    """Return a line for each object that was changed, created, removed or replaced; a new status is no change."""
    earlier, later = ({_name(one): one for one in objects} for objects in (before, after))
    lines = [f"{name} was removed" for name in sorted(earlier.keys() - later.keys())]
    lines += [f"{name} was created" for name in sorted(later.keys() - earlier.keys())]
    lines += [
        f"{name}: {difference}"
        for name in sorted(earlier.keys() & later.keys())
        if (difference := _difference(earlier[name], later[name]))
    ]
    return lines


def _name(thing: Object) -> str:
    return f"{thing['kind']}/{thing['metadata']['name']}"


def _difference(old: Object, new: Object) -> str | None:
    """Return how the second differs from the first, or None if it is the same object with the same content."""
    for field in ("uid", "generation"):
        values = [one["metadata"].get(field) for one in (old, new)]
        if values[0] != values[1]:
            return f"{field} {values[0]} -> {values[1]}"
    versions = [one["metadata"]["resourceVersion"] for one in (old, new)]
    if versions[0] == versions[1]:
        return None
    contents = [_content(one) for one in (old, new)]
    if fields := [key for key in sorted({*contents[0], *contents[1]}) if contents[0].get(key) != contents[1].get(key)]:
        return f"{', '.join(fields)} changed"
    # A new version with the same content is a new status, if the object has one.
    return None if "status" in new else f"resourceVersion {versions[0]} -> {versions[1]}"


def _content(thing: Object) -> dict[str, Any]:
    metadata = {key: value for key, value in thing["metadata"].items() if key not in _OTHERS_METADATA}
    return {key: value for key, value in thing.items() if key not in _OTHERS} | {"metadata": metadata}
