"""Records and steps: read, write, claim, end, redo."""

from collections.abc import AsyncIterator, Iterator
from io import BytesIO
from itertools import islice
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from databuffer.buffer import Buffer
from databuffer.records.preconditions import Preconditions, etag
from databuffer.records.selection import Selection
from databuffer.routes.common import Storage, json_response
from gwservice.asgi import JsonBody
from gwservice.body import UnsupportedMediaType, media_type, read_body
from gwservice.headers import lists_etag
from gwwire.decoding import InvalidRequest, decode_order
from gwwire.names import StepName
from gwwire.problems import ProblemError
from gwwire.query import parse_parameters
from gwwire.records import (
    Record,
    RecordContent,
    RecordLine,
    RecordPage,
    RecordPatch,
    RecordWritten,
    StepClaim,
    StepEnd,
    Work,
    check_writable,
    is_own,
)
from gwwire.segment import NDJSON

router = APIRouter()

#: Lines that are written in one step; segments that arrive meanwhile wait for it.
_PORTION = 50
_STEP_NAMES = msgspec.json.Decoder(StepName)


async def _wanted(
    request: Request,
    kind: Annotated[str | None, Query(min_length=1)] = None,
    segments: Literal["all", "written"] = "all",
) -> Selection:
    query = parse_parameters(request.query_params.multi_items())
    return Selection(kind, query, virtual_segments=segments == "all")


def _preconditions(
    if_match: Annotated[str | None, Header()] = None, if_none_match: Annotated[str | None, Header()] = None
) -> Preconditions:
    return Preconditions(if_match, if_none_match)


#: The conditions of a route that writes one record.
Given = Annotated[Preconditions, Depends(_preconditions)]
#: The filter of a route that returns records.
Wanted = Annotated[Selection, Depends(_wanted)]


@router.get("/records", summary="Records, a page at a time")
async def list_records(
    buffer: Storage,
    wanted: Wanted,
    after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """Return the records that match, in the order of their last changes."""
    found = await buffer.records.find(wanted, after, limit + 1)
    page = found[:limit]
    return json_response(RecordPage(page, page[-1].seq if page else after, len(found) > limit))


@router.post("/records", summary="Write many records")
async def write_records(request: Request, buffer: Storage) -> Response:
    """Apply a merge patch per line of NDJSON, `{"id", …}`; each line is answered."""
    headers = dict(request.scope["headers"])
    if media_type(headers) != NDJSON:
        raise UnsupportedMediaType(f"expected {NDJSON}, got {media_type(headers)}")
    body = b"".join(await read_body(request.receive, headers, limit=request.app.state.max_body))
    lines = (line for line in BytesIO(body) if line.strip())  # a list of millions would take 20 times their size
    return StreamingResponse(_written(buffer, lines), media_type=NDJSON)


@router.get("/records/{record:name}", summary="One record")
async def one_record(record: str, request: Request, buffer: Storage) -> Response:
    """Return a record, with its ETag."""
    found = await buffer.records.get(record)
    if lists_etag(request.headers.get("if-none-match", ""), etag(found)):
        return Response(status_code=304, headers={"ETag": etag(found)})
    return _answer(found)


@router.put("/records/{record:name}/steps/{step}", summary="Renew or end an attempt")
async def end_step(record: str, step: str, order: JsonBody, buffer: Storage) -> Response:
    """Take `{"attempt", "state"}` of the worker that has the record, with `result` or `reason`."""
    return _answer(await buffer.records.end(record, _workers_step(step), decode_order(StepEnd, order)))


@router.delete("/records/{record:name}/steps/{step}", summary="Let a step be done again")
async def redo_step(record: str, step: str, buffer: Storage) -> Response:
    """Reopen the step and those that depend on it."""
    return _answer(await buffer.records.redo(record, _step_name(step)))


@router.put("/records/{record:name}", summary="Write a record")
async def put_record(record: str, order: JsonBody, buffer: Storage, given: Given) -> Response:
    """Replace what was written to a record, or create it."""
    check_writable(record)
    return _answer(await buffer.records.put(record, decode_order(RecordContent, order), given))


@router.patch("/records/{record:name}", summary="Change a record")
async def patch_record(record: str, order: JsonBody, buffer: Storage, given: Given) -> Response:
    """Apply a merge patch to a record, or create it."""
    check_writable(record)
    return _answer(await buffer.records.patch(record, decode_order(RecordPatch, order), given))


@router.get("/steps", summary="All steps")
async def all_steps(buffer: Storage) -> Response:
    """Return the counts of waiting, running and failed records, by step."""
    return json_response(await buffer.records.steps())


@router.delete("/steps/{step}", summary="Remove a step")
async def forget_step(step: str, buffer: Storage) -> Response:
    """Remove a step that nobody performs any more; return the others, as GET /steps does."""
    return json_response(await buffer.records.forget(_workers_step(step)))


@router.post("/steps/{step}/claim", summary="Claim records for a step")
async def claim_step(step: str, request: Request, order: JsonBody, buffer: Storage) -> Response:
    """Declare a step, and lease records that wait for it to `{"worker"}`."""
    wanted = decode_order(StepClaim, order)
    found = await buffer.records.claim(_workers_step(step), wanted, request.is_disconnected)
    return json_response(Work(step, found))


def _answer(record: Record) -> Response:
    response = json_response(record)
    response.headers["ETag"] = etag(record)
    return response


def _step_name(step: str) -> str:
    try:
        return _STEP_NAMES.decode(msgspec.json.encode(step))
    except msgspec.ValidationError:
        message = "step: expected at most 100 letters, digits and `_.:-`, the first a letter or digit"
        raise InvalidRequest(message, field="step") from None


def _workers_step(step: str) -> str:
    """Return the name of a step that workers perform, or raise InvalidRequest."""
    name = _step_name(step)
    if is_own(name):
        raise InvalidRequest(f"step: the datastore itself performs {name!r}", field="step")
    return name


async def _written(buffer: Buffer, lines: Iterator[bytes]) -> AsyncIterator[bytes]:
    while portion := list(islice(lines, _PORTION)):
        orders = [_line(line) for line in portion]
        done = iter(await buffer.records.patch_all([(o.id, o) for o in orders if isinstance(o, RecordLine)]))
        outcomes = [next(done) if isinstance(order, RecordLine) else order for order in orders]
        yield b"".join(msgspec.json.encode(_result(outcome)) + b"\n" for outcome in outcomes)


def _line(line: bytes) -> RecordLine | ProblemError:
    try:
        order = decode_order(RecordLine, line)
        check_writable(order.id)
    except ProblemError as error:
        return error
    return order


def _result(outcome: Record | ProblemError) -> Any:
    return (
        outcome.problem() if isinstance(outcome, ProblemError) else RecordWritten(outcome.id, outcome.rev, outcome.seq)
    )
