"""Traces of requests through all services, if the standard OTEL_* variables ask for them.

Otherwise the SDK is not imported, and nothing is done for a request. Supported variables:
OTEL_TRACES_EXPORTER (`otlp`, `none`), the OTEL_EXPORTER_OTLP_* variables over HTTP, OTEL_SDK_DISABLED,
OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_TRACES_SAMPLER, and those of the batch processor.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any

from gwservice.correlation import RequestContext, current_request

log = logging.getLogger(__name__)

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_FAILURES = 500

_tracer: Any = None
_provider: Any = None


@cache
def wanted() -> bool:
    """Return whether the environment asks for traces and the SDK is installed."""
    exporter = os.environ.get("OTEL_TRACES_EXPORTER") or ("otlp" if any(map(os.environ.get, _ENDPOINTS)) else "none")
    if exporter == "none" or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if exporter != "otlp":
        log.error("no traces: OTEL_TRACES_EXPORTER=%s is not supported; use otlp or none", exporter)
        return False
    if not find_spec("opentelemetry") or not find_spec("opentelemetry.sdk"):
        log.error("no traces: OTEL_* variables are set, but the extra `tracing` is not installed")
        return False
    return True


def begin_tracing(service: str) -> None:
    """Start tracing in this process if it is wanted; `service` is the default service name."""
    global _provider, _tracer  # noqa: PLW0603 (a process makes traces, or does not)
    if not wanted():
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 (see above)
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 (see above)
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 (see above)
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 (see above)

    os.environ.setdefault("OTEL_SERVICE_NAME", service)
    # A service ends within 10 s, even if no collector accepts its traces.
    os.environ.setdefault("OTEL_EXPORTER_OTLP_TIMEOUT", "3")
    try:
        _provider = TracerProvider(resource=Resource.create())
        _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except ValueError as error:
        log.error("no traces: OTEL_*: %s", error)  # noqa: TRY400 (the message says it all)
        return
    _tracer = _provider.get_tracer("glitchflow")


def begun() -> bool:
    """Return whether this process records traces."""
    return _tracer is not None


def end_tracing() -> None:
    """Flush the spans not yet sent."""
    if _provider is not None:
        _provider.shutdown()


def begin_span(request: RequestContext, name: str) -> None:
    """Begin the span of a request: child of the sender's span, parent of the next service's span."""
    from opentelemetry.trace import SpanKind, set_span_in_context  # noqa: PLC0415 (see above)
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415 (see above)

    propagator = TraceContextTextMapPropagator()
    above = propagator.extract(request.trace)
    request.span = span = _tracer.start_span(name, context=above, kind=SpanKind.SERVER)
    propagator.inject(request.trace, context=set_span_in_context(span))
    request.trace_id = f"{span.get_span_context().trace_id:032x}"
    span.set_attribute("glitchflow.request_id", request.id)


def record_answer(span: Any, method: str, route: str, status: int, outcome: str) -> None:
    """Record an answer in the span of its request, with the attributes of OpenTelemetry's conventions."""
    from opentelemetry.trace import StatusCode  # noqa: PLC0415 (see above)

    if span.is_recording():
        span.update_name(f"{method} {route}")
        span.set_attributes({"http.request.method": method, "http.route": route, "http.response.status_code": status})
        span.set_attribute("glitchflow.outcome", outcome)
        if status >= _FAILURES:
            span.set_status(StatusCode.ERROR, outcome)


def current_span() -> Any:
    """Return the span of the current request, or None if there is none."""
    request = current_request()
    return request and request.span


@contextmanager
def group_span(name: str, causes: Sequence[Any], **attributes: int) -> Iterator[None]:
    """Record work for several requests as a span: child of the first request's span, linked to all of them."""
    if _tracer is None:
        yield
        return
    from opentelemetry.trace import Link, set_span_in_context  # noqa: PLC0415 (see above)

    spans = list(dict.fromkeys(cause for cause in causes if cause is not None))
    above = set_span_in_context(spans[0]) if spans else None
    links = [Link(span.get_span_context()) for span in spans]
    with _tracer.start_as_current_span(name, context=above, links=links, attributes=attributes):
        yield
