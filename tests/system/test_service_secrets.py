"""The secrets between the services, with real processes: each service answers only its caller."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from fastapi.testclient import TestClient

from databuffer.settings import BufferSettings
from dslogic.app import create_app as create_logic
from dslogic.asgi import asgi_application
from dslogic.settings import LogicSettings
from glitchflow_api.app import create_app as create_gateway
from glitchflow_api.settings import GatewaySettings
from scripts.trio import Trio, describe, free_ports
from tests.support.forked import run_forked
from tests.support.segments import JSON, segment_body

UPPER, LOWER = "upper-secret-0123456789", "lower-secret-0123456789"
ROOT = Path(__file__).parents[2]
NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("secrets")
    files = {name: folder / name for name in ("upper", "lower", "foreign")}
    for path, secret in zip(files.values(), (UPPER, LOWER, "foreign-secret-0123456789"), strict=True):
        path.write_text(f"{secret}\n")
    return {name: str(path) for name, path in files.items()}


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio], files: dict[str, str]) -> Trio:
    """Start a trio whose buffer is called with one secret and whose dslogic is called with another."""
    settings = {
        "databuffer": {"CALLER_SECRET_FILE": files["lower"]},
        "dslogic": {"CALLER_SECRET_FILE": files["upper"], "BUFFER_SECRET_FILE": files["lower"]},
        "glitchflow_api": {"LOGIC_SECRET_FILE": files["upper"]},
    }
    return start_shared_trio(each=settings)


def urls(trio: Trio) -> dict[str, str]:
    return {service.name: service.url for service in trio.services}


def test_data_go_through_all_tiers_when_each_has_the_secret_of_the_next(trio: Trio) -> None:
    with httpx2.Client(base_url=trio.url) as client:
        assert client.get("/readyz").status_code == 200
        assert client.post("/streamdata", content=segment_body(1), headers=JSON).json()["resp"] == "CREATED"
        lines = client.post("/streamdata", content=segment_body(2) + b"\n" + segment_body(3), headers=NDJSON)
        assert [line[:17] for line in lines.text.splitlines()] == ['{"resp":"CREATED"'] * 2
        assert client.get("/stats").json()["n_itm"] == 3
        assert client.get("/dspage").status_code == 200


@pytest.mark.parametrize(
    ("service", "paths", "sending"),
    [
        ("databuffer", ("/stat", "/dstat", "/dumpF", "/batches", "/segments", "/overview", "/nowhere"), "/sendF"),
        ("dslogic", ("/bufstat", "/dsdesc", "/", "/batches", "/static/status.css", "/nowhere"), "/stream"),
    ],
)
def test_a_tier_answers_no_caller_without_its_secret(
    trio: Trio, service: str, paths: tuple[str, ...], sending: str
) -> None:
    mine, others = (LOWER, UPPER) if service == "databuffer" else (UPPER, LOWER)
    with httpx2.Client(base_url=urls(trio)[service]) as client:
        for headers in ({}, {"Authorization": f"Bearer {others}"}, {"Authorization": f"Basic {mine}"}):
            answers = [client.get(path, headers=headers) for path in paths]
            answers += [client.post(sending, content=segment_body(4), headers={**JSON, **headers})]
            answers += [client.post(sending, content=segment_body(4), headers={**NDJSON, **headers})]
            for answer in answers:
                assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get(paths[0], headers={"Authorization": f"Bearer {mine}"}).status_code == 200
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 200


def test_a_credential_of_the_client_is_not_passed_down(trio: Trio) -> None:
    answer = httpx2.get(f"{trio.url}/stats", headers={"Authorization": "Bearer of-the-client"})
    assert answer.status_code == 200


def check_refusals(answers: Iterable[Any], setting: str) -> None:
    for answer in answers:
        problem = json.loads(answer.text)
        assert (answer.status_code, problem["code"]) == (502, "upstream-invalid")
        assert setting in problem["detail"]


@pytest.mark.parametrize("secret", ["foreign", None])
def test_a_wrong_secret_between_tiers_is_the_services_fault_and_the_upper_one_is_not_ready(
    trio: Trio, files: dict[str, str], secret: str | None
) -> None:
    given = {} if secret is None else {"LOGIC_SECRET_FILE": files[secret], "BUFFER_SECRET_FILE": files[secret]}
    gateway = GatewaySettings.model_validate({"DS_BURL": urls(trio)["dslogic"], **without(given, "BUFFER_SECRET_FILE")})
    with TestClient(create_gateway(gateway)) as client:
        check_refusals((client.get(path) for path in ("/readyz", "/stats", "/dspage")), "LOGIC_SECRET_FILE")
        for kind in (JSON, NDJSON):
            sent = client.post("/streamdata", content=segment_body(1), headers=kind)
            check_refusals([sent], "LOGIC_SECRET_FILE")
    below = {"DB_BURL": urls(trio)["databuffer"], **without(given, "LOGIC_SECRET_FILE")}
    with TestClient(asgi_application(create_logic(settings=LogicSettings.model_validate(below)))) as client:
        check_refusals((client.get(path) for path in ("/readyz", "/bufstat", "/overview")), "BUFFER_SECRET_FILE")
        for kind in (JSON, NDJSON):
            sent = client.post("/stream", content=segment_body(1), headers=kind)
            check_refusals([sent], "BUFFER_SECRET_FILE")


def without(settings: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in settings.items() if key != name}


@pytest.mark.parametrize(
    ("name", "setting", "content"),
    [
        ("databuffer", "CALLER_SECRET_FILE", None),
        ("dslogic", "CALLER_SECRET_FILE", ""),
        ("glitchflow_api", "LOGIC_SECRET_FILE", "short"),
    ],
)
def test_a_secret_that_cannot_be_read_stops_the_service_with_one_line(
    tmp_path: Path, name: str, setting: str, content: str | None
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_text(content)
    [service] = [each for each in describe(tmp_path, free_ports()) if each.name == name]
    _python, _m, *module = service.command
    ended = run_forked(module, {**os.environ, **service.environment, setting: str(path)})
    assert ended.returncode != 0
    [line] = [line for line in ended.stderr.splitlines() if setting in line]
    assert str(path) in line
    assert "Traceback" not in ended.stderr


def test_the_compose_file_for_hops_gives_each_tier_the_secret_of_the_next() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.hops.yml").read_text())["services"]
    assert services.keys() == {"databuff", "dslogic", "gflapi"}
    buffer = BufferSettings.model_validate(services["databuff"]["environment"])
    logic = LogicSettings.model_validate(services["dslogic"]["environment"])
    gateway = GatewaySettings.model_validate(services["gflapi"]["environment"])
    assert gateway.LOGIC_SECRET_FILE == logic.CALLER_SECRET_FILE
    assert logic.BUFFER_SECRET_FILE == buffer.CALLER_SECRET_FILE
    for service in services.values():
        mounted = {volume.rpartition(":ro")[0].rpartition(":")[2] for volume in service["volumes"]}
        assert mounted == {str(Path(file).parent) for file in service["environment"].values()}
