"""The reasons of pydantic for refusing a value, in plain words."""

from collections.abc import Mapping
from typing import Any

from gwwire.tape import STAGE_ID
from gwwire.tiering import ASKER

_EXPECTED = {
    "bool_parsing": "true or false",
    "byte_size": "a whole number of bytes, such as 1048576, 50MB or 50MiB",
    "enum": "{expected}",
    "extra_forbidden": "no parameter of this name",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "greater_than": "a number above {gt:,g}",
    "greater_than_equal": "{ge:,} or more",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number with fewer digits",
    "less_than": "a number below {lt:,}",
    "less_than_equal": "{le:,g} or less",
    "literal_error": "{expected}",
    "missing": "a value",
    "string_too_long": "{max_length} characters or fewer",
    "string_too_short": "{min_length} characters or more",
    "string_unicode": "text in UTF-8",
    "uuid_parsing": "a UUID",
}

_LETTERS = "letters, digits"
_ASCII = "letters A to Z and a to z, digits"
_STEP = f"the name of a step: {_ASCII}, '_', '.', ':' and '-', with a letter or digit first"
#: The patterns of parameters in words.
PATTERNS = {
    r"^\w+$": f"{_LETTERS} and '_'",
    r"^\w[\w.-]*$": f"{_LETTERS}, '_', '.' and '-'",
    r"^[\w.-]+$": f"{_LETTERS}, '_', '.' and '-'",
    r"^[\w-]+$": f"{_LETTERS}, '_' and '-'",
    r"^[A-Za-z0-9._-]+$": f"{_ASCII}, '.', '_' and '-'",
    r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$": _STEP,
    r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}$": f"{_STEP}, at most 100 characters",
    r"^[^*:\x00-\x1f\x7f]*$": "a name without '*', ':' and control characters",
    r"^[^*\x00-\x1f\x7f]*$": "a name without '*' and control characters",
    r"^[^\x00-\x1f\x7f]*$": "a path without control characters",
    r"^[^*\x00-\x1f\x7f]*(\*[^*\x00-\x1f\x7f]*){0,2}$": "a channel with at most two '*', without control characters",
    r"^[\w.-]+:[^,]+(,[\w.-]+:[^,]+)*$": f"tags as NAME:VALUE,NAME:VALUE; names have {_LETTERS}, '_', '.' and '-'",
    r"^\^?[\w/:.%~-]*(\.\*[\w/:.%~-]*){0,3}\$?$": (
        f"a part of a URL: {_LETTERS} and _/:.%~-, '.*' at most three times, '^' only first and '$' only last"
    ),
    ASKER: f"a name of at most 100 {_ASCII}, '.', '_', '@', ':' and '-', with a letter or digit first",
    STAGE_ID: "the id of a stage request: 'stage-' and 32 digits 0 to 9 and a to f",
}


def expectation(error: Mapping[str, Any]) -> str:
    """Return what was expected in place of a value, given one of the `errors()` of a ValidationError."""
    if error["type"] == "string_pattern_mismatch":
        pattern = error["ctx"]["pattern"]
        return f"expected {PATTERNS.get(pattern, f'text that matches {pattern}')}"
    if words := _EXPECTED.get(error["type"]):
        return f"expected {words.format(**error.get('ctx', {}))}"
    message: str = error["msg"]
    return message.removeprefix("Value error, ")
