"""The query: one filter for segments, batches and records, with a canonical form that has an id.

A query is written as JSON, as parameters of a URL (`detector=L1&condition=temperature<0.02`), or as words of a command
line (`detector=L1 conditions.temperature<0.02`). All three give the same `Query`, and so the same id. What a query
selects is described in docs/api.md.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from difflib import get_close_matches
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta, Struct, structs

from gwwire.decoding import InvalidRequest, convert
from gwwire.gps import gps_of_utc
from gwwire.names import PRINTABLE, StepName, Text

#: Values of one field.
_MOST_VALUES = 100
#: `*` in one channel.
_MOST_WILDCARDS = 2
_NAME = re.compile("[^<>=!]+")
_CONDITION = re.compile(rf"(?P<name>{_NAME.pattern})(?P<operator><=|>=|!=|<|>|=)(?P<value>.*)", re.DOTALL)
_OPERATORS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "=": "eq", "!=": "ne"}
_SYMBOLS = {name: symbol for symbol, name in _OPERATORS.items()}
#: A prefix that the name of a condition may have.
CONDITION = "conditions."
#: The similarity by difflib from which a name is taken for a misspelt field: `detectr`, `channels`.
_NEARLY = 0.85
#: A number, as JSON and the search page read it; Python also takes `1_000`, digits of other scripts and `nan`.
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", re.ASCII | re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

# Without a pattern: msgspec 0.22 frees the wrong memory of a union of a list and a text that has one.
_Value = Annotated[
    str, Meta(min_length=1, max_length=255, extra_json_schema={"pattern": r"^[^*:\x00-\x1f\x7f]*$(?!\n)"})
]
_Channel = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=255,
        extra_json_schema={"pattern": r"^[^*\x00-\x1f\x7f]*(\*[^*\x00-\x1f\x7f]*){0,2}$(?!\n)"},
    ),
]
if TYPE_CHECKING:
    Values = tuple[str, ...]
    Channels = tuple[str, ...]
else:  # JSON may have a single value in place of a list
    Values = _Value | Annotated[tuple[_Value, ...], Meta(max_length=_MOST_VALUES)]
    Channels = _Channel | Annotated[tuple[_Channel, ...], Meta(max_length=_MOST_VALUES)]


class Comparison(Struct, frozen=True, omit_defaults=True):
    """Bounds of one scalar; texts are compared with `eq` and `ne` only, true and false are texts."""

    lt: float | None = None
    le: float | None = None
    gt: float | None = None
    ge: float | None = None
    eq: float | str | None = None
    ne: float | str | None = None

    def __post_init__(self) -> None:
        """Bring numbers into canonical form, or raise ValueError."""
        for name in self.__struct_fields__:
            _normalise(self, name)


class Query(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Selects segments, batches and records; a field that is left out selects all.

    A query is in canonical form from the start: lists are sorted and without repeats, numbers are float64.
    """

    facility: Annotated[Values, Meta(description="of the detector, as `LIGO`; one or several")] = ()
    site: Annotated[Values, Meta(description="of the detector, as `Hanford`; one or several")] = ()
    instrument: Annotated[Values, Meta(description="of the detector, as `Advanced LIGO`; one or several")] = ()
    detector: Annotated[Values, Meta(description="the prefix of the channel, as `L1`; one or several")] = ()
    channel: Annotated[Channels, Meta(description="`DET:NAME`, with at most two `*` for any text; one or several")] = ()
    start: Annotated[float | None, Meta(description="only segments that end after this GPS time, s")] = None
    stop: Annotated[float | None, Meta(description="only segments that begin before this GPS time, s")] = None
    batch: Annotated[Values, Meta(description="batch id; one or several")] = ()
    run: Text | None = None
    status: Annotated[Text | None, Meta(description="`good`, or what went wrong")] = None
    last: Annotated[StepName | None, Meta(description="the step that was done last")] = None
    conditions: Annotated[
        dict[Text, Comparison], Meta(max_length=20, description="by dotted name, as `volts.detector_a.0`")
    ] = {}

    def __post_init__(self) -> None:
        """Bring the fields into canonical form, or raise ValueError."""
        for name in LISTS:
            given: Any = getattr(self, name)
            values = {given} if isinstance(given, str) else set(given)
            _check_values(name, values)
            structs.force_setattr(self, name, tuple(sorted(values)))
        for name in _TIMES:
            _normalise(self, name)
        if self.start is not None and self.stop is not None and self.start > self.stop:
            raise ValueError(f"start={self.start!r} is after stop={self.stop!r}")

    @property
    def selects_segments(self) -> bool:
        """Return whether a field of segments is given: batches then match by their content."""
        return bool(self.start is not None or self.stop is not None or any(getattr(self, name) for name in _OF_CHANNEL))

    @property
    def selects_by_records(self) -> bool:
        """Return whether a field of records or a condition is given, so that segments match by their records."""
        return bool(self.run is not None or self.status is not None or self.last is not None or self.conditions)

    def canonical(self) -> bytes:
        """Return the canonical form: compact JSON with sorted keys, without defaults."""
        return msgspec.json.encode(self, order="sorted")

    @property
    def id(self) -> str:
        """The SHA-256 of the canonical form; it differs between different queries."""
        return hashlib.sha256(self.canonical()).hexdigest()


