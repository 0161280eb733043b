"""The reasons of pydantic for refusing a value, in plain words."""

from collections.abc import Mapping
from typing import Any

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
    "string_pattern_mismatch": "a name without special characters",
    "string_too_long": "{max_length} characters or fewer",
    "string_too_short": "{min_length} characters or more",
    "string_unicode": "text in UTF-8",
    "uuid_parsing": "a UUID",
}


def expectation(error: Mapping[str, Any]) -> str:
    """Return what was expected in place of a value, given one of the `errors()` of a ValidationError."""
    if words := _EXPECTED.get(error["type"]):
        return f"expected {words.format(**error.get('ctx', {}))}"
    message: str = error["msg"]
    return message.removeprefix("Value error, ")
