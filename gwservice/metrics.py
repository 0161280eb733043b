"""The metrics of every service for Prometheus.

Labels are few and bounded: routes are templates, outcomes are problem codes or classes of status, and no
name from a client is among them.
"""

from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import version

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

disable_created_metrics()  # type: ignore[no-untyped-call]  # as many series again, which are never used

_REQUESTS = Counter(
    "glitchflow_http_requests",
    "Requests by route and outcome: a problem's code, frozen, client-gone, or the class of the status.",
    ("method", "route", "outcome"),
)
_SECONDS = Histogram(
    "glitchflow_http_request_duration_seconds",
    "Time from a request's head until its answer begins.",
    ("method", "route"),
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)


def count_request(method: str, route: str, outcome: str, seconds: float) -> None:
    """Count a request whose answer begins."""
    requests, duration = _of(method, route, outcome)
    requests.inc()
    duration.observe(seconds)


@cache  # looking a label up costs more than counting
def _of(method: str, route: str, outcome: str) -> tuple[Counter, Histogram]:
    return _REQUESTS.labels(method, route, outcome), _SECONDS.labels(method, route)


def gauge(name: str, meaning: str, value: float) -> Metric:
    """Return a gauge."""
    return GaugeMetricFamily(name, meaning, value)


def labelled(name: str, meaning: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
    """Return a gauge with one value per label."""
    family = GaugeMetricFamily(name, meaning, labels=(label,))
    for name_of, value in values:
        family.add_metric((name_of,), value)
    return family


class _Current:
    """The metrics of this moment, as a collector."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        yield labelled("glitchflow_build_info", "The running version.", "version", [(_version(), 1)])
        yield from self._metrics


@cache
def _version() -> str:
    return version("glitchflow-datastore")


def exposition(metrics: Iterable[Metric] = ()) -> bytes:
    """Write everything that was counted, and `metrics` of this moment, for Prometheus."""
    moment = CollectorRegistry()
    moment.register(_Current(metrics))
    return generate_latest(REGISTRY) + generate_latest(moment)
