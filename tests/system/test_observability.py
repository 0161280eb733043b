"""The trio from an operator's view: log lines, request ids in them, and metrics."""

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from scripts.trio import Trio
from tests.support.outage import without
from tests.support.scrape import Scrape, scrape
from tests.support.segments import JSON, segment_body

ALICE = {"user": "alice", "token": "a-token-like-no-other"}
TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
TIERS = ["glitchflow_api", "dslogic", "databuffer"]


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio]) -> Trio:
    return start_shared_trio({"MAX_SIZE": "100"})


@pytest.fixture(scope="module")
def client(trio: Trio) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=trio.url, headers={"X-Request-ID": "the-story", "traceparent": TRACEPARENT}) as client:
        yield client


def log_lines(home: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / "services.log").read_text().rpartition("\n")[0].splitlines()]


def test_the_order_to_freeze_is_a_line_of_the_buffers_with_the_name_that_the_client_gave(
    trio: Trio, client: httpx2.Client
) -> None:
    for number in range(5):
        assert client.post("/streamdata", content=segment_body(number), headers=JSON).status_code == 200
    for path, order in (("/train", ALICE), ("/thaw", ALICE), ("/train", ALICE), ("/cleanbuf", {"msg": "done"})):
        answer = client.post(path, json=order)
        assert (answer.status_code, answer.headers["x-request-id"]) == (200, "the-story")
    seen = [line for line in log_lines(trio.home) if line.get("request_id") == "the-story"]
    orders = [line for line in seen if line["service"] == "databuffer"]
    assert [line["event"] for line in orders] == ["freeze", "thaw", "freeze", "flush"]
    assert "glitchflow_api" in {line["service"] for line in seen}
    assert {line["trace_id"] for line in seen} == {TRACE}
    assert orders[0]["n_itm"] == 5
    assert "segments" in orders[0]["message"]


def test_every_line_has_the_same_fields(trio: Trio) -> None:
    for line in log_lines(trio.home):
        assert line.keys() >= {"time", "level", "service", "logger", "message"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        assert line["service"] in TIERS


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/stats", 200), ("POST", "/streamdata", 400), ("GET", "/batches/none", 404)]
)
def test_every_answer_has_a_name_of_its_own(trio: Trio, method: str, path: str, status: int) -> None:
    answers = [httpx2.request(method, trio.url + path, headers=JSON) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {status}
    assert len({answer.headers["x-request-id"] for answer in answers}) == 3
    assert all(len(answer.headers.get_list("x-request-id")) == 1 for answer in answers)


def everything(trio: Trio) -> Scrape:
    return scrape(*(service.url for service in trio.services))


def test_a_segment_is_counted_in_every_tier_by_the_route_it_took(trio: Trio) -> None:
    before = everything(trio)
    with httpx2.Client(base_url=trio.url) as client:
        for number in range(10):
            client.post("/streamdata", content=segment_body(number), headers=JSON).raise_for_status()
    after = everything(trio)
    for route in ("/streamdata", "/stream", "/sendF"):
        which = {"method": "POST", "route": route, "outcome": "2xx"}
        counts = [seen.value("glitchflow_http_requests_total", **which) for seen in (before, after)]
        assert counts[1] - counts[0] == 10
    stored = [seen.value("glitchflow_stored_segments_total") for seen in (before, after)]
    assert stored[1] - stored[0] == 10
    assert after.value("glitchflow_batch_segments", batch="hand") == 10
    assert after.value("glitchflow_batch_full_bytes") == 100


def test_the_requested_path_is_not_a_label(trio: Trio) -> None:
    for path in ("/nothing-of-the-kind", "/batches/nobodys-batch", "/segments/nobodys-segment"):
        assert httpx2.get(trio.url + path).status_code == 404
    httpx2.request("BREW", f"{trio.url}/stats")
    seen = everything(trio)
    labels = {value for sample in seen.samples for value in sample.labels.values()}
    assert not [label for label in labels if "nobody" in label or "of-the-kind" in label or "BREW" in label]
    assert seen.value("glitchflow_http_requests_total", route="/batches/{batch}", outcome="not-found") >= 2
    assert seen.value("glitchflow_http_requests_total", route="other", outcome="not-found") >= 1


# The counters of the buffer start at zero afterwards.
def test_a_failed_request_is_one_line_in_each_tier_that_failed_under_one_name(trio: Trio) -> None:
    with without(trio, "databuffer"):
        answer = httpx2.post(f"{trio.url}/streamdata", content=segment_body(1), headers=JSON)
    assert answer.status_code == 502
    name = answer.headers["x-request-id"]
    failed = [line for line in log_lines(trio.home) if line.get("request_id") == name]
    assert sorted(line["service"] for line in failed) == ["dslogic", "glitchflow_api"]
    for line in failed:
        assert (line["event"], line["outcome"], line["status"]) == ("request-failed", "upstream-unreachable", 502)
        assert line["route"] in {"/streamdata", "/stream"}
        assert "cannot be reached" in line["message"]


def test_a_worker_of_dslogic_that_ends_is_replaced(start_trio: Callable[..., Trio]) -> None:
    trio = start_trio(services=2)
    master = trio.processes["dslogic"].pid
    [worker] = [int(pid) for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split()]
    os.kill(worker, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while Path(f"/proc/{worker}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    trio.wait_until_ready()
    httpx2.post(f"{trio.url}/stream", content=segment_body(1), headers=JSON).raise_for_status()
    assert scrape(trio.url).value("glitchflow_http_requests_total", route="/stream", outcome="2xx") == 1
