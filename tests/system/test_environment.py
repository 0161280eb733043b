"""Environment variables that libraries read, and that have no meaning here, are ignored."""

from collections.abc import Callable, Mapping
from pathlib import Path

import httpx2
import pytest

from scripts.trio import Trio
from tests.support.scrape import scrape
from tests.support.segments import JSON, segment_body

ROOT = Path(__file__).parents[2]
NUMBERS = {"WEB_CONCURRENCY": "2", "PROMETHEUS_MULTIPROC_DIR": "/nowhere", "PORT": "1", "UVICORN_PORT": "1"}
NONSENSE = {
    "WEB_CONCURRENCY": "auto",
    "PROMETHEUS_MULTIPROC_DIR": "",
    "SSLKEYLOGFILE": "/nowhere/keys",
    "OTEL_PROPAGATORS": "tracecontext,b3",
    "OTEL_PYTHON_CONTEXT": "no",
    **dict.fromkeys(("PORT", "SENDFILE", "UVICORN_WORKERS", "FORWARDED_ALLOW_IPS"), "no"),
    **dict.fromkeys(("FLASK_DEBUG", "FASTAPI_OTEL_AUTO_CONFIGURE", "prometheus_multiproc_dir"), "1"),
}


@pytest.mark.parametrize("environment", [NUMBERS, NONSENSE], ids=["numbers", "nonsense"])
def test_the_trio_starts_as_if_they_were_not_there(
    start_trio: Callable[..., Trio], environment: Mapping[str, str]
) -> None:
    trio = start_trio(environment, fresh=True)
    assert httpx2.post(f"{trio.url}/streamdata", content=segment_body(1), headers=JSON).json()["resp"] == "CREATED"
    buffer = trio.services[0].url
    assert scrape(buffer).value("glitchflow_stored_segments_total") == 1
    assert list(ROOT.glob("*.db")) == []
    assert "Traceback" not in (trio.home / "services.log").read_text()


def test_a_bad_value_for_traces_costs_the_traces_only(start_trio: Callable[..., Trio]) -> None:
    queue, limit = {"OTEL_BSP_MAX_QUEUE_SIZE": "-1"}, {"OTEL_ATTRIBUTE_COUNT_LIMIT": "-1"}
    each = {"databuffer": queue, "dslogic": limit, "glitchflow_api": queue}
    trio = start_trio({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, each=each)
    assert httpx2.post(f"{trio.url}/streamdata", content=segment_body(1), headers=JSON).json()["resp"] == "CREATED"
    log = (trio.home / "services.log").read_text()
    assert log.count("no traces: OTEL_*: ") == len(trio.services)
    assert "Traceback" not in log
