"""What the gateway answers: from bytes to typed shapes, or to the error that they amount to."""

import time
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import TypeVar

import msgspec

from gwclient.errors import GatewayRefused, GatewayUnavailable, UnexpectedAnswer
from gwwire.datastore import DatastoreState

Answer = TypeVar("Answer")

#: Statuses that say "not now".
_TRANSIENT = frozenset({408, 429, 502, 503, 504})
#: Statuses that also say "I did nothing".
_UNTOUCHED = frozenset({429, 503})
#: Problems that pass, but not while a command runs: the quota of the day lasts until midnight.
_FINAL = frozenset({"quota-exceeded"})


class StreamOutcome(StrEnum):
    """What became of a segment."""

    CREATED = "CREATED"
    FROZEN = "FROZEN"


class TrainOutcome(StrEnum):
    """What became of the wish to train."""

    FROZEN = "FROZEN"
    WAITING = "WAITING"


class Streamed(msgspec.Struct, frozen=True):
    """The answer to a segment: `body` is for people."""

    resp: StreamOutcome
    body: str = ""


class State(msgspec.Struct, frozen=True):
    """The datastore's state."""

    resp: DatastoreState


class Training(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to the wish to train: when FROZEN, the batch's `n_f` segments, `bt_wrt` bytes, and its holder.

    `batch` is the batch's id and `digest` its identity, from gateways that tell them.
    """

    resp: TrainOutcome
    n_f: int | None = None
    bt_wrt: int | None = None
    holder: str | None = None
    batch: str | None = None
    digest: str | None = None


class Cleaned(msgspec.Struct, frozen=True):
    """The answer to the order to archive the batch; `resp` is CLEANED."""

    resp: str
    body: str = ""


class Thawed(msgspec.Struct, frozen=True):
    """The answer to the order to open the frozen batch again; `resp` is OPERATIONAL."""

    resp: DatastoreState
    body: str = ""


class Whoami(msgspec.Struct, frozen=True):
    """Who the gateway takes the client for: `auth` is `off` where it does not ask, `scopes` what is allowed."""

    auth: str
    name: str | None
    scopes: list[str]


class Info(msgspec.Struct, frozen=True):
    """The version, in an OpenAPI document."""

    version: str


class OpenApi(msgspec.Struct, frozen=True):
    """As much of the gateway's OpenAPI document as is needed."""

    info: Info


class About(msgspec.Struct, frozen=True):
    """What a gateway says about itself: its version, and the time of day there, in Unix seconds."""

    version: str
    time: float | None


class ProblemAnswer(msgspec.Struct, frozen=True):
    """As much of a problem document as is needed to tell it; nothing in it is taken for granted."""

    title: str = ""
    detail: str = ""
    code: str = ""
    field: str | None = None


class _Line(ProblemAnswer, frozen=True):
    """What became of one of many segments: `resp` and `body`, or a problem with its `status`."""

    resp: StreamOutcome | None = None
    body: str = ""
    status: int | None = None


#: What became of one of many segments; an error here is about that segment alone, and is not raised.
LineAnswer = Streamed | GatewayRefused | GatewayUnavailable


def decode_answer(body: bytes, kind: type[Answer], source: str) -> Answer:
    """Decode the answer that came from `source`.

    Raises:
        UnexpectedAnswer: it is not one that a gateway gives.

    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnexpectedAnswer(f"{source} does not answer as a gateway: {error}") from error


def decode_line(line: bytes, question: str, source: str) -> LineAnswer:
    """Decode the answer to one of many segments, which were sent with `question` to `source`.

    Raises:
        UnexpectedAnswer: it is not one that a gateway gives.

    """
    answer = decode_answer(line, _Line, source)
    if answer.resp is not None:
        return Streamed(answer.resp, answer.body)
    if answer.status is None:
        raise UnexpectedAnswer(f"{source} does not answer as a gateway: a line without resp and status")
    return error_of(question, answer.status, answer)


def decode_problem(body: bytes) -> ProblemAnswer:
    """Decode a problem document; one that cannot be read is an empty one."""
    try:
        return msgspec.json.decode(body, type=ProblemAnswer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ProblemAnswer()


def error_of(
    question: str, status: int, problem: ProblemAnswer, *, reason: str = "", retry_after: float | None = None
) -> GatewayRefused | GatewayUnavailable:
    """Give the error that a status other than 200 amounts to: whether asking again makes sense.

    Args:
        question: what was asked, as `POST /streamdata`.
        status: the HTTP status.
        problem: the problem document that came with it.
        reason: what to tell where the document is empty.
        retry_after: s that the gateway asks to wait.

    """
    told = problem.detail or problem.title or reason or "no reason given"
    message = f"{question} answered {status}: {told}"
    if status in _TRANSIENT and problem.code not in _FINAL:
        return GatewayUnavailable(message, retry_after=retry_after, seen=status not in _UNTOUCHED)
    return GatewayRefused(message, status=status, code=problem.code, field=problem.field)


def parse_retry_after(header: str) -> float | None:
    """Read the header's two forms, seconds and an HTTP date; anything else says nothing."""
    if header.isdecimal():
        return float(header)
    told = parse_date(header)
    return None if told is None else max(0.0, told - time.time())


def parse_date(header: str) -> float | None:
    """Read an HTTP date, as Unix seconds; anything else says nothing."""
    try:
        return parsedate_to_datetime(header).timestamp()
    except ValueError:
        return None
