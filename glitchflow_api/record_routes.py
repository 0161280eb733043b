"""The gateway's routes of records and steps: described here, relayed without decoding."""

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Response

from glitchflow_api.models import ChangesQuery, RecordsQuery
from glitchflow_api.openapi import described_feed, described_lines, described_order, responses
from glitchflow_api.routes import Relayed
from glitchflow_api.while_allowed import WhileAllowed
from gwwire import public, records

router = APIRouter(default_response_class=Response, tags=["work"])

RecordId = Annotated[
    str,
    Path(
        description=f"KIND/NAME, at most {records.LONGEST_ID} characters; the name may contain slashes, and no part"
        " between them is empty, `.`, `..` or `steps`",
        examples=["file/ma22a000_000"],
    ),
]
_STEP_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$"
StepName = Annotated[str, Path(pattern=_STEP_NAME, max_length=100)]
#: The buffer refuses names with a colon with a better reason: they are the datastore's own steps.
WorkersStepName = Annotated[
    str, Path(pattern=_STEP_NAME, max_length=100, json_schema_extra={"pattern": _STEP_NAME.replace(":", "")})
]
IfMatch = Annotated[str | None, Header(description="the ETag that the record must still have", examples=['"17"'])]
IfNoneMatch = Annotated[
    str | None,
    Header(description="`*`: the record must not exist yet", examples=["*"]),
]


class RelayedWaiting(Relayed):
    """The answer of dslogic to a request that waits; it ends with the client's connection."""

    relay = "waiting_relay"


class RelayedClaim(RelayedWaiting):
    """The same for a worker that waits for a record."""

    relay = "claim_relay"


class RelayedFeed(RelayedWaiting):
    """The same for a reader of changes."""

    relay = "feed_relay"


@router.get("/records", responses=responses(records.RecordPage, 409, 422))
async def list_records(wanted: Annotated[RecordsQuery, Query()]) -> Response:
    """List records, in the order of their last changes, a page at a time.

    Segments and batches have records before anybody wrote to them. The next page begins after the `after` of this one.
    """
    return Relayed()


@router.post("/records", **described_lines(records.RecordLine, records.RecordWritten))
async def write_records() -> Response:
    """Write many records: a line of NDJSON is an id with changes, and is answered by a line, which may be a problem."""
    return Relayed()


@router.put(
    "/records/{record:name}/steps/{step}", **described_order(records.StepEnd, records.Record, 404, 409), name="end_step"
)
async def end_step(record: RecordId, step: WorkersStepName) -> Response:
    """Renew the lease of an attempt (RUNNING), end it (DONE, FAILED), or give the record back (WAITING).

    A failure is tried again after a pause that doubles each time, until the step has failed as often as its `attempts`
    allow. A worker whose attempt was replaced is refused: it has to drop what it did.
    """
    return Relayed()


@router.delete("/records/{record:name}/steps/{step}", responses=responses(records.Record, 404, 422))
async def redo_step(record: RecordId, step: StepName) -> Response:
    """Reopen a step of a record, and the steps that depend on it: they are done again."""
    return Relayed()


@router.get("/records/{record:name}", responses=responses(records.Record, 404, 422))
async def one_record(record: RecordId) -> Response:
    """Return a record. The conditions of a segment are its `meta`, until others are written."""
    return Relayed()


@router.put("/records/{record:name}", **described_order(records.RecordContent, records.Record, 404, 412))
async def put_record(record: RecordId, if_match: IfMatch = None, if_none_match: IfNoneMatch = None) -> Response:
    """Replace status, run and conditions of a record, or create it."""
    return Relayed()


@router.patch("/records/{record:name}", **described_order(records.RecordPatch, records.Record, 404, 412))
async def patch_record(record: RecordId, if_match: IfMatch = None, if_none_match: IfNoneMatch = None) -> Response:
    """Change a record by a JSON merge patch (RFC 7386), or create it."""
    return Relayed()


@router.get("/steps", responses=responses(records.Steps))
async def steps() -> Response:
    """Return all steps with the numbers of waiting, running, done and failed records."""
    return Relayed()


@router.delete("/steps/{step}", responses=responses(records.Steps, 404, 409, 422))
async def forget_step(step: WorkersStepName) -> Response:
    """Remove a step that nobody performs any more, and return the others; what was done stays in the records."""
    return Relayed()


@router.post("/steps/{step}/claim", **described_order(records.StepClaim, records.Work, 409))
async def claim_step(step: WorkersStepName) -> Response:
    """Declare a step, and lease records that wait for it to one worker.

    A record waits for a step if its status is `good`, it matches kind and query, all steps of `after` are done on it,
    and this one is not. Leases end by themselves; then another worker gets the record. The answer has no records if
    none waits, also not within `wait` seconds.
    """
    return WhileAllowed(RelayedClaim(), public.Scope.WORK)


@router.get("/changes", responses=described_feed())
async def changes(wanted: Annotated[ChangesQuery, Query()]) -> Response:
    """Send records as they change, one per line of NDJSON, each in its latest version and with its seq.

    A reader that continues after the last seq that it saw misses nothing, however long it was away. `{"seq": N}` says
    that nothing up to N matches any more; an empty line says that the connection works. The feed only says that
    something changed: work is claimed at /steps/{step}/claim.
    """
    return WhileAllowed(RelayedFeed(), public.Scope.READ)
