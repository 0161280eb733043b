"""Check the arguments of the Python interface."""

import math
import re
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from gwclient.errors import InvalidArgument, InvalidSource

#: Halves of characters, which UTF-8 cannot encode.
_SURROGATE = re.compile("[\ud800-\udfff]")


def as_seconds(name: str, value: Any) -> float:
    """Return a number, an astropy quantity of time or an astropy Time (as GPS) in s, or raise InvalidArgument."""
    converted = value
    try:
        if hasattr(value, "gps"):
            converted = value.gps
        elif hasattr(value, "to_value"):
            converted = value.to_value("s")
        if np.ndim(converted) == 0 and np.asarray(converted).dtype.kind in "iufO":
            return float(converted)
    except (TypeError, ValueError, OverflowError):  # astropy's errors of units are among them
        pass
    raise InvalidArgument(f"{name} is {repr(value)[:80]}; it has to be a number of seconds, or a quantity of time")


def positive_seconds(name: str, value: Any) -> float:
    """Return a time in s that is finite and above 0, or raise InvalidArgument."""
    seconds = as_seconds(name, value)
    if not 0 < seconds < math.inf:
        raise InvalidArgument(f"{name} is {seconds!r}; it has to be above 0 and finite, in s")
    return seconds


def check_name(name: str, value: Any) -> None:
    """Raise InvalidArgument if an argument is not a text with at least one character, which UTF-8 can encode."""
    if not isinstance(value, str) or not value or _SURROGATE.search(value):
        raise InvalidArgument(f"{name} is {repr(value)[:80]}; it has to be a text")


def check_meta(meta: Any) -> None:
    """Raise InvalidSource if JSON cannot hold the metadata of a segment, or it names a channel."""
    if not isinstance(meta, Mapping):
        raise InvalidSource(f"meta is {repr(meta)[:80]}; it has to be a dict")
    if "channel" in meta:
        raise InvalidSource("meta has a channel; name it with the argument channel")
    for key, value in meta.items():
        try:
            held = isinstance(key, str) and _is_json({key: value})
            msgspec.json.encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError):
            held = False
        if not held:
            raise InvalidSource(f"meta: {repr(key)[:40]} is {repr(value)[:80]}; JSON cannot hold it")


def _is_json(value: Any) -> bool:
    match value:
        case None | bool() | int():
            return True
        case float():
            return math.isfinite(value)
        case str():
            return not _SURROGATE.search(value)
        case list() | tuple():
            return all(map(_is_json, value))
        case dict():
            return all(isinstance(key, str) and _is_json(key) and _is_json(each) for key, each in value.items())
        case _:
            return False
