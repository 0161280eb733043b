"""The way of the data, before FastAPI's routes: nearly every request POSTs to /streamdata, and is only passed on."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import msgspec
from fastapi import Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from glitchflow_api.errors import ProblemFromBelow, TooManyStreams, Unauthorized
from glitchflow_api.gate import may_still
from glitchflow_api.logic_client import LogicClient, of_group
from gwservice.asgi import DuplexResponse, body_pieces, media_type, problem_response, read_json
from gwservice.correlation import note_frozen, note_passed_on
from gwservice.passing import SENDING_HEADERS, pick
from gwwire import public
from gwwire.datastore import FROZEN_TEXT
from gwwire.problems import PROBLEM_TYPE, ProblemError
from gwwire.public import StreamAnswer
from gwwire.segment import NDJSON

PATH = "/streamdata"
#: How long one waits for the end of another before it is told to come again.
_TURN_SECONDS = 5.0


class DataPath:
    """A middleware that takes what is POSTed to /streamdata, and leaves all else to the application behind it.

    FastAPI's machinery, which finds a route, derives arguments and checks answers, takes longer than all else that
    the gateway does for a segment. A middleware that is added after this one is in front of it.
    """

    def __init__(self, behind: ASGIApp) -> None:
        self._behind = behind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._behind(scope, receive, send)
            return
        try:
            answer = await store(Request(scope, receive))
        except ProblemError as error:
            answer = problem_response(error.problem(), error.retry_after)
        except ProblemFromBelow as error:
            answer = pass_problem_on(error)
        await answer(scope, receive, send)


async def store(request: Request) -> Response:
    """Store one segment, or many.

    CREATED means that the segment is on the disk and counted; FROZEN means that it was not taken. Many come as
    NDJSON, a segment a line, and are answered line by line in the same order: with the same answers, or a problem for
    a line that is no segment.

    With an `Idempotency-Key`, the same key and bytes again get the first answer, and nothing is stored twice; the key
    of line i of many is `KEY/i`.
    """
    logic: LogicClient = request.app.state.logic
    headers = pick(request.headers, SENDING_HEADERS) | of_group(request.state.caller.group)
    if media_type(request) == NDJSON:
        lines = logic.stream_lines(_while_allowed(request), headers)
        return await DuplexResponse.of(_in_turn(request.app.state.streams, lines))
    stored = await logic.stream(await read_json(request), headers)
    if stored is None:
        note_frozen()
        return Response(msgspec.json.encode(StreamAnswer("FROZEN", FROZEN_TEXT)), media_type="application/json")
    answer = msgspec.json.encode(StreamAnswer("CREATED", stored.outcome.body))
    return Response(answer, 200, stored.headers, "application/json")


async def _while_allowed(request: Request) -> AsyncIterator[bytes]:
    """Give a body as it comes, as long as its sender may send it: that can be for days."""
    async for piece in body_pieces(request):
        if not await may_still(request, public.Scope.STREAM):
            raise Unauthorized("the credential is not valid any more, or does not allow this any more")
        yield piece


async def _in_turn(streams: asyncio.Semaphore, lines: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    """Give the lines of an answer once there is a place: each stream holds a thread of dslogic as long as it lasts."""
    try:
        async with asyncio.timeout(_TURN_SECONDS if streams.locked() else None):
            await streams.acquire()
    except TimeoutError:
        raise TooManyStreams("MAX_STREAMS requests of many segments are under way already", retry_after=1) from None
    try:
        async with aclosing(lines):
            async for line in lines:
                yield line
    finally:
        streams.release()


def pass_problem_on(error: ProblemFromBelow) -> Response:
    """Tell a lower tier's problem in its words."""
    note_passed_on(PROBLEM_TYPE, error.body)
    headers = {"Retry-After": error.retry_after} if error.retry_after else {}
    return Response(error.body, error.status, headers, PROBLEM_TYPE)
