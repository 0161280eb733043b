"""Decode JSON into a typed model, or raise the problem that describes the error."""

import codecs
import json
import re
from collections import Counter
from functools import cache
from typing import Any, TypeVar

import msgspec

from gwwire.names import RULES
from gwwire.problems import ProblemCode, ProblemError

T = TypeVar("T")
Order = TypeVar("Order", bound=msgspec.Struct)

_LOCATION = re.compile(r" - at (?:`key` in )?`\$\.?(?P<path>[^`]*)`$")
#: Windows programs write them at the start of text; JSON has none (RFC 8259).
_MARKS = {codecs.BOM_UTF8: "UTF-8", codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}
#: Python writes a file name that is not UTF-8 in this way; what msgspec says depends on the bytes that follow.
_HALF_PAIR = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
_MAY_BE_HALF_PAIR = re.compile("truncated|surrogate|escape")
_NAMED = re.compile(r"field `(?P<name>[^`]*)`$")
_LENGTH = re.compile(r"Expected `(?P<type>str|array|object)` of length (?P<bound>[<>]=) (?P<n>\d+)$")
_BOUND = re.compile(r"Expected `(?P<type>int|float)` (?P<bound>[<>]=) (?P<n>-?\d+)(\.0)?$")
_REGEX = re.compile(r"Expected `str` matching regex (?P<pattern>.+)$")
#: Characters of a key in a message.
_MOST_QUOTED = 100
_NUMBERS = {"int": "whole number", "float": "number"}
_BOUNDS = {"<=": "at most", ">=": "at least"}
_UNITS = {"str": ("character", "characters"), "array": ("item", "items"), "object": ("entry", "entries")}
_RULES = {repr(pattern): words for pattern, words in RULES.items()}


class MalformedJson(ProblemError, code=ProblemCode.INVALID_JSON):
    """The body is not JSON at all (RFC 8259: no NaN, no Infinity, UTF-8 only)."""


class InvalidRequest(ProblemError, code=ProblemCode.INVALID_REQUEST):
    """The body is JSON, but a field is missing or wrong; `field` names it."""


class TooDeep(ProblemError, code=ProblemCode.TOO_DEEP):
    """The body is JSON, but nested too deeply."""


def decode(decoder: msgspec.json.Decoder[T], body: bytes, invalid: type[ProblemError] = InvalidRequest) -> T:
    """Decode and validate one JSON document; raise MalformedJson, TooDeep, or `invalid` for another shape."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), invalid) from None
    except msgspec.DecodeError as error:
        empty = None if body.strip() else "it is empty"
        reason = empty or _byte_order_mark(body) or _half_pair(body, str(error)) or _lower(str(error))
        raise MalformedJson(f"the body is not JSON: {reason}") from None
    except UnicodeDecodeError as error:
        raise MalformedJson(f"the body is not UTF-8: {error.reason}") from None
    except RecursionError:
        raise TooDeep("the body is nested too deeply") from None


def parse_json(content: bytes | str, shape: type[T]) -> T:
    """Return JSON that is not a request as a typed model; raise DecodeError also for what is nested too deeply."""
    try:
        return msgspec.json.decode(content, type=shape)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"it is not UTF-8: {error.reason}") from error
    except RecursionError:
        raise msgspec.DecodeError("it is nested too deeply") from None


def parse_value(content: bytes | str) -> Any:
    """Return any JSON value; raise DecodeError, or InvalidRequest if a key appears more than once in an object."""
    value = parse_json(content, object)
    if (repeated := _repeated_key([_pairs(content)])) is not None:
        raise InvalidRequest(f"the key {json.dumps(repeated[:_MOST_QUOTED])} appears more than once")
    return value


def decode_order(shape: type[Order], body: bytes) -> Order:
    """Decode and validate the body of a request; raise MalformedJson, TooDeep or InvalidRequest."""
    order: Order = decode(_decoder(shape), body)
    # The decoder keeps the last value of a repeated key.
    pairs = _pairs(body)
    for name in shape.__struct_fields__:
        values = [value for key, value in pairs if key == name]
        if len(values) > 1:
            raise InvalidRequest(f"{name}: the key appears more than once", field=name)
        if (repeated := _repeated_key(values)) is not None:
            quoted = json.dumps(repeated[:_MOST_QUOTED])
            raise InvalidRequest(f"{name}: the key {quoted} appears more than once", field=name)
    return order


def convert(shape: type[Order], value: Any) -> Order:
    """Return parsed values as a typed model, or raise InvalidRequest; a model's own error begins with the field."""
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        message = str(error)
        if _LOCATION.search(message):
            raise _invalid(message, InvalidRequest) from None
        raise InvalidRequest(message, field=re.split(r"\W", message)[0]) from None


def _byte_order_mark(body: bytes) -> str | None:
    """Return a reason that names the byte order mark at the start of a body, or None if it has none."""
    found = next((name for mark, name in _MARKS.items() if body.startswith(mark)), None)
    return found and f"it begins with the byte order mark of {found}; send UTF-8 without one"


def _half_pair(body: bytes, error: str) -> str | None:
    """Return a reason that names an escaped half of a surrogate pair, if the error may be due to one, or None."""
    found = _HALF_PAIR.search(body) if _MAY_BE_HALF_PAIR.search(error) else None
    return found and f"a text has {found[0].decode()}, which is half of a surrogate pair"


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its keys and values, with repeated ones."""


def _pairs(body: bytes | str) -> _Pairs:
    """Return a JSON object with repeated keys; raise MalformedJson or TooDeep for errors in skipped parts."""
    try:
        found: _Pairs = json.loads(body, object_pairs_hook=_Pairs, parse_int=str)
    except RecursionError:
        raise TooDeep("the body is nested too deeply") from None
    except ValueError as error:
        raise MalformedJson(f"the body is not JSON: {error}") from None
    return found


def _repeated_key(values: list[Any]) -> str | None:
    """Return a key that appears more than once in an object within these values, or None."""
    left = list(values)
    while left:
        value = left.pop()
        if isinstance(value, _Pairs):
            counts = Counter(key for key, _ in value)
            if len(counts) < len(value):
                return counts.most_common(1)[0][0]
            left += [inner for _, inner in value]
        elif isinstance(value, list):
            left += value
    return None


@cache
def _decoder(shape: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(shape)


def _invalid(message: str, invalid: type[ProblemError]) -> ProblemError:
    # A message of msgspec is "Expected `float`, got `null` - at `$.h[0]`"; any value of an object is "[...]".
    if location := _LOCATION.search(message):
        path, reason = location["path"].replace("[...]", ""), _plain(message[: location.start()])
    elif named := _NAMED.search(message):
        path, reason = named["name"], message
    else:
        return invalid(f"the body has the wrong shape: {_lower(message)}")
    return invalid(f"{path}: {_lower(reason)}", field=path.partition("[")[0])


def _plain(reason: str) -> str:
    """Return msgspec's reason for refusing a text, a number, or the number of items, in plain words."""
    if bound := _BOUND.match(reason):
        return f"expected a {_NUMBERS[bound['type']]}, {_BOUNDS[bound['bound']]} {int(bound['n']):,}"
    if length := _LENGTH.match(reason):
        return f"expected {_BOUNDS[length['bound']]} {length['n']} {_UNITS[length['type']][length['n'] != '1']}"
    if rule := _REGEX.match(reason):
        return _RULES.get(rule["pattern"], f"expected text that matches {rule['pattern']}")
    return reason


def _lower(text: str) -> str:
    """Return the text with a lower-case first letter, unless the first word is an abbreviation."""
    return text if text[:2].isupper() else text[:1].lower() + text[1:]
