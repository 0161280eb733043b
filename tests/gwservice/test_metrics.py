import pytest

from gwservice.correlation import FROZEN, RequestContext
from gwservice.metrics import exposition, gauge, labelled
from gwservice.observability import count_answer
from tests.support.scrape import Scrape


def test_requests_are_counted_by_their_outcome() -> None:
    for outcome, status in (("", 200), ("", 201), ("", 404), ("queue-full", 503), (FROZEN, 503)):
        request = RequestContext({})
        request.outcome = outcome
        count_answer(request, "POST", "/test-outcomes", status, 0.003)
    counted = Scrape(exposition().decode()).of("glitchflow_http_requests_total", route="/test-outcomes", method="POST")
    assert {sample.labels["outcome"]: sample.value for sample in counted} == {
        "2xx": 2,
        "4xx": 1,
        "queue-full": 1,
        "frozen": 1,
    }


def test_the_latency_is_exported_in_seconds_and_buckets() -> None:
    for seconds in (0.003, 0.004, 0.3):
        count_answer(RequestContext({}), "GET", "/test-latency", 200, seconds)
    seen, of_route = Scrape(exposition().decode()), {"method": "GET", "route": "/test-latency"}
    name = "glitchflow_http_request_duration_seconds"
    below = [seen.value(f"{name}_bucket", le=le, **of_route) for le in ("0.002", "0.005", "0.5", "+Inf")]
    assert below == [0, 2, 3, 3]
    assert seen.value(f"{name}_sum", **of_route) == pytest.approx(0.307)


def test_gauges_are_not_kept() -> None:
    more = [gauge("glitchflow_test", "A number.", 3), labelled("glitchflow_tests", "Two.", "a", [("b", 1), ("c", 2)])]
    seen = Scrape(exposition(more).decode())
    assert seen.value("glitchflow_test") == 3
    assert seen.value("glitchflow_tests", a="c") == 2
    assert seen.value("glitchflow_build_info") == 1
    assert not list(Scrape(exposition().decode()).of("glitchflow_test"))
