import os
import subprocess
import sys
from pathlib import Path

import pytest
from gwservice.observing import tell_end

from gwservice.correlation import FROZEN, RequestInHand
from gwservice.metrics import exposition, gauge, labelled
from tests.support.scrape import Scrape


def test_requests_are_counted_by_what_became_of_them() -> None:
    for outcome, status in (("", 200), ("", 201), ("", 404), ("queue-full", 503), (FROZEN, 503)):
        request = RequestInHand(None)
        request.outcome = outcome
        tell_end(request, "POST", "/test-outcomes", status, 0.003)
    counted = Scrape(exposition().decode()).of("glitchflow_http_requests_total", route="/test-outcomes", method="POST")
    assert {sample.labels["outcome"]: sample.value for sample in counted} == {
        "2xx": 2,
        "4xx": 1,
        "queue-full": 1,
        "frozen": 1,
    }


def test_the_latency_is_told_in_seconds_and_buckets() -> None:
    for seconds in (0.003, 0.004, 0.3):
        tell_end(RequestInHand(None), "GET", "/test-latency", 200, seconds)
    told, of_route = Scrape(exposition().decode()), {"method": "GET", "route": "/test-latency"}
    name = "glitchflow_http_request_duration_seconds"
    below = [told.value(f"{name}_bucket", le=le, **of_route) for le in ("0.002", "0.005", "0.5", "+Inf")]
    assert below == [0, 2, 3, 3]
    assert told.value(f"{name}_sum", **of_route) == pytest.approx(0.307)


def test_what_is_told_of_this_moment_is_not_kept() -> None:
    more = [gauge("glitchflow_test", "A number.", 3), labelled("glitchflow_tests", "Two.", "a", [("b", 1), ("c", 2)])]
    told = Scrape(exposition(more).decode())
    assert told.value("glitchflow_test") == 3
    assert told.value("glitchflow_tests", a="c") == 2
    assert told.value("glitchflow_build_info") == 1
    assert not list(Scrape(exposition().decode()).of("glitchflow_test"))


COUNT = """
import os
from gwservice.metrics import count_request, exposition
count_request("POST", "/stream", "2xx", 0.01)
if child := os.fork():
    os.waitpid(child, 0)
    print(exposition().decode())
else:
    count_request("POST", "/stream", "2xx", 0.01)
    count_request("POST", "/stream", "2xx", 0.01)
    os._exit(0)
"""


def test_processes_that_share_a_folder_are_counted_together(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", COUNT], env=environment, check=True, capture_output=True, text=True)
    assert Scrape(done.stdout).value("glitchflow_http_requests_total", route="/stream", outcome="2xx") == 3
