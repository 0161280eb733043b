"""Regular expressions of clients, in time that grows with the length of a text only."""

from collections.abc import Callable

from pydantic_core import SchemaError, SchemaValidator, core_schema

from gwwire.decoding import InvalidRequest

#: Characters of an expression.
_LONGEST = 500


def matcher(pattern: str, field: str) -> Callable[[str], bool]:
    """Return whether a regular expression is found in a text; raise InvalidRequest, about `field`, if it is not one.

    It is an expression of Rust's `regex`: without look-around and back-references, which `re` needs to backtrack for.
    """
    if len(pattern) > _LONGEST:
        raise InvalidRequest(f"{field}: expected a regular expression of at most {_LONGEST} characters", field=field)
    try:
        validator = SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
    except SchemaError as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip().startswith("error:")), "")
        detail = reason.removeprefix("error:").strip() or "it cannot be compiled"
        raise InvalidRequest(f"{field}: not a regular expression: {detail}", field=field) from None
    return validator.isinstance_python
