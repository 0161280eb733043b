"""Shared code of the routes."""

from typing import Annotated, Any

import msgspec
from fastapi import Depends, Query, Request, Response

from databuffer.buffer import Buffer


async def _buffer(request: Request) -> Buffer:  # async: FastAPI would send a plain function to a thread
    buffer: Buffer = request.app.state.buffer
    return buffer


Storage = Annotated[Buffer, Depends(_buffer)]
#: GPS seconds in a query.
GpsTime = Annotated[float | None, Query(allow_inf_nan=False)]


def json_response(content: Any, status: int = 200) -> Response:
    """Return a JSON answer."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")
