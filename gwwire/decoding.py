"""From bytes to a typed shape, or to the problem that says what is wrong with them."""

import re
from typing import TypeVar

import msgspec

from gwwire.problems import ProblemCode, ProblemError

T = TypeVar("T")

_LOCATION = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_NAMED = re.compile(r"field `(?P<name>[^`]*)`$")


class MalformedJson(ProblemError):
    """The body is not JSON at all (RFC 8259: no NaN, no Infinity, UTF-8 only)."""

    code = ProblemCode.INVALID_JSON


class InvalidRequest(ProblemError):
    """The body is JSON but does not have the expected fields; `field` names the one that is wrong."""

    code = ProblemCode.INVALID_REQUEST


class TooDeep(ProblemError):
    """The body is JSON, but nested too deeply."""

    code = ProblemCode.TOO_DEEP


def decode(decoder: msgspec.json.Decoder[T], body: bytes, invalid: type[ProblemError] = InvalidRequest) -> T:
    """Decode and validate one JSON document.

    Raises:
        MalformedJson: the body is not JSON.
        ProblemError: of the class `invalid`: the body is JSON of another shape.
        TooDeep: it is nested more deeply than can be looked into.

    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), invalid) from None
    except msgspec.DecodeError as error:
        raise MalformedJson(f"the body is not JSON: {_lower(str(error))}") from None
    except UnicodeDecodeError as error:
        raise MalformedJson(f"the body is not UTF-8: {error.reason}") from None
    except RecursionError:
        raise TooDeep("the body is nested too deeply") from None


def _invalid(message: str, invalid: type[ProblemError]) -> ProblemError:
    """Name the field in msgspec's words: 'Expected `float`, got `null` - at `$.h[0]`' is about h."""
    if location := _LOCATION.search(message):
        path, reason = location["path"], message[: location.start()]
    elif named := _NAMED.search(message):
        path, reason = named["name"], message
    else:
        return invalid(f"the body has the wrong shape: {_lower(message)}")
    return invalid(f"{path}: {_lower(reason)}", field=path.partition("[")[0])


def _lower(text: str) -> str:
    """Begin with a small letter, unless the first word is an abbreviation."""
    return text if text[:2].isupper() else text[:1].lower() + text[1:]