_TIMES = ("start", "stop")
_OF_CHANNEL = ("facility", "site", "instrument", "detector", "channel")
#: The fields that take several values.
LISTS = (*_OF_CHANNEL, "batch")
#: The fields that are parameters of a URL; conditions are in its parameter `condition`.
FIELDS = tuple(name for name in Query.__struct_fields__ if name != "conditions")


def parse_parameters(parameters: Iterable[tuple[str, str]]) -> Query:
    """Return the query in the parameters of a URL, or raise InvalidRequest; others of a route are ignored.

    Fields that take several values are repeated, as is `condition`.
    """
    given: dict[str, list[str]] = {}
    for name, value in parameters:
        given.setdefault(name, []).append(value)
    fields: dict[str, Any] = {name: values for name, values in given.items() if name in LISTS}
    for name in FIELDS:
        if name in given and name not in LISTS:
            fields[name] = _only(name, given[name])
    return _query(fields, given.get("condition", []))


def parse_words(words: Iterable[str]) -> Query:
    """Return the query in the words of a command line, or raise InvalidRequest.

    A word is FIELD=VALUE, or a condition, as `temperature<0.02`; `conditions.` may precede its name, and has to if it
    is the name of a field, or nearly one: `detectr=L1` is refused as a misspelt field. `start` and `stop` may be UTC,
    as 2015-09-14T09:50:45Z.
    """
    parameters = []
    for word in words:
        found = _CONDITION.fullmatch(word)
        if found is None or found["name"] not in FIELDS:
            _check_spelling(word)
            parameters.append(("condition", word.removeprefix(CONDITION)))
        elif found["operator"] != "=":
            hint = f"write {found['name']}=VALUE, or {CONDITION}{word} for a condition of this name"
            raise InvalidRequest(f"{word!r}: {found['name']} is a field; {hint}", field=found["name"])
        else:
            parameters.append((found["name"], _with_gps(found["name"], found["value"])))
    return parse_parameters(parameters)


def to_parameters(query: Query) -> list[tuple[str, str]]:
    """Return a query as parameters of a URL; raise InvalidRequest if it has a condition that only JSON can express."""
    found = []
    for name in FIELDS:
        value = getattr(query, name)
        if name in LISTS:
            found += [(name, each) for each in value]
        elif value is not None:
            found.append((name, value if isinstance(value, str) else repr(value)))
    return found + [("condition", text) for text in condition_texts(query)]


def grouped(query: Query) -> dict[str, list[str]]:
    """Return a query as parameters of a URL by name; raise InvalidRequest if only JSON can express it."""
    found: dict[str, list[str]] = {}
    for name, value in to_parameters(query):
        found.setdefault(name, []).append(value)
    return found


def condition_texts(query: Query) -> Iterator[str]:
    """Yield the conditions of a query as texts that `parse_conditions` reads."""
    for name, bounds in sorted(query.conditions.items()):
        given = [(bound, value) for bound in bounds.__struct_fields__ if (value := getattr(bounds, bound)) is not None]
        if not given or not _NAME.fullmatch(name):
            raise InvalidRequest(f"conditions: only JSON can express the condition {name!r}", field="conditions")
        yield from (f"{name}{_SYMBOLS[bound]}{_value_text(value)}" for bound, value in given)


