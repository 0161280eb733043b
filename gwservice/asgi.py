"""The edge of the FastAPI services: exceptions become problem documents here and nowhere else."""

import asyncio
import logging
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from gwservice.correlation import note_problem
from gwservice.logs import log_config
from gwservice.passing import SEGMENT_OFFER
from gwservice.patience import Patience
from gwservice.settings import Address
from gwwire.problems import (
    PROBLEM_TYPE,
    Problem,
    ProblemCode,
    ProblemError,
    code_of_status,
    encode_problem,
    make_problem,
)
from gwwire.segment import NDJSON

log = logging.getLogger(__name__)

#: How long requests under way may take after SIGTERM; the whole end stays within 10 s.
_GRACE_SECONDS = 8
#: Longer than any caller keeps an idle connection, so that none is closed at the moment it is used.
_KEEP_ALIVE_SECONDS = 120
#: Bytes of the largest order: strangers may send one, and none that makes sense has a tenth of it.
_MOST_OF_ORDER = 64 * 1024


class UnsupportedMediaType(ProblemError):
    """The body came with another media type than this route takes."""

    code = ProblemCode.UNSUPPORTED_MEDIA_TYPE


class TooLarge(ProblemError):
    """The body is larger than this service takes."""

    code = ProblemCode.TOO_LARGE


#: FastAPI's own telemetry, which would tell what was sent where it is wrong; `gwservice.tracing` is the trio's.
NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}

_JSON = "application/json"


def media_type(request: Request) -> str:
    """Give the media type of the request's body; one that does not say what it is is believed to be JSON."""
    return request.headers.get("content-type", _JSON).partition(";")[0].strip().lower()


async def read_json(request: Request) -> bytes:
    """Read a JSON body, undecoded, up to the `max_body` of the application's state, with its `patience`.

    Raises:
        BodyLate: it does not come in time.
        UnsupportedMediaType: the body says it is something else.
        TooLarge: it is larger than `max_body` bytes; it is not read to its end.

    """
    return await _read_json(request, request.app.state.max_body, "MAX_BODY")


async def read_order(request: Request) -> bytes:
    """Read a JSON body as `read_json` does, of the size of an order at most."""
    return await _read_json(request, min(request.app.state.max_body, _MOST_OF_ORDER), "an order's limit")


async def _read_json(request: Request, limit: int, name: str) -> bytes:
    if media_type(request) != _JSON:
        raise UnsupportedMediaType(f"expected {_JSON}, got {request.headers['content-type']}")
    if int(request.headers.get("content-length", 0)) > limit:
        raise TooLarge(f"the body is larger than {limit} bytes ({name})")
    chunks, size = [], 0
    patience: Patience = request.app.state.patience
    with patience.wait():
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise TooLarge(f"the body is larger than {limit} bytes ({name})")
            chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def read_order_if_any(request: Request) -> bytes:
    """Read a JSON body as `read_order` does; empty where there is none, whatever it is said to be."""
    headers = request.headers
    if "transfer-encoding" not in headers and headers.get("content-length", "0") == "0":
        return b""
    return await read_order(request)


def body_pieces(request: Request) -> AsyncIterator[bytes]:
    """Read a body piece by piece; BodyLate where the next one does not come in time."""
    patience: Patience = request.app.state.patience
    return patience.each(request.stream())


def offer_ndjson() -> Response:
    """Answer OPTIONS: what a POST to this route may carry."""
    return Response(status_code=204, headers=SEGMENT_OFFER)


class DuplexResponse(Response):
    """An answer that is given while the request is still being read.

    Starlette's own StreamingResponse reads the request meanwhile, to notice a client that goes away; here the
    answer's source reads it. What goes wrong before the first part is told as a problem of its own.
    """

    def __init__(self, parts: AsyncIterator[bytes], first: bytes, content_type: str) -> None:
        super().__init__(media_type=content_type)
        del self.headers["content-length"]
        self._parts = parts
        self._first = first

    @classmethod
    async def of(cls, parts: AsyncIterator[bytes], content_type: str = NDJSON) -> Response:
        """Make the answer once its first part is there."""
        try:
            return cls(parts, await anext(parts, b""), content_type)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (its source receives)
        """Send the first part, then the others as they come."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self._first, "more_body": True})
        try:
            async for part in self._parts:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        except ClientDisconnect:
            return
        except ProblemError as error:
            # The answer has begun and cannot become a problem any more. Left without its end, it makes the server
            # break the connection, and the client knows that answers are missing.
            log.error("an answer broke off: %s", error.detail)  # noqa: TRY400 (the detail says it all)
            return
        await send({"type": "http.response.body", "body": b"", "more_body": False})


#: The parameter of an endpoint that takes an order.
JsonBody = Annotated[bytes, Depends(read_order)]
#: The parameter of an endpoint that can do without one.
OptionalJsonBody = Annotated[bytes, Depends(read_order_if_any)]


def add_problem_handlers(app: FastAPI) -> None:
    """Make `app` answer every error that is somebody's doing as a problem document."""
    app.add_exception_handler(ProblemError, _tell_problem_error)
    app.add_exception_handler(HTTPException, _tell_http_exception)
    app.add_exception_handler(RequestValidationError, _tell_validation_error)


def problem_response(
    problem: Problem, retry_after: int | None = None, *, error: BaseException | None = None
) -> Response:
    """Give the HTTP answer that carries a problem; `error`: what nobody expected, for the log."""
    note_problem(problem, error)
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    if problem.status == HTTPStatus.REQUEST_TIMEOUT:
        headers["Connection"] = "close"  # the rest of the request may still come, and is no request of its own
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(encode_problem(problem), problem.status, headers, PROBLEM_TYPE)


async def _tell_problem_error(_: Request, error: Any) -> Response:
    return problem_response(error.problem(), error.retry_after)


async def _tell_http_exception(_: Request, error: Any) -> Response:
    response = problem_response(make_problem(code_of_status(error.status_code), str(error.detail)))
    response.headers.update(error.headers or {})
    return response


async def _tell_validation_error(_: Request, error: Any) -> Response:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    detail = f"{place}: {first['msg']}" if place else first["msg"]
    return problem_response(make_problem(ProblemCode.INVALID_REQUEST, detail, field=place or None))


def serve(
    app: FastAPI,
    address: Address,
    *,
    service: str,
    protocol: type[asyncio.Protocol] | Literal["httptools"] = "httptools",
    tls: ssl.SSLContext | None = None,
) -> None:
    """Serve `app` until SIGTERM or SIGINT, finish the requests under way, and exit with status 0."""
    # Uvicorn raises the signal that stopped it once more when it is done, for whatever handler was there before.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    uvicorn.run(
        app,
        host=address.host,
        port=address.port,
        loop="uvloop",
        http=protocol,
        ws="none",  # no route is a WebSocket; a connection that became one would be out of its protocol's sight
        ssl_context_factory=None if tls is None else lambda *_: tls,
        log_config=log_config(service),
        access_log=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
    )
