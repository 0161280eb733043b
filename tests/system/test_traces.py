"""Traces that a collector receives from the real trio; without traces, the SDK is not loaded."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import httpx2
import pytest

from gwservice import tracing
from scripts.trio import Trio
from tests.support.otlp_receiver import Receiver, Span, receiving
from tests.support.segments import JSON, segment_body

CLIENTS_TRACE = "0af7651916cd43dd8448eb211c80319c"
CLIENTS_SPAN = "b7ad6b7169203331"
CLIENTS = {**JSON, "traceparent": f"00-{CLIENTS_TRACE}-{CLIENTS_SPAN}-01", "X-Request-ID": "traced-one"}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def trio(receiver: Receiver, start_shared_trio: Callable[..., Trio]) -> Trio:
    return start_shared_trio({"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "100"})


def of_trace(receiver: Receiver, trace: str, count: int) -> dict[str, Span]:
    deadline = time.monotonic() + 60
    while True:
        found = {f"{span.service} {span.name}": span for span in receiver.spans if span.trace == trace}
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_one_trace_shows_a_segment_on_its_way_from_the_gateway_to_the_commit(trio: Trio, receiver: Receiver) -> None:
    answer = httpx2.post(f"{trio.url}/streamdata", content=segment_body(1), headers=CLIENTS)
    assert answer.json()["resp"] == "CREATED"
    spans = of_trace(receiver, CLIENTS_TRACE, 4)
    gateway = spans["glitchflow_api POST /streamdata"]
    logic = spans["dslogic POST /stream"]
    buffer = spans["databuffer POST /sendF"]
    commit = spans["databuffer commit"]
    assert [each.parent for each in (gateway, logic, buffer, commit)] == [CLIENTS_SPAN, gateway.id, logic.id, buffer.id]
    assert commit.linked == ((CLIENTS_TRACE, buffer.id),)
    assert commit.attributes["segments"] == 1
    assert {each.attributes["glitchflow.request_id"] for each in (gateway, logic, buffer)} == {"traced-one"}
    assert gateway.attributes["http.response.status_code"] == 200
    assert buffer.attributes["http.response.status_code"] == 201


def test_many_segments_of_one_request_are_commits_of_one_trace(trio: Trio, receiver: Receiver) -> None:
    trace = CLIENTS_TRACE[::-1]
    headers = {"Content-Type": "application/x-ndjson", "traceparent": f"00-{trace}-{CLIENTS_SPAN}-01"}
    lines = b"\n".join(segment_body(number).replace(b"\n", b"") for number in range(20))
    answer = httpx2.post(f"{trio.url}/streamdata", content=lines, headers=headers)
    assert answer.text.count("CREATED") == 20
    spans = of_trace(receiver, trace, 4)
    assert spans["databuffer commit"].parent == spans["databuffer POST /sendF"].id
    commits = [span for span in receiver.spans if span.trace == trace and span.name == "commit"]
    assert sum(int(span.attributes["segments"]) for span in commits) <= 20


def test_a_failed_request_is_marked_with_its_problem(trio: Trio, receiver: Receiver) -> None:
    trace = CLIENTS_TRACE.replace("0", "1")
    headers = {"traceparent": f"00-{trace}-{CLIENTS_SPAN}-01"}
    assert httpx2.get(f"{trio.url}/batches/none", headers=headers).status_code == 404
    spans = of_trace(receiver, trace, 3)
    assert spans["databuffer GET /batches/{batch}"].attributes["glitchflow.outcome"] == "not-found"
    assert not any(span.failed for span in spans.values())


def test_a_sender_that_does_not_sample_is_not_traced(trio: Trio, receiver: Receiver) -> None:
    trace = CLIENTS_TRACE.replace("0", "2")
    httpx2.get(f"{trio.url}/stats", headers={"traceparent": f"00-{trace}-{CLIENTS_SPAN}-00"})
    after = CLIENTS_TRACE.replace("0", "3")
    httpx2.get(f"{trio.url}/stats", headers={"traceparent": f"00-{after}-{CLIENTS_SPAN}-01"})
    of_trace(receiver, after, 3)
    assert trace not in {span.trace for span in receiver.spans}


def test_the_services_stop_in_time_without_a_trace_collector(start_trio: Callable[..., Trio]) -> None:
    environment = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    trio = start_trio(environment, services=2)
    assert httpx2.post(f"{trio.url}/stream", content=segment_body(1), headers=JSON).status_code == 201
    processes = [trio.processes[name] for name in ("dslogic", "databuffer")]
    for process in processes:
        process.terminate()
    assert [process.wait(25) for process in processes] == [0, 0], "a platform kills them after 30 s"


LOOK = """
import os, sys
from gwservice import tracing
os.environ["OTEL_TRACES_EXPORTER"] = "none"
tracing.begin_tracing("any")
tracing.wanted.cache_clear()
os.environ |= {"OTEL_TRACES_EXPORTER": "", "OTEL_SDK_DISABLED": "true"}
tracing.begin_tracing("any")
from glitchflow_api.app import create_app
from glitchflow_api.settings import GatewaySettings
from dslogic.app import create_app as create_logic
import databuffer.app
create_app(GatewaySettings.load()); create_logic()
sdk = ("opentelemetry.sdk", "opentelemetry.exporter", "google.protobuf")
print(sorted(name for name in sys.modules if name.startswith(sdk)))
"""


def test_without_traces_nothing_of_opentelemetrys_sdk_is_imported() -> None:
    environment = os.environ | {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    done = subprocess.run([sys.executable, "-c", LOOK], env=environment, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("environment", "answer"),
    [
        ({}, False),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "True"}, False),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, False),
    ],
    ids=str,
)
def test_the_standard_variables_say_whether_there_are_traces(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    environment: dict[str, str],
    answer: object,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    tracing.wanted.cache_clear()
    assert tracing.wanted() is answer
    assert bool(caplog.records) == ("zipkin" in environment.values())
    tracing.wanted.cache_clear()
