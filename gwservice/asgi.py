"""Shared code of the FastAPI services: bodies of orders, answers, problem documents, and the server."""

import asyncio
import os
import signal
import ssl
import sys
from collections.abc import Mapping
from typing import Annotated, Any, BinaryIO

import uvicorn
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse
from fastapi.telemetry import TelemetryConfig
from starlette.convertors import Convertor, register_url_convertor
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from gwservice.asgi_types import ASGIApp
from gwservice.body import ORDER_LIMIT, read_body, require_json
from gwservice.connection_limits import NO_LIMITS, Limits
from gwservice.correlation import note_problem
from gwservice.headers import SEGMENT_OFFER
from gwservice.listening import check_can_listen
from gwservice.logs import log_config
from gwservice.problems import problem_headers
from gwservice.ranges import Unsatisfiable, requested_range
from gwservice.server import collect_less_garbage, limited
from gwservice.settings import Address
from gwservice.validation import expectation
from gwwire.problems import Problem, ProblemCode, code_of_status, encode_problem, make_problem

#: For current requests after SIGTERM; the process ends within 10 s.
_GRACE_SECONDS = 8
#: Longer than any caller keeps an idle connection, so that none is closed at the moment it is used.
_KEEP_ALIVE_SECONDS = 120
#: Bytes of a message that a client sends; those of the services have no need of any.
_LARGEST_MESSAGE = 64 * 1024
#: Characters of an invalid value that a problem quotes.
_MOST_QUOTED = 100
#: FastAPI's own telemetry would report the content of invalid requests; `gwservice.tracing` replaces it.
NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}


class _NameConvertor(Convertor[str]):
    """Takes the rest of a path, also with line breaks: a route then refuses them as any other wrong name."""

    regex = "(?s:.*)"

    def convert(self, value: str) -> str:
        """Return the text unchanged."""
        return value

    def to_string(self, value: str) -> str:
        """Return the text unchanged."""
        return value


#: For `{record:name}` in the path of a route.
register_url_convertor("name", _NameConvertor())


async def read_order(request: Request) -> bytes:
    """Read the JSON body of an order, of at most ORDER_LIMIT and MAX_BODY bytes; see `body.read_body`."""
    headers, state = dict(request.scope["headers"]), request.app.state
    require_json(headers)
    limit, seconds = min(state.max_body, ORDER_LIMIT), getattr(state, "body_seconds", None)
    return b"".join(
        await read_body(request.receive, headers, limit=limit, seconds=seconds, limit_name="an order's limit")
    )


async def read_order_if_any(request: Request) -> bytes:
    """Read a JSON body as `read_order` does; return b"" if there is none, whatever its media type."""
    headers = request.headers
    if "transfer-encoding" not in headers and headers.get("content-length", "0") == "0":
        return b""
    return await read_order(request)


def offer_ndjson() -> Response:
    """Return the answer to OPTIONS: the media types that a POST to this route may have."""
    return Response(status_code=204, headers=SEGMENT_OFFER)


class OpenFileResponse(FileResponse):
    """Sends an open file, or ranges of it, even if the file is moved meanwhile; closes it afterwards.

    Starlette's own response opens the file by its path, twice, after it was made.
    """

    def __init__(self, file: BinaryIO, media_type: str, headers: Mapping[str, str] | None = None) -> None:
        self._file = file
        path, stat = f"/dev/fd/{file.fileno()}", os.fstat(file.fileno())
        super().__init__(path, headers=headers, media_type=media_type, stat_result=stat)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file."""
        with self._file:
            given, size = Headers(scope=scope), os.fstat(self._file.fileno()).st_size
            try:
                span = requested_range(given.get("range"), given.get("if-range"), size, self.headers["etag"])
            except Unsatisfiable:
                response: Response = no_such_range("the file", size, {"ETag": self.headers["etag"]})
                await response(scope, receive, send)
                return
            # Starlette's own answers to other ranges are no problem documents.
            headers = [each for each in scope["headers"] if each[0] not in {b"range", b"if-range"}]
            if span:
                headers.append((b"range", f"bytes={span[0]}-{span[1] - 1}".encode()))
            await super().__call__({**scope, "headers": headers}, receive, send)


def no_such_range(what: str, size: int, headers: Mapping[str, str]) -> Response:
    """Return the answer to a request for a range without any of the `size` bytes."""
    problem = make_problem(ProblemCode.RANGE_NOT_SATISFIABLE, f"{what} has {size} bytes", field="Range")
    answer = {**headers, "Content-Range": f"bytes */{size}"}
    return Response(encode_problem(problem), problem.status, answer, "application/problem+json")


#: The parameter of an endpoint that takes an order.
JsonBody = Annotated[bytes, Depends(read_order)]
#: The parameter of an endpoint whose order may be missing.
OptionalJsonBody = Annotated[bytes, Depends(read_order_if_any)]


def add_problem_handlers(app: FastAPI) -> None:
    """Make `app` answer the errors that the framework raises as problem documents; `Edge` answers the others."""
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(RequestValidationError, _answer_validation_error)
    app.add_exception_handler(Exception, _leave_to_edge)


def _problem_response(problem: Problem) -> Response:
    note_problem(problem)
    response = Response(encode_problem(problem), problem.status)
    response.raw_headers.extend(problem_headers(problem))
    return response


class _NoAnswer(Response):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send nothing."""


async def _leave_to_edge(_: Request, __: Exception) -> Response:
    return _NoAnswer()  # Starlette raises the error again, and `Edge` answers it


async def _answer_http_exception(_: Request, error: Any) -> Response:
    response = _problem_response(make_problem(code_of_status(error.status_code), str(error.detail)))
    response.headers.update(error.headers or {})
    return response


async def _answer_validation_error(_: Request, error: Any) -> Response:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    given = "" if first["type"] == "missing" else f", got {str(first['input'])[:_MOST_QUOTED]!r}"
    detail = f"{place}: {expectation(first)}{given}"
    return _problem_response(make_problem(ProblemCode.INVALID_REQUEST, detail, field=place))


def serve(  # noqa: PLR0913 (what differs between the services)
    app: ASGIApp,
    address: Address,
    *,
    service: str,
    setting: str,
    limits: Limits = NO_LIMITS,
    tls: ssl.SSLContext | None = None,
    proxy_headers: bool = False,
    websocket: type[asyncio.Protocol] | None = None,
) -> None:
    """Serve `app` until SIGTERM or SIGINT, finish the current requests, and exit with status 0.

    `websocket` is the protocol of its WebSockets, from `gwservice.websocket`. If the address cannot be used, exit with
    status 2, and one line that names the `setting` of the address.
    """
    check_can_listen(*address, service=service, setting=setting)
    # Uvicorn raises the signal that stopped it once more when it is done, for the handler that was there before.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    collect_less_garbage()
    uvicorn.run(
        app,
        host=address.host,
        port=address.port,
        loop="uvloop",
        http=limited(limits),
        workers=1,  # without it, uvicorn would take the number from WEB_CONCURRENCY
        ws=websocket or "none",
        ws_max_size=_LARGEST_MESSAGE,
        ws_per_message_deflate=False,  # the messages are short, and the tables of the compression are not
        ssl_context_factory=None if tls is None else lambda *_: tls,
        log_config=log_config(service),
        access_log=False,
        proxy_headers=proxy_headers,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
    )
