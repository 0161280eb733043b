"""The models of records, steps and the change feed, and the rules for names; part of the public API.

A record is what is known about a thing with a name: its conditions, its status, and the steps that were done on it.
Times are Unix seconds.
"""

import re
from enum import StrEnum
from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from gwwire.decoding import InvalidRequest
from gwwire.names import PRINTABLE, PRINTABLE_WORDS, StepName, Text, WorkerName
from gwwire.problems import ProblemCode, ProblemError
from gwwire.query import Query

#: The status of a record on which steps may be performed.
GOOD = "good"
#: Steps that the datastore performs itself.
SEALED, ARCHIVED, VERIFY, BUNDLE = "sealed", "archived", "verify", "bundle"
SCRUB, RECALL, DISCARD = "scrub", "recall", "discard"
#: Characters of a record's id.
LONGEST_ID = 512
#: Bytes of the conditions of a record or the result of a step, as JSON.
MOST_BYTES = 64 * 1024
#: Characters of the reason of a failure.
LONGEST_REASON = 4096
#: Seconds.
LONGEST_LEASE, LONGEST_WAIT = 86_400, 60

#: The steps of the datastore on a batch that the state of the batch shows.
BATCH_STEPS = frozenset({SEALED, ARCHIVED})
_OWN = BATCH_STEPS | {VERIFY, BUNDLE, SCRUB, RECALL, DISCARD}
#: Kinds of records that only the datastore itself writes.
_OWN_KINDS = frozenset({BUNDLE})
_KIND = r"[a-z][a-z0-9_-]{0,63}"
_ID = re.compile(rf"(?P<kind>{_KIND})/.+", re.DOTALL)

