"""Shared code of the routes."""

from typing import Annotated, Any

import msgspec
from fastapi import Depends, Query, Request, Response

from databuffer.buffer import Buffer
from gwwire.decoding import InvalidRequest


async def _buffer(request: Request) -> Buffer:  # async: FastAPI would send a plain function to a thread
    buffer: Buffer = request.app.state.buffer
    return buffer


Storage = Annotated[Buffer, Depends(_buffer)]
_GpsTime = Annotated[float | None, Query(allow_inf_nan=False)]


async def _span(start: _GpsTime = None, stop: _GpsTime = None) -> tuple[float | None, float | None]:
    if start is not None and stop is not None and start > stop:
        raise InvalidRequest(f"start={start!r} is after stop={stop!r}", field="start")
    return start, stop


#: The half-open span `[start, stop)` of a query, GPS seconds; either end may be missing.
GpsSpan = Annotated[tuple[float | None, float | None], Depends(_span)]


def json_response(content: Any, status: int = 200) -> Response:
    """Return a JSON answer."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")
