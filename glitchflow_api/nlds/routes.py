"""The seven routes that NLDS' client calls: they translate, and leave the work to others."""

import asyncio
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request, Response
from msgspec import Struct

from glitchflow_api.errors import NoSuchMember, Unauthorized
from glitchflow_api.nlds import catalog
from glitchflow_api.nlds.answers import PREFIX, accepted
from glitchflow_api.nlds.calls import HoldingCalls
from glitchflow_api.nlds.jobs import Jobs, Member, Order
from glitchflow_api.nlds.models import (
    GetlistQuery,
    GetQuery,
    HoldingQuery,
    MetaBody,
    PathsBody,
    PutQuery,
    StatBody,
    StatQuery,
)
from glitchflow_api.nlds.shapes import Json
from glitchflow_api.nlds.status import find_transactions
from glitchflow_api.nlds.worker import Worker
from glitchflow_api.routes import Logic
from glitchflow_api.sessions import CurrentCaller, public_url
from gwservice.body import read_body
from gwwire.decoding import InvalidRequest, decode_order
from gwwire.holdings import HoldingFile

T = TypeVar("T", bound=Struct)

router = APIRouter(prefix=PREFIX, include_in_schema=False, default_response_class=Response)


async def _member(request: Request, caller: CurrentCaller, user: str, group: str) -> Member:
    if "authorization" not in request.headers:  # a page of another site could send the cookie with a GET
        raise Unauthorized("a token is needed, as `Authorization: Bearer TOKEN`")
    if caller.name is None or user != caller.name:
        raise NoSuchMember(f"User {user[:100]} could not be found: the token is another user's.")
    if group != (caller.group or ""):
        raise NoSuchMember(f"User is not a member of the group {group[:100]}.")
    return Member(caller.name, caller.group)


Of = Annotated[Member, Depends(_member)]


@router.put("/files/")
async def put(request: Request, member: Of, query: Annotated[PutQuery, Query()]) -> Response:
    """Begin to put files."""
    body = await _read(request, PathsBody)
    return await _begin(request, member, "put" if len(body.filelist) == 1 else "putlist", query, body.order())


@router.get("/files/")
async def get(request: Request, member: Of, query: Annotated[GetQuery, Query()]) -> Response:
    """Begin to get a file."""
    return await _begin(request, member, "get", query, query.order())


@router.put("/files/getlist/")
async def getlist(request: Request, member: Of, query: Annotated[GetlistQuery, Query()]) -> Response:
    """Begin to get files."""
    body = await _read(request, PathsBody)
    return await _begin(request, member, "getlist", query, body.order(query))


@router.get("/catalog/list/")
async def list_holdings(member: Of, query: Annotated[HoldingQuery, Query()], logic: Logic) -> Response:
    """List holdings."""
    calls = HoldingCalls(logic, member.user, member.group)
    return await _answer("list", member, query, catalog.list_holdings(calls, query.selection(member), query), [])


@router.get("/catalog/find/")
async def find(request: Request, member: Of, query: Annotated[HoldingQuery, Query()], logic: Logic) -> Response:
    """Find files."""

    def url(file: HoldingFile) -> str:
        return public_url(request, f"/holdings/{file.holding}/files/{quote(file.path[1:])}")

    calls = HoldingCalls(logic, member.user, member.group)
    return await _answer("find", member, query, catalog.find(calls, query.selection(member), query, url), {})


@router.post("/catalog/meta/")
async def meta(request: Request, member: Of, query: Annotated[HoldingQuery, Query()], logic: Logic) -> Response:
    """Change label and tags of holdings of the user."""
    body = await _read(request, MetaBody)
    calls, selection = HoldingCalls(logic, member.user, member.group), query.selection(member)
    changing = catalog.change(calls, selection, body.new_label, body.new_tag or {}, body.del_tag or {})
    return await _answer("meta", member, query, changing, [])


@router.get("/status/")
async def stat(request: Request, member: Of, query: Annotated[StatQuery, Query()]) -> Response:
    """Return transactions with their states."""
    body, jobs = await _read(request, StatBody), _jobs(request)
    details = _details("stat", member) | {"groupall": query.groupall, "job_label": query.job_label}

    def answer() -> Response:
        found = find_transactions(jobs, member, query, body)
        if not found:
            details["failure"] = f"no transactions found for user:{member.user} and group:{member.group or ''}"
        return accepted({"details": details, "data": {"records": found}})

    return await asyncio.to_thread(answer)  # it may have a million files


async def _begin(request: Request, member: Member, action: str, query: PutQuery, order: Order) -> Response:
    """Accept a transaction; the same one again changes nothing."""
    jobs, identity = _jobs(request), str(query.transaction_id)
    known = jobs.get(identity)
    if known is None:
        job = await jobs.add(identity, action, member, query.job_label, order)
        worker: Worker = request.app.state.nlds.worker
        worker.begin(job)
    elif (known.user, known.action) != (member.user, action):
        raise InvalidRequest(f"transaction_id: {identity} is another transaction's", field="transaction_id")
    return accepted(
        {
            "transaction_id": identity,
            "msg": f"{action.upper()} transaction with transaction_id {identity} accepted for processing.",
            **_details(action, member),
            "job_label": query.job_label,
            "tenancy": None,
            "label": order.label,
            "holding_id": order.holding,
            "tag": order.tag,
        }
    )


async def _answer(action: str, member: Member, query: HoldingQuery, work: Any, nothing: Any) -> Response:
    """Return what was found; if nothing was, the reason is a soft failure."""
    details = _details(action, member) | query.model_dump(exclude={"tag", "regex"}, exclude_none=True)
    try:
        found = await work
    except catalog.SoftFailure as error:
        found, details["failure"] = nothing, str(error)
    return accepted({"details": details, "data": {"holdings": found}})


def _details(action: str, member: Member) -> Json:
    return {"user": member.user, "group": member.group or "", "api_action": action}


async def _read(request: Request, shape: type[T]) -> T:
    headers, state = dict(request.scope["headers"]), request.app.state
    body = b"".join(await read_body(request.receive, headers, limit=state.max_body, seconds=state.body_seconds))
    return await asyncio.to_thread(decode_order, shape, body)


def _jobs(request: Request) -> Jobs:
    jobs: Jobs = request.app.state.nlds.jobs
    return jobs
