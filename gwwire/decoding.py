"""Decode JSON into a typed model, or raise the problem that describes the error."""

import codecs
import json
import re
from functools import cache
from typing import Any, TypeVar

import msgspec

from gwwire.names import PRINTABLE, PRINTABLE_WORDS
from gwwire.problems import ProblemCode, ProblemError

T = TypeVar("T")
Order = TypeVar("Order", bound=msgspec.Struct)

_LOCATION = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
#: Windows programs write them at the start of text; JSON has none (RFC 8259).
_MARKS = {codecs.BOM_UTF8: "UTF-8", codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}
_NAMED = re.compile(r"field `(?P<name>[^`]*)`$")
_LENGTH = re.compile(r"Expected `str` of length (?P<bound>[<>]=) (?P<n>\d+)$")
_BOUNDS = {"<=": "at most", ">=": "at least"}


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
        reason = _byte_order_mark(body) or _lower(str(error))
        raise MalformedJson(f"the body is not JSON: {reason}") from None
    except UnicodeDecodeError as error:
        raise MalformedJson(f"the body is not UTF-8: {error.reason}") from None
    except RecursionError:
        raise TooDeep("the body is nested too deeply") from None


def decode_order(shape: type[Order], body: bytes) -> Order:
    """Decode and validate the body of a request; raise MalformedJson, TooDeep or InvalidRequest."""
    order: Order = decode(_decoder(shape), body)
    # The decoder keeps the last value of a repeated key.
    keys = _keys(body)
    if repeated := next((name for name in shape.__struct_fields__ if keys.count(name) > 1), None):
        raise InvalidRequest(f"{repeated}: the key appears more than once", field=repeated)
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


def _keys(body: bytes) -> list[str]:
    """Return the keys of a JSON object; raise MalformedJson or TooDeep for errors in skipped parts."""
    try:
        return [key for key, _ in json.loads(body, object_pairs_hook=list, parse_int=str)]
    except RecursionError:
        raise TooDeep("the body is nested too deeply") from None
    except ValueError as error:
        raise MalformedJson(f"the body is not JSON: {error}") from None


@cache
def _decoder(shape: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(shape)


def _invalid(message: str, invalid: type[ProblemError]) -> ProblemError:
    # A message of msgspec is "Expected `float`, got `null` - at `$.h[0]`".
    if location := _LOCATION.search(message):
        path, reason = location["path"], _plain(message[: location.start()])
    elif named := _NAMED.search(message):
        path, reason = named["name"], message
    else:
        return invalid(f"the body has the wrong shape: {_lower(message)}")
    return invalid(f"{path}: {_lower(reason)}", field=path.partition("[")[0])


def _plain(reason: str) -> str:
    """Return msgspec's reason for refusing a text in plain words."""
    if length := _LENGTH.match(reason):
        return f"expected {_BOUNDS[length['bound']]} {length['n']} character{'s' * (length['n'] != '1')}"
    return PRINTABLE_WORDS if reason.endswith(f" matching regex {PRINTABLE!r}") else reason


def _lower(text: str) -> str:
    """Return the text with a lower-case first letter, unless the first word is an abbreviation."""
    return text if text[:2].isupper() else text[:1].lower() + text[1:]
