"""Shared code of the routes."""

from typing import Annotated, Any
from urllib.parse import unquote

import msgspec
from fastapi import Depends, Query, Request, Response

from databuffer.buffer import Buffer
from databuffer.holdings.rows import Caller
from gwservice.headers import ADMIN_HEADER, GROUP_HEADER, USER_HEADER
from gwwire.tiering import ASKER


async def _buffer(request: Request) -> Buffer:  # async: FastAPI would send a plain function to a thread
    buffer: Buffer = request.app.state.buffer
    return buffer


async def _group(request: Request) -> str | None:
    group = request.headers.get(GROUP_HEADER)
    return None if group is None else unquote(group)


async def _sender(request: Request) -> Caller:
    user = request.headers.get(USER_HEADER)
    return Caller(None if user is None else unquote(user), await _group(request), ADMIN_HEADER in request.headers)


Storage = Annotated[Buffer, Depends(_buffer)]
#: The sender of a request, with the user and group that the gateway has identified.
Sender = Annotated[Caller, Depends(_sender)]
#: The asker for whom a recalled batch is kept.
Asker = Annotated[str, Query(pattern=ASKER)]
#: The group of the caller, which the gateway knows.
Group = Annotated[str | None, Depends(_group)]


def json_response(content: Any, status: int = 200) -> Response:
    """Return a JSON answer."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")
