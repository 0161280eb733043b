"""The numbers that every service tells Prometheus, and how a service tells all of its own.

Labels are few and bounded: routes are templates, outcomes are problem codes or classes of status, and no name that a
sender makes up is among them.
"""

import os
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

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
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

#: Where several processes of a service keep what each has counted; unset where there is one.
_SHARED = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
if _SHARED:
    Path(_SHARED).mkdir(mode=0o700, parents=True, exist_ok=True)

disable_created_metrics()  # type: ignore[no-untyped-call]  # as many series again, which nobody looks at

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
    """Give a number that is read only when somebody asks."""
    return GaugeMetricFamily(name, meaning, value)


def labelled(name: str, meaning: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
    """Give several such numbers, told apart by a label."""
    family = GaugeMetricFamily(name, meaning, labels=(label,))
    for told, value in values:
        family.add_metric((told,), value)
    return family


class _Told:
    """What a service tells at this moment, as a collector."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Give the metrics."""
        yield labelled("glitchflow_build_info", "The running version.", "version", [(_version(), 1)])
        yield from self._metrics


@cache
def _version() -> str:
    return version("glitchflow-datastore")


def exposition(metrics: Iterable[Metric] = ()) -> bytes:
    """Write all that was counted, in all processes of this service, and `metrics` of this moment, for Prometheus."""
    counted = REGISTRY
    if _SHARED:
        counted = CollectorRegistry()
        MultiProcessCollector(counted, _SHARED)  # type: ignore[no-untyped-call]  # the library's own
    moment = CollectorRegistry()
    moment.register(_Told(metrics))
    return generate_latest(counted) + generate_latest(moment)
