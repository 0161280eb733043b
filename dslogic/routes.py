"""The rules' endpoints: parse, call, answer."""

from typing import cast

from flask import Blueprint, Response, current_app, render_template, request
from werkzeug.exceptions import RequestEntityTooLarge

from dslogic.buffer_client import BufferClient, Reply
from dslogic.orders import freeze, refused_as
from dslogic.page import status_page
from dslogic.settings import LogicSettings
from gwwire.datastore import FROZEN_TEXT, WAITING_TEXT, decode_freeze_order
from gwwire.problems import ProblemCode

routes = Blueprint("routes", __name__)


def _settings() -> LogicSettings:
    return cast("LogicSettings", current_app.extensions["settings"])


def _buffer() -> BufferClient:
    return cast("BufferClient", current_app.extensions["buffer"])


def _body() -> bytes:
    """Give the request's body; Werkzeug cuts one of undeclared length off at its limit, which is one byte more."""
    body = request.get_data(cache=False)
    if len(body) > _settings().MAX_BODY:
        raise RequestEntityTooLarge
    return body


def _pass_on(reply: Reply) -> Response:
    """Give the buffer's answer as it came."""
    kept = {name: value for name in ("Content-Type", "Retry-After") if (value := reply.headers.get(name))}
    return Response(reply.body, reply.status, kept)


def _text(text: str, status: int) -> Response:
    return Response(text, status, mimetype="text/plain")


@routes.post("/stream")
def stream() -> Response:
    """Store a segment; a frozen datastore is told as 503 `Datastore frozen.`."""
    reply = _buffer().send(_body(), request.headers.get("Content-Type", "application/json"))
    if refused_as(reply, ProblemCode.BUFFER_FROZEN):
        return _text(FROZEN_TEXT, 503)
    return _pass_on(reply)


@routes.post("/freezeds")
def freeze_datastore() -> Response:
    """Freeze the batch for `{"user", "token"}`, or tell that it has to wait."""
    reply = freeze(_buffer(), decode_freeze_order(_body()), _settings().MAX_SIZE)
    return _text(WAITING_TEXT, 200) if reply is None else _pass_on(reply)


@routes.post("/flushbuf")
def flush_buffer() -> Response:
    """Archive the batch."""
    return _pass_on(_buffer().clean())


@routes.get("/bufstat")
def buffer_stats() -> Response:
    """Give the buffer's counts."""
    return _pass_on(_buffer().get(_settings().ENDP_STAT))


@routes.get("/dsdesc")
def describe() -> Response:
    """Give the buffer's state and holder."""
    return _pass_on(_buffer().get(_settings().ENDP_DESC))


@routes.get("/dumpf")
def dump_files() -> Response:
    """Give the buffer's file names."""
    return _pass_on(_buffer().get(_settings().ENDP_DUMPF))


@routes.get("/dumpflog")
def dump_log() -> Response:
    """Give the buffer's log."""
    return _pass_on(_buffer().get(_settings().ENDP_DUMP))


@routes.get("/")
def page() -> str:
    """Show the status page."""
    return render_template("status.html", **status_page(_buffer(), _settings().MAX_SIZE))


@routes.get("/healthz")
def health() -> dict[str, str]:
    """Answer as long as the process can."""
    return {"status": "ok"}


@routes.get("/readyz")
def ready() -> Response:
    """Answer as the buffer does: the rules are of no use without it."""
    return _pass_on(_buffer().get("/readyz"))