def parse_conditions(texts: Iterable[str]) -> dict[str, Comparison]:
    """Parse conditions as `NAME<VALUE` (or with another of <= > >= = !=), or raise InvalidRequest.

    A value is a number, a text, or a text in quotes, as JSON writes it.
    """
    found: dict[str, Comparison] = {}
    for text in texts:
        name, operator, value = _parse_condition(text)
        known = found.get(name, Comparison())
        if getattr(known, operator) not in {None, value}:
            raise InvalidRequest(f"condition: {text!r}: {name} is compared twice in this way", field="condition")
        found[name] = structs.replace(known, **{operator: value})
    return found


def _check_spelling(word: str) -> None:
    """Raise InvalidRequest for a word whose name is nearly that of a field."""
    name, operator, value = word.partition("=")
    if operator and (meant := get_close_matches(name, FIELDS, n=1, cutoff=_NEARLY)):
        hint = f"write {meant[0]}={value}, or {CONDITION}{word} for a condition of this name"
        raise InvalidRequest(f"{word!r}: {name} is not a field; {hint}", field=name)


def _with_gps(name: str, value: str) -> str:
    """Return the value of a field in a word; a time in UTC as GPS seconds."""
    if name not in _TIMES or _number(value) is not None:
        return value
    if (gps := gps_of_utc(value)) is None:
        raise InvalidRequest(f"{name}: expected GPS seconds, or UTC as 2015-09-14T09:50:45Z, got {value!r}", field=name)
    return repr(gps)


def _query(fields: dict[str, Any], conditions: Iterable[str]) -> Query:
    return convert(Query, {**fields, "conditions": parse_conditions(conditions)})


def _only(name: str, values: list[str]) -> str | float:
    if len(set(values)) > 1:
        raise InvalidRequest(f"{name}: given more than once, with different values", field=name)
    if name not in _TIMES:
        return values[0]
    number = _number(values[0])
    if number is None or not isfinite(number):
        raise InvalidRequest(f"{name}: expected GPS seconds as a finite number, got {values[0]!r}", field=name)
    return number


def _parse_condition(text: str) -> tuple[str, str, float | str]:
    found = _CONDITION.fullmatch(text)
    if found is None or not re.match(PRINTABLE, text):
        raise InvalidRequest(f"condition: expected NAME<VALUE (or <= > >= = !=), got {text!r}", field="condition")
    operator, value = _OPERATORS[found["operator"]], _parse_value(found["value"])
    if isinstance(value, str) and operator not in {"eq", "ne"}:
        raise InvalidRequest(f"condition: {text!r}: {value!r} is not a number", field="condition")
    return found["name"], operator, value


def _parse_value(text: str) -> float | str:
    number = _number(text)
    if number is not None:
        if not isfinite(number):
            raise InvalidRequest(f"condition: {text!r} is too large for a number", field="condition")
        return number + 0.0
    if text.startswith('"'):
        with suppress(msgspec.MsgspecError):
            return msgspec.json.decode(text, type=str)
    return text


def _number(text: str) -> float | None:
    """Return the number that a text looks like, infinity if it is too large, or None."""
    return float(text) if _NUMBER.fullmatch(text) else None


def _value_text(value: float | str) -> str:
    if not isinstance(value, str):
        return repr(value)
    plain = _number(value) is None and not value.startswith('"') and re.match(PRINTABLE, f"={value}")
    return value if plain else json.dumps(value)


def _normalise(struct: Struct, name: str) -> None:
    """Store a number as float64 without a negative zero; raise ValueError if it is not finite."""
    value = getattr(struct, name)
    if value is None or isinstance(value, str):
        return
    if not isfinite(value):
        raise ValueError(f"{name}: {value!r} is not a finite number")
    structs.force_setattr(struct, name, float(value) + 0.0)


def _check_values(name: str, values: Iterable[str]) -> None:
    """Raise ValueError for a value that the field `name` cannot have."""
    for value in values:
        if _CONTROL.search(value):
            raise ValueError(f"{name}: {value!r} has control characters")
        if value.count("*") > (_MOST_WILDCARDS if name == "channel" else 0):
            most = f"at most {_MOST_WILDCARDS} `*`" if name == "channel" else "only `channel` takes wildcards"
            raise ValueError(f"{name}: {value!r}: {most}")
        if name not in {"channel", "batch"} and ":" in value:
            raise ValueError(f"{name}: {value!r} has a colon; a whole name is a `channel`")
