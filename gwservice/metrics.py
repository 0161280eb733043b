"""The metrics of every service for Prometheus.

Labels are bounded: routes are templates, outcomes are problem codes or classes of status; no label comes from a client.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import version
from itertools import accumulate
from types import SimpleNamespace

from prometheus_client import REGISTRY, disable_created_metrics, generate_latest, values
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.utils import floatToGoString

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

# Each service is one process. With PROMETHEUS_MULTIPROC_DIR, the library would store its counts in files.
values.ValueClass = values.MutexValue

disable_created_metrics()  # type: ignore[no-untyped-call]  # as many series again, which are never used

_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class _Requests:
    """The counts and durations of requests, as a collector; counting is cheaper than with the library's classes."""

    def __init__(self) -> None:
        self._outcomes: dict[tuple[str, str, str], int] = {}
        self._seconds: dict[tuple[str, str], float] = {}
        self._buckets: dict[tuple[str, str], list[int]] = {}

    def count(self, method: str, route: str, outcome: str, seconds: float) -> None:
        """Count a request whose answer begins."""
        key, place = (method, route, outcome), (method, route)
        if place not in self._buckets:
            self._seconds[place], self._buckets[place] = 0.0, [0] * (len(_BUCKETS) + 1)
        self._outcomes[key] = self._outcomes.get(key, 0) + 1
        self._seconds[place] += seconds
        self._buckets[place][bisect_left(_BUCKETS, seconds)] += 1

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        meaning = "Requests by route and outcome: a problem's code, frozen, client-gone, or the class of the status."
        labels = ("method", "route", "outcome")
        requests = CounterMetricFamily("glitchflow_http_requests", meaning, labels=labels)
        for key, count in list(self._outcomes.items()):
            requests.add_metric(key, count)
        yield requests
        meaning = "Time from a request's head until its answer begins."
        durations = HistogramMetricFamily("glitchflow_http_request_duration_seconds", meaning, labels=labels[:2])
        bounds = [*map(floatToGoString, _BUCKETS), "+Inf"]
        for place, buckets in list(self._buckets.items()):
            durations.add_metric(place, list(zip(bounds, accumulate(buckets), strict=True)), self._seconds[place])
        yield durations


_requests = _Requests()
REGISTRY.register(_requests)
count_request = _requests.count


def gauge(name: str, meaning: str, value: float) -> Metric:
    """Return a gauge."""
    return GaugeMetricFamily(name, meaning, value)


def labelled(name: str, meaning: str, label: str, values: Iterable[tuple[str, float]]) -> Metric:
    """Return a gauge with one value per label."""
    family = GaugeMetricFamily(name, meaning, labels=(label,))
    for name_of, value in values:
        family.add_metric((name_of,), value)
    return family


@cache
def _version() -> str:
    return version("glitchflow-datastore")


def exposition(metrics: Iterable[Metric] = ()) -> bytes:
    """Return all counters, and the current `metrics`, in the format of Prometheus."""
    build = labelled("glitchflow_build_info", "The running version.", "version", [(_version(), 1)])
    return generate_latest(REGISTRY) + generate_latest(SimpleNamespace(collect=lambda: [build, *metrics]))
