"""Decode the gateway's answers into models of `gwwire.public`, or into the errors they stand for."""

from typing import TypeVar

import msgspec

from gwclient.errors import UNREACHABLE, GatewayRefused, GatewayUnavailable, OnTape, Redirected, UnexpectedAnswer
from gwwire.decoding import parse_json
from gwwire.problems import Problem, ProblemCode
from gwwire.public import StreamAnswer
from gwwire.url_user import hide_user

Answer = TypeVar("Answer")

#: Statuses after which a retry may succeed.
_TRANSIENT = frozenset({408, 429, 502, 503, 504})
#: Transient statuses that also say that the request was not carried out.
_UNTOUCHED = frozenset({429, 503})
#: Statuses, and codes of problems, with which a service answers that does not have the route at all.
_NO_ROUTE, _NO_ROUTE_CODES = frozenset({404, 405, 501}), frozenset({"", "not-found", "method-not-allowed"})
#: The first words of the detail of `not-found` from the services' frameworks; for a missing batch it names the batch.
_NO_PAGE = ("Not Found", "The requested URL was not found")
_UNAUTHORIZED = 401
#: The routes that every gateway has, also that of the original system.
_EVERYWHERE = ("/stats", "/desc", "/dumpbuf", "/streamdata", "/train", "/cleanbuf")
#: Problems with a transient status that do not pass soon: a daily quota lasts until midnight.
_FINAL = frozenset({"quota-exceeded"})

#: The answer to one of many segments; an error here concerns that segment alone, and is not raised.
LineAnswer = StreamAnswer | GatewayRefused | GatewayUnavailable


class Info(msgspec.Struct, frozen=True):
    """The version in an OpenAPI document."""

    version: str


class OpenApi(msgspec.Struct, frozen=True):
    """The part of the gateway's OpenAPI document that the client reads."""

    info: Info


class About(msgspec.Struct, frozen=True):
    """A gateway's version and clock (Unix s, or None if it sends no date)."""

    version: str
    time: float | None


def decode_answer(body: bytes, kind: type[Answer], source: str) -> Answer:
    """Decode the answer of `source`, or raise UnexpectedAnswer if a gateway would not answer that."""
    try:
        return parse_json(body, kind)
    except msgspec.DecodeError as error:
        raise UnexpectedAnswer(f"{source} does not answer as a gateway: {error}") from error


def decode_line(line: bytes, request: str, source: str) -> LineAnswer:
    """Decode the answer of `source` to one of many segments as `decode_answer` does, a problem to its error."""
    try:
        return decode_answer(line, StreamAnswer, source)
    except UnexpectedAnswer:
        if problem := decode_problem(line):
            return error_of(request, problem.status, problem, source=source)
        raise


def decode_problem(body: bytes) -> Problem | None:
    """Decode a problem document; return None if it is not one."""
    try:
        return parse_json(body, Problem)
    except msgspec.DecodeError:
        return None


def error_of(  # noqa: PLR0913 (parts of an answer)
    request: str,
    status: int,
    problem: Problem | None,
    *,
    source: str,
    reason: str = "",
    retry_after: float | None = None,
) -> GatewayRefused | GatewayUnavailable:
    """Return the error for a status other than 200: GatewayUnavailable if a retry may succeed.

    `request` is method and path, as `POST /streamdata`; `reason` is the HTTP reason, for an answer without a problem
    document; `retry_after` is in s; `source` is the address of the service, for one that is no gateway.
    """
    code = problem.code if problem else ""
    detail = (problem.detail or problem.title if problem else reason) or "no reason given"
    answered = f"{request} answered {status}"
    if code == ProblemCode.ON_TAPE:
        soon = "" if retry_after is None else f"; it may take {retry_after:.0f} s"
        is_file = "/holdings/" in request
        how = "`gwclient getfile --wait`" if is_file else "`gwclient get --wait` or `gwclient recall --wait`"
        message = f"{detail}{soon}: try again then, or wait with {how}"
        return OnTape(message, status=status, code=code, state=detail, retry_after=retry_after)
    if status in _TRANSIENT and code not in _FINAL:
        seen = status not in _UNTOUCHED
        return GatewayUnavailable(f"{answered}: {detail}", code=code, retry_after=retry_after, seen=seen)
    absent = status in _NO_ROUTE and code in _NO_ROUTE_CODES and (code != "not-found" or detail.startswith(_NO_PAGE))
    no_gateway = absent and request.endswith(_EVERYWHERE)
    if not absent:
        message = f"{answered}: {detail}"
        if status == _UNAUTHORIZED:
            message += "; the API key is read from --key-file or GLITCHFLOW_KEY_FILE"
    elif no_gateway:
        message = f"no gateway answers at {source}: {answered}; `gwclient doctor` shows which service does"
    else:
        message = f"{answered}: {source} has no such route; `gwclient doctor` shows which service it is"
    refused = GatewayRefused(message, status=status, code=code, field=problem.field if problem else None)
    if no_gateway:
        refused.exit_code = UNREACHABLE
    return refused


def redirected(source: str, path: str, status: int, target: str) -> Redirected:
    """Return the error for an answer that redirects the request of a path from the gateway `source` to `target`."""
    target = hide_user(target)
    other = target.removesuffix(path)
    is_gateway = target.endswith(path) and other != source and not {"?", "#"} & set(other)  # as a login page
    advice = f"set SRV={other}" if is_gateway else "--srv or SRV has to name the gateway itself"
    return Redirected(f"{source} redirects to {target}: {advice}", status=status)
