"""The edge of the FastAPI services: exceptions become problem documents here and nowhere else."""

import logging
import signal
import sys
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from gwwire.problems import (
    PROBLEM_TYPE,
    Problem,
    ProblemCode,
    ProblemError,
    code_of_status,
    encode_problem,
    make_problem,
)

log = logging.getLogger(__name__)


class UnsupportedMediaType(ProblemError):
    """The body came with another media type than this route takes."""

    code = ProblemCode.UNSUPPORTED_MEDIA_TYPE


async def require_json(request: Request) -> None:
    """Refuse a body that says it is something else than JSON; one that says nothing is believed to be."""
    content_type = request.headers.get("content-type", "application/json")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType(f"expected application/json, got {content_type}")


def add_problem_handlers(app: FastAPI) -> None:
    """Make `app` answer every error as a problem document."""
    app.add_exception_handler(ProblemError, _tell_problem_error)
    app.add_exception_handler(HTTPException, _tell_http_exception)
    app.add_exception_handler(RequestValidationError, _tell_validation_error)
    app.add_exception_handler(Exception, _tell_unexpected)


def problem_response(problem: Problem, retry_after: int | None = None) -> Response:
    """Give the HTTP answer that carries a problem."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return Response(encode_problem(problem), problem.status, headers, PROBLEM_TYPE)


async def _tell_problem_error(_: Request, error: Any) -> Response:
    return problem_response(error.problem(), error.retry_after)


async def _tell_http_exception(_: Request, error: Any) -> Response:
    response = problem_response(make_problem(code_of_status(error.status_code), str(error.detail)))
    response.headers.update(error.headers or {})
    return response


async def _tell_validation_error(_: Request, error: Any) -> Response:
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return problem_response(
            make_problem(ProblemCode.INVALID_JSON, f"the body is not JSON: {first['ctx']['error']}")
        )
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    detail = f"{place}: {first['msg']}" if place else first["msg"]
    return problem_response(make_problem(ProblemCode.INVALID_REQUEST, detail, field=place or None))


async def _tell_unexpected(request: Request, error: Exception) -> Response:
    log.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem_response(make_problem(ProblemCode.INTERNAL_ERROR, "the service failed; its log says more"))


def exit_cleanly_on_signals() -> None:
    """Make SIGTERM and SIGINT end this process with status 0 after uvicorn has shut down.

    Uvicorn raises the signal it was stopped with once more when it is done, for whatever handler was there before.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