Kind = Annotated[str, Meta(pattern=rf"^{_KIND}$(?!\n)", description="the first part of the id")]
#: Lines of a program's output, with no other control characters.
Reason = Annotated[str, Meta(max_length=LONGEST_REASON, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f]*$(?!\n)")]


def is_own(step: str) -> bool:
    """Return whether the datastore itself performs a step, so that no other worker can claim it."""
    return step in _OWN or ":" in step


def check_writable(record: str) -> None:
    """Raise ReadOnly for a record that the datastore itself writes, or InvalidRequest for a bad id."""
    if (kind := kind_of(record)) in _OWN_KINDS:
        raise ReadOnly(f"id: only the datastore itself writes records of the kind {kind!r}", field="id")


def kind_of(record: str) -> str:
    """Return the kind of a record's id, or raise InvalidRequest if it is not one."""
    found = _ID.fullmatch(record) if len(record) <= LONGEST_ID else None
    if found is None:
        reason = f"expected KIND/NAME with at most {LONGEST_ID} characters"
    elif not re.match(PRINTABLE, record):
        reason = PRINTABLE_WORDS
    elif not {"", ".", "..", "steps"}.isdisjoint(record.split("/")):
        reason = "a part between slashes is empty, `.`, `..` or `steps`"
    else:
        return found["kind"]
    raise InvalidRequest(f"id: {reason}", field="id")


class ReadOnly(ProblemError, code=ProblemCode.READ_ONLY):
    """Only the datastore itself writes to this record."""


class StepState(StrEnum):
    """The state of a step on one record."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"


class Step(Struct, frozen=True):
    """A step on a record."""

    name: str
    after: Annotated[list[str], Meta(description="the steps that have to be done before")]
    state: StepState
    worker: Annotated[str, Meta(description="the worker of the last attempt, or empty")] = ""
    attempt: Annotated[int, Meta(description="grows with each claim")] = 0
    expires: Annotated[float | None, Meta(description="end of the lease, or of the wait after a failure")] = None
    started: float | None = None
    ended: float | None = None
    result: Annotated[Any, Meta(description="what the worker sent")] = None
    reason: Annotated[str | None, Meta(description="of the last failure")] = None


class Record(Struct, frozen=True):
    """A record."""

    id: Annotated[str, Meta(description="`KIND/NAME`; the name may contain slashes")]
    kind: str
    rev: Annotated[int, Meta(description="number of changes; 0 until somebody writes to the record")]
    seq: Annotated[int, Meta(description="grows with each change, over all records")]
    status: Annotated[str, Meta(description="`good`, or what went wrong: then no step is offered")] = GOOD
    run: str | None = None
    conditions: Annotated[
        dict[str, Any] | None,
        Meta(description="nested values; null in lists for a segment whose conditions are its `meta`"),
    ] = None
    last: Annotated[str | None, Meta(description="the step that was done last")] = None
    steps: list[Step] = []


class RecordPage(Struct, frozen=True):
    """A page of records, in the order of their last changes."""

    records: list[Record]
    after: Annotated[int, Meta(description="the next page begins after this seq")]
    more: Annotated[bool, Meta(description="whether there is a next page now")]


class Feed(StrEnum):
    """The end of the change feed: when everything is sent, or never."""

    ONCE = "once"
    CONTINUOUS = "continuous"


class Mark(Struct, frozen=True):
    """A line of the change feed: there is nothing more up to this seq."""

    seq: int


class RecordContent(Struct, frozen=True, omit_defaults=True):
    """The writable fields of a record; other fields are ignored."""

    status: Annotated[Text, Meta(description="`good`, or what went wrong")] = GOOD
    run: Text | None = None
    conditions: dict[str, Any] = {}


class RecordPatch(Struct, frozen=True, omit_defaults=True):
    """Changes of a record as a merge patch (RFC 7386): null resets a field, or removes a condition."""

    status: Text | UnsetType | None = UNSET
    run: Text | UnsetType | None = UNSET
    conditions: dict[str, Any] | UnsetType | None = UNSET


class RecordLine(RecordPatch, frozen=True, kw_only=True, omit_defaults=True):
    """A line of many: a record's id and its changes."""

    id: str


class RecordWritten(Struct, frozen=True):
    """The answer to a line: the record after the change."""

    id: str
    rev: int
    seq: int


class StepClaim(Struct, frozen=True, omit_defaults=True):
    """A request for work: it declares a step, and leases records that wait for it to one worker."""

    worker: WorkerName
    after: Annotated[
        list[StepName], Meta(max_length=20, description="the steps that have to be done before; none for new records")
    ] = []
    before: Annotated[list[StepName], Meta(max_length=20, description="the steps that must not be done yet")] = []
    kind: Annotated[Kind | None, Meta(description="only records of this kind")] = None
    query: Query = Query()
    since: Annotated[
        int, Meta(ge=0, le=2**63 - 1, description="only records that changed after this seq; 0: all there ever were")
    ] = 0
    attempts: Annotated[int, Meta(ge=1, le=100, description="failures after which a record is not offered again")] = 5
    lease: Annotated[float, Meta(ge=1, le=LONGEST_LEASE, description="s until the leases end")] = 600
    limit: Annotated[int, Meta(ge=1, le=100, description="the largest number of records")] = 1
    wait: Annotated[float, Meta(ge=0, le=LONGEST_WAIT, description="s to wait for a record if none waits")] = 0

    def __post_init__(self) -> None:
        """Raise ValueError for a query of records that are never offered."""
        if self.query.status not in {None, GOOD}:
            raise ValueError(f"status: only records with status {GOOD!r} are offered")


class Work(Struct, frozen=True):
    """The records that a worker has now; the step on each has the attempt and the end of the lease."""

    step: str
    records: list[Record]


class StepEnd(Struct, frozen=True, omit_defaults=True):
    """A request of the worker that has a record.

    RUNNING renews the lease, DONE and FAILED end the attempt, WAITING gives the record back.
    """

    attempt: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    state: StepState
    result: Annotated[Any, Meta(description="for DONE: any JSON")] = None
    reason: Annotated[Reason | None, Meta(description="for FAILED")] = None
    retry: Annotated[bool, Meta(description="for FAILED: whether another attempt may succeed")] = True
    lease: Annotated[float, Meta(ge=1, le=LONGEST_LEASE, description="for RUNNING: s until the lease ends")] = 600


class StepFailure(Struct, frozen=True):
    """A record on which a step failed as often as its `attempts` allow."""

    record: str
    reason: Annotated[str, Meta(description="of the last attempt; of a long one, the end")]
    attempt: int
    ended: float


class StepOverview(Struct, frozen=True):
    """One step over all records."""

    name: str
    after: list[str]
    kind: str | None
    waiting: Annotated[int, Meta(description="records that can be claimed now or after a back-off")]
    running: int
    done: int
    failed: int
    oldest: Annotated[float | None, Meta(description="since when the record that has waited longest waits")]
    workers: Annotated[list[str], Meta(description="workers with a lease")]
    throughput: Annotated[int, Meta(description="records done in the last hour")] = 0
    failures: Annotated[list[StepFailure], Meta(description="the newest of the failed records, at most 20")] = []


class Steps(Struct, frozen=True):
    """All steps that were declared."""

    steps: list[StepOverview]
    seq: Annotated[int, Meta(description="seq of the last change that is counted")] = 0
