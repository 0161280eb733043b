"""Rules for the path and the query of every request, before a framework reads them."""

from collections import Counter
from urllib.parse import parse_qsl, unquote_to_bytes

from gwservice.asgi_types import Scope
from gwwire.decoding import InvalidRequest
from gwwire.problems import ProblemCode, ProblemError
from gwwire.query import LISTS

#: Query parameters that may be repeated: those of a query.
_LISTS = frozenset((*LISTS, "condition"))
_MOST_PARAMETERS = 1000


class MalformedAddress(ProblemError, code=ProblemCode.BAD_REQUEST):
    """The path or the query is not text, or the query has too many parameters."""


def check_address(scope: Scope) -> None:
    """Raise MalformedAddress, or InvalidRequest for a parameter that is given twice where one value is meant.

    Frameworks replace bytes that are not UTF-8, so that different paths become the same, and take the last of several
    values.
    """
    if b"%" in scope["raw_path"]:
        _check_utf8("path", scope["raw_path"])
    if query := scope["query_string"]:
        _check_utf8("query", query)
        _check_repeats(query.decode("latin-1"))


def _check_utf8(what: str, encoded: bytes) -> None:
    try:
        unquote_to_bytes(encoded).decode()
    except UnicodeDecodeError:
        raise MalformedAddress(f"the {what} is not UTF-8 after its percent-encoding is decoded") from None


def _check_repeats(query: str) -> None:
    try:
        parameters = parse_qsl(query, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        raise MalformedAddress(f"the query has more than {_MOST_PARAMETERS} parameters") from None
    for name, count in Counter(name for name, _ in parameters).items():
        if count > 1 and name not in _LISTS:
            raise InvalidRequest(f"{name[:100]}: the parameter is given {count} times; give it once", field=name[:100])
