"""Services whose settings name another service than the next one, with real processes."""

from collections.abc import Callable

import httpx2
import pytest
from fastapi.testclient import TestClient

from dslogic.app import create_app as create_logic
from dslogic.asgi import asgi_application
from dslogic.settings import LogicSettings
from glitchflow_api.app import create_app as create_gateway
from glitchflow_api.settings import GatewaySettings
from scripts.trio import Trio
from tests.support.segments import JSON, segment_body

NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio]) -> Trio:
    return start_shared_trio()


def check_reported(client: TestClient, paths: tuple[str, ...], sending: str, detail: str) -> None:
    answers = [client.get(path) for path in paths]
    answers += [client.post(sending, content=segment_body(1), headers=kind) for kind in (JSON, NDJSON)]
    for answer in answers:
        assert (answer.status_code, answer.json()["code"], answer.json()["detail"]) == (502, "upstream-invalid", detail)
        assert "x-service" not in answer.headers


@pytest.mark.parametrize(("index", "name"), [(0, "the buffer"), (2, "the gateway")])
def test_a_gateway_whose_upstream_is_another_service_names_it_and_the_setting(
    trio: Trio, index: int, name: str
) -> None:
    url = trio.services[index].url
    with TestClient(create_gateway(GatewaySettings.model_validate({"DS_BURL": url}))) as client:
        paths = ("/readyz", "/stats", "/overview", "/batches", "/segments", "/facets", "/dspage")
        check_reported(client, paths, "/streamdata", f"{name} answers at {url} (DS_BURL), not dslogic")


@pytest.mark.parametrize(("index", "name"), [(1, "dslogic"), (2, "the gateway")])
def test_a_dslogic_whose_upstream_is_another_service_names_it_and_the_setting(
    trio: Trio, index: int, name: str
) -> None:
    url = trio.services[index].url
    app = create_logic(settings=LogicSettings.model_validate({"DB_BURL": url}))
    with TestClient(asgi_application(app)) as client:
        paths = ("/readyz", "/bufstat", "/overview", "/batches")
        check_reported(client, paths, "/stream", f"{name} answers at {url} (DB_BURL), not the buffer")


def test_a_service_answers_requests_that_name_it_or_none(trio: Trio) -> None:
    for service, name, path in zip(
        trio.services, ("the buffer", "dslogic", "the gateway"), ("/stat", "/bufstat", "/stats"), strict=True
    ):
        for headers in ({}, {"X-Service": name}):
            assert httpx2.get(service.url + path, headers=headers).status_code == 200
        refused = httpx2.get(service.url + path, headers={"X-Service": "another"})
        assert (refused.status_code, refused.json()["code"]) == (421, "misdirected")
        assert refused.headers["x-service"] == name
