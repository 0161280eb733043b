"""The endpoints that need a rule, and those of the service itself: parse, call, answer."""

from collections.abc import Coroutine
from typing import Any, TypeVar, cast

import msgspec
from flask import Blueprint, Response, current_app, request
from werkzeug.exceptions import RequestEntityTooLarge

from dslogic.asgi import DATA_PATH, LoopBridge
from dslogic.buffer_client import BufferClient
from dslogic.overview import OverviewCache
from dslogic.rules import bytes_needed
from dslogic.settings import LogicSettings
from dslogic.tier_orders import TierOrders
from gwservice.correlation import note_relayed
from gwservice.headers import SEGMENT_OFFER
from gwservice.metrics import CONTENT_TYPE, exposition, gauge
from gwservice.upstream_connection import Answer
from gwwire.datastore import WAITING_TEXT, FlushOrder, FreezeOrder
from gwwire.decoding import decode_order
from gwwire.public import Health
from gwwire.tiering import TieringOrder

T = TypeVar("T")

routes = Blueprint("routes", __name__)


def _settings() -> LogicSettings:
    return cast("LogicSettings", current_app.extensions["settings"])


def _buffer() -> BufferClient:
    return cast("BufferClient", current_app.extensions["buffer"])


def _overviews() -> OverviewCache:
    return cast("OverviewCache", current_app.extensions["overview"])


def _tiers() -> TierOrders:
    return cast("TierOrders", current_app.extensions["tiers"])


def _json(answer: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(answer), content_type="application/json")


def _wait(work: Coroutine[Any, Any, T]) -> T:
    return cast("LoopBridge", current_app.extensions["loop"]).wait(work)


def _body() -> bytes:
    """Return the request's body; Werkzeug cuts a body of undeclared length at its limit, which is one byte more."""
    body = request.get_data(cache=False)
    if len(body) > _settings().MAX_BODY:
        raise RequestEntityTooLarge
    return body


def _relayed(answer: Answer) -> Response:
    """Return the buffer's answer unchanged."""
    body = answer.body()
    if answer.is_problem():
        note_relayed(body)
    names = ("Content-Type", "Retry-After")
    headers = [(name, value) for name in names if (value := answer.header(name.lower().encode()))]
    return Response(body, answer.status, headers)


@routes.route(DATA_PATH, methods=["POST", "OPTIONS"], provide_automatic_options=False)
def stream_options() -> Response:
    """Return the accepted media types; a POST is answered in front of Flask."""
    return Response(status=204, headers=SEGMENT_OFFER)


@routes.post("/freezeds")
def freeze_datastore() -> Response:
    """Freeze the batch for `{"user", "token"}`, or answer that it has to wait."""
    order = decode_order(FreezeOrder, _body())
    answer = _wait(_buffer().freeze(msgspec.structs.replace(order, at_least=bytes_needed(int(_settings().MAX_SIZE)))))
    return Response(WAITING_TEXT, 200, mimetype="text/plain") if answer is None else _relayed(answer)


@routes.post("/thawds")
def thaw_datastore() -> Response:
    """Open the frozen batch again, for its holder."""
    return _relayed(_wait(_buffer().thaw(_body())))


@routes.post("/flushbuf")
def flush_buffer() -> Response:
    """Archive the current batch; with `{"batch", "holder"}`, only that batch, or one of that holder.

    The order goes on with the datastore's policy of tiers, if there is one and the order has none. A policy of the
    order that names an unknown tier is refused before anything is archived.
    """
    body, policy = _body(), _settings().tiering
    order = decode_order(FlushOrder, body) if body else FlushOrder()
    if order.tiering is not None:
        _wait(_tiers().check(order.tiering))
    elif policy is not None:
        body = msgspec.json.encode(msgspec.structs.replace(order, tiering=policy))
    return _relayed(_wait(_buffer().clean(body)))


@routes.post("/tiering/plan")
def plan_tiering() -> Response:
    """Return what a policy of tiers changes for archived batches, `{"tiering", "batches"}`; nothing is changed."""
    return _json(_wait(_tiers().plan(decode_order(TieringOrder, _body()))))


@routes.post("/tiering/apply")
def apply_tiering() -> Response:
    """Set the policy of tiers of archived batches, `{"tiering", "batches"}`, and return its plan."""
    return _json(_wait(_tiers().apply(decode_order(TieringOrder, _body()))))


@routes.get("/overview")
def overview() -> Response:
    """Return the buffer's overview with MAX_SIZE; it may be half a second old."""
    return _json(_wait(_overviews().overview()))


@routes.get("/metrics")
def metrics() -> Response:
    """Return the metrics for Prometheus."""
    full = gauge("glitchflow_batch_full_bytes", "Minimum size of a batch that may be frozen.", _settings().MAX_SIZE)
    return Response(exposition([full]), content_type=CONTENT_TYPE)


@routes.get("/healthz")
def health() -> dict[str, str]:
    """Answer 200 while the process is running."""
    return {"status": "ok"}


@routes.get("/readyz")
def ready() -> Response:
    """Answer 200 while the buffer answers; `cannot_store` has the reason why the buffer cannot store segments."""
    _wait(_buffer().check())
    why = _wait(_overviews().cannot_store())
    return _json(Health("cannot store" if why else "ready", why))
