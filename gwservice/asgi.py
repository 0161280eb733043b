"""What the FastAPI services share: bodies, answers, problem documents, and how they are served."""

import asyncio
import logging
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import uvicorn
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from gwservice import body
from gwservice.asgi_types import ASGIApp
from gwservice.body import ORDER_LIMIT, ClientGone, require_json
from gwservice.body import TooLarge as TooLarge  # noqa: PLC0414 (for the services)
from gwservice.correlation import note_problem
from gwservice.headers import SEGMENT_OFFER
from gwservice.logs import log_config
from gwservice.problems import problem_headers
from gwservice.settings import Address
from gwwire.problems import Problem, ProblemCode, ProblemError, code_of_status, encode_problem, make_problem
from gwwire.segment import NDJSON

log = logging.getLogger(__name__)

#: How long requests under way may take after SIGTERM; the whole end stays within 10 s.
_GRACE_SECONDS = 8
#: Longer than any caller keeps an idle connection, so that none is closed at the moment it is used.
_KEEP_ALIVE_SECONDS = 120
#: FastAPI's own telemetry, which would tell what was sent where it is wrong; `gwservice.tracing` is the trio's.
NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


async def read_json(request: Request) -> bytes:
    """Read a JSON body of at most `app.state.max_body` bytes, within `app.state.body_seconds` if there is that limit.

    Raises:
        UnsupportedMediaType: the body has another media type.
        TooLarge: it is larger; it is not read to its end.
        BodyLate: it is not complete in time.

    """
    return await _read_json(request, request.app.state.max_body, "MAX_BODY")


async def read_order(request: Request) -> bytes:
    """Read a JSON body as `read_json` does, but no larger than an order."""
    return await _read_json(request, min(request.app.state.max_body, ORDER_LIMIT), "an order's limit")


async def _read_json(request: Request, limit: int, limit_name: str) -> bytes:
    headers = dict(request.scope["headers"])
    require_json(headers)
    seconds = _body_seconds(request)
    pieces = await body.read_body(request.receive, headers, limit=limit, seconds=seconds, limit_name=limit_name)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def read_order_if_any(request: Request) -> bytes:
    """Read a JSON body as `read_order` does; return b"" if there is none, whatever its media type."""
    headers = request.headers
    if "transfer-encoding" not in headers and headers.get("content-length", "0") == "0":
        return b""
    return await read_order(request)


def media_type(request: Request) -> str:
    """Return the media type of the request's body; JSON if the request does not name one."""
    return body.media_type(dict(request.scope["headers"]))


def body_pieces(request: Request) -> AsyncIterator[bytes]:
    """Yield a body piece by piece; raise BodyLate if the next piece is not received in time."""
    return body.body_pieces(request.receive, _body_seconds(request))


def _body_seconds(request: Request) -> float | None:
    return getattr(request.app.state, "body_seconds", None)


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
        except ClientGone:
            return Response(status_code=400)  # nobody is there to read it

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (its source receives)
        """Send the first part, then the others as they come."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self._first, "more_body": True})
        try:
            async for part in self._parts:
                await send({"type": "http.response.body", "body": part, "more_body": True})
        except ClientGone:
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
    """Make `app` answer the errors that the framework raises as problem documents; `Edge` answers the others."""
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(Exception, _raise_again)


async def _raise_again(_: Request, error: Exception) -> Response:
    """Leave an unexpected error to `Edge`, instead of the framework's answer in plain text."""
    raise error


def problem_response(
    problem: Problem, retry_after: int | None = None, *, error: BaseException | None = None
) -> Response:
    """Return the answer with a problem document; `error` is the unexpected error behind it, for the log."""
    note_problem(problem, error)
    response = Response(encode_problem(problem), problem.status)
    response.raw_headers.extend(problem_headers(problem, retry_after))
    return response


async def _answer_http_exception(_: Request, error: Any) -> Response:
    response = problem_response(make_problem(code_of_status(error.status_code), str(error.detail)))
    response.headers.update(error.headers or {})
    return response


async def _answer_validation_error(_: Request, error: Any) -> Response:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    detail = f"{place}: {first['msg']}" if place else first["msg"]
    return problem_response(make_problem(ProblemCode.INVALID_REQUEST, detail, field=place or None))


def serve(
    app: ASGIApp,
    address: Address,
    *,
    service: str,
    protocol: type[asyncio.Protocol] | Literal["httptools"] = "httptools",
    tls: ssl.SSLContext | None = None,
    proxy_headers: bool = False,
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
        proxy_headers=proxy_headers,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
    )
