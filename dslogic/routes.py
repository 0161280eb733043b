"""The rules' endpoints: parse, call, answer."""

from typing import cast
from urllib.parse import quote

import msgspec
from flask import Blueprint, Response, current_app, request
from werkzeug.exceptions import RequestEntityTooLarge

from dslogic import datapath
from dslogic.buffer_client import BufferClient, Reply
from dslogic.orders import freeze
from dslogic.overview import OverviewKeeper
from dslogic.settings import LogicSettings
from gwservice.correlation import note_passed_on
from gwservice.metrics import CONTENT_TYPE, exposition, gauge
from gwservice.passing import ANSWER_HEADERS, GROUP_HEADER, QUESTION_HEADERS, SEGMENT_OFFER, pick
from gwwire.datastore import WAITING_TEXT, FreezeOrder
from gwwire.decoding import decode_order

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
    note_passed_on(reply.headers.get("Content-Type"), reply.body)
    return Response(reply.body, reply.status, pick(reply.headers, ANSWER_HEADERS))


def _text(text: str, status: int) -> Response:
    return Response(text, status, mimetype="text/plain")


def _read_from_buffer(endpoint: str) -> Response:
    """Pass a question on to the buffer, with its query and what it says of caching and ranges."""
    query = request.query_string.decode("ascii", errors="replace")
    return _pass_on(_buffer().get(endpoint, query, pick(request.headers, QUESTION_HEADERS)))


@routes.route(datapath.PATH, methods=["POST", "OPTIONS"], provide_automatic_options=False)
def stream_options() -> Response:
    """Tell what may be sent; what is POSTed never comes here, see `datapath`."""
    return Response(status=204, headers=SEGMENT_OFFER)


@routes.post("/thawds")
def thaw_datastore() -> Response:
    """Open the frozen batch again, for its holder."""
    return _pass_on(_buffer().thaw(_body()))


@routes.get("/batches")
def batches() -> Response:
    """Give the buffer's batches."""
    return _read_from_buffer(_settings().ENDP_BATCHES)


@routes.get("/batches/<path:rest>")
def batch(rest: str) -> Response:
    """Give one of the buffer's batches, or its manifest."""
    return _read_from_buffer(f"{_settings().ENDP_BATCHES}/{quote(rest)}")


@routes.post("/batches/<batch>/<any(claim, release, verify):order>")
def order_batch(batch: str, order: str) -> Response:
    """Let a worker claim a frozen batch, or release it; have an archived one verified."""
    return _pass_on(_buffer().order_batch(f"/{quote(batch, safe='')}/{order}", _body()))


@routes.get("/coverage")
def coverage() -> Response:
    """Give the stretches of time that are stored."""
    return _read_from_buffer(_settings().ENDP_COVERAGE)


@routes.get("/segments")
def segments() -> Response:
    """Give the buffer's segments, a page at a time."""
    return _read_from_buffer(_settings().ENDP_SEGMENTS)


@routes.get("/segments/<name>")
def segment(name: str) -> Response:
    """Give a segment's file."""
    return _read_from_buffer(f"{_settings().ENDP_SEGMENTS}/{quote(name, safe='')}")


@routes.post("/freezeds")
def freeze_datastore() -> Response:
    """Freeze the batch for `{"user", "token"}`, or tell that it has to wait."""
    reply = freeze(_buffer(), decode_order(FreezeOrder, _body()), _settings().MAX_SIZE)
    return _text(WAITING_TEXT, 200) if reply is None else _pass_on(reply)


@routes.post("/flushbuf")
def flush_buffer() -> Response:
    """Archive the batch in hand; with `{"batch": id}`, only that one."""
    return _pass_on(_buffer().clean(_body()))


@routes.get("/overview")
def overview() -> Response:
    """Give the buffer's overview with MAX_SIZE; it may be half a second old."""
    keeper = cast("OverviewKeeper", current_app.extensions["overview"])
    return Response(msgspec.json.encode(keeper.overview()), content_type="application/json")


@routes.get("/bufstat")
def buffer_stats() -> Response:
    """Give the buffer's counts."""
    return _pass_on(_buffer().get(_settings().ENDP_STAT, headers=pick(request.headers, (GROUP_HEADER,))))


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
    """Give the buffer's log, or the newest `last` lines of it."""
    return _read_from_buffer(_settings().ENDP_DUMP)


@routes.get("/metrics")
def metrics() -> Response:
    """Give the numbers of all worker processes for Prometheus."""
    full = gauge("glitchflow_batch_full_bytes", "Bytes from which on a batch may be frozen.", _settings().MAX_SIZE)
    return Response(exposition([full]), content_type=CONTENT_TYPE)


@routes.get("/healthz")
def health() -> dict[str, str]:
    """Answer as long as the process can."""
    return {"status": "ok"}


@routes.get("/readyz")
def ready() -> dict[str, str]:
    """Answer while the buffer answers this tier. A full volume is told better by the buffer than by a closed door."""
    _buffer().stats()
    return {"status": "ready"}
