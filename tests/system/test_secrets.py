"""A full run is searched for every credential in it: none is in a file, a log, a page, a metric, a trace, an answer."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from scripts.trio import Trio
from tests.support.otlp_receiver import Receiver, receiving
from tests.support.segments import JSON, segment_body

GATEWAYS_SECRET, LOGICS_SECRET = "hop-secret-of-the-gateway-7c1d", "hop-secret-of-dslogic-90ab"
TOKEN, WRONG_TOKEN = "the-holders-token-5f2e", "a-guessed-token-d41d"
WRONG_KEY, WRONG_COOKIE = "gfk_a-key-that-nobody-made-e800998e", "a-cookie-that-nobody-set-98ecf842"


class Run:
    """A run of the trio with every secret in use, and all its output.

    Attributes:
        said: every answer, with its headers, by the request.
    """

    def __init__(self, trio: Trio, key: str, client: httpx2.Client) -> None:
        self.trio = trio
        self._client = client
        self.key = key
        self.said: dict[str, bytes] = {}

    def ask(self, method: str, url: str, credential: str = "", **request: object) -> httpx2.Response:
        own = {"Authorization": f"Bearer {credential}"} if credential else {}
        headers = own | dict(request.pop("headers", {}))  # type: ignore[call-overload]  # of a request
        answer = self._client.request(method, url, headers=headers, **request)  # type: ignore[arg-type]  # the same
        # A cookie holds the browser's own key, which is sent to nobody else.
        headers_said = [f"{name}: {value}" for name, value in answer.headers.items() if name != "set-cookie"]
        self._client.cookies.clear()
        self.said[f"{len(self.said)} {method} {url}"] = "\n".join(headers_said).encode() + b"\n\n" + answer.content
        return answer

    def gateway(self, method: str, path: str, **request: object) -> httpx2.Response:
        return self.ask(method, self.trio.url + path, self.key, **request)


def make_key(file: Path, name: str, scopes: str) -> str:
    command = [sys.executable, "-m", "glitchflow_api", "keys", "--file", str(file), "create", name, "--scopes", scopes]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "gateways").write_text(GATEWAYS_SECRET)
    (folder / "logics").write_text(LOGICS_SECRET)
    (folder / "callers").write_text(f"{GATEWAYS_SECRET}\n{LOGICS_SECRET}\n")
    return folder


@pytest.fixture(scope="module")
def keys(secrets: Path) -> dict[str, str]:
    wanted = {"alice": "read,stream,train,clean", "reader": "read"}
    return {name: make_key(secrets / "keys.json", name, scopes) for name, scopes in wanted.items()}


@pytest.fixture(scope="module")
def run(start_shared_trio: Callable[..., Trio], receiver: Receiver, secrets: Path, keys: dict[str, str]) -> Run:
    trio = start_shared_trio(
        {
            "MAX_SIZE": "50",
            "AUTH": "keys",
            "KEYS_FILE": str(secrets / "keys.json"),
            "CALLER_SECRET_FILE": str(secrets / "callers"),
            "LOGIC_SECRET_FILE": str(secrets / "gateways"),
            "BUFFER_SECRET_FILE": str(secrets / "logics"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
        }
    )
    with httpx2.Client(timeout=30) as client:
        run = Run(trio, keys["alice"], client)
        run_demo(run, keys["reader"])
        read_every_page(run)
    trio.stop()
    return run


def run_demo(run: Run, reader: str) -> None:
    trio = run.trio
    lines = b"\n".join(segment_body(number) for number in range(5))
    assert run.gateway("POST", "/streamdata", content=segment_body(9), headers=JSON).json()["resp"] == "CREATED"
    seen = run.gateway("POST", "/streamdata", content=lines, headers={"Content-Type": "application/x-ndjson"})
    assert seen.text.count("CREATED") == 5
    held, guessed = {"user": "alice", "token": TOKEN}, {"user": "alice", "token": WRONG_TOKEN}
    assert run.gateway("POST", "/train", json=held).json()["resp"] == "FROZEN"
    assert run.gateway("POST", "/train", json=guessed).json()["resp"] == "FROZEN"
    assert run.gateway("POST", "/thaw", json=guessed).status_code == 403
    assert run.gateway("POST", "/train", json=held | {"user": "bob"}).status_code == 403
    assert run.gateway("POST", "/train", content=b'{"user":"alice","token":"%b"' % TOKEN.encode()).status_code == 400
    assert run.gateway("POST", "/train", json={"user": "alice", "token": [TOKEN]}).status_code == 422
    assert run.gateway("POST", "/streamdata", content=segment_body(9), headers=JSON).json()["resp"] == "FROZEN"
    assert run.gateway("POST", "/thaw", json=held).json()["resp"] == "OPERATIONAL"
    assert run.gateway("POST", "/cleanbuf", json={"msg": "archived by the test"}).json()["resp"] == "CLEANED"
    assert run.gateway("POST", "/streamdata", content=segment_body(9), headers=JSON).json()["resp"] == "CREATED"
    assert run.gateway("POST", "/train", json=held).json()["resp"] == "FROZEN"
    for credential, status in ((WRONG_KEY, 401), (run.key[:-1] + "~", 401), (reader, 403)):
        assert run.ask("POST", f"{trio.url}/cleanbuf", credential, json={"msg": ""}).status_code == status
    cookie = {"Cookie": f"glitchflow={WRONG_COOKIE}"}
    assert run.ask("GET", f"{trio.url}/stats", headers=cookie).status_code == 401
    assert run.ask("POST", f"{trio.url}/session", json={"key": run.key}).status_code == 204
    assert run.ask("POST", f"{trio.url}/session", json={"key": WRONG_KEY}).status_code == 401
    for service, route in zip(trio.services, ("/sendF", "/stream"), strict=False):
        for credential in (WRONG_KEY, run.key):
            refused = run.ask("POST", service.url + route, credential, content=segment_body(1), headers=JSON)
            assert refused.status_code == 401


def read_every_page(run: Run) -> None:
    """Request every page, with a valid and with an invalid credential."""
    named = {
        "batch": run.gateway("GET", "/batches").json()["batches"][0]["id"],
        "name": run.gateway("GET", "/segments").json()["segments"][0]["name"],
        "bundle": run.gateway("POST", "/bundles", json={"query": {}, "format": "manifest"}).json()["id"],
        "code": "unauthorized",
        "ext": "hdf5",
        "site": "H",
        "frametype": "H1_STRAIN",
        "start": 0,
        "stop": 1,
        "urltype": "https",
    }
    named["record"] = f"batch/{named['batch']}"
    document = run.gateway("GET", "/openapi.json").json()
    for path in (path.format(**named) for path, methods in document["paths"].items() if "get" in methods):
        if path != "/events":
            for credential in (run.key, WRONG_KEY):
                run.ask("GET", run.trio.url + path, credential)
    with httpx2.stream("GET", f"{run.trio.url}/events", headers={"Authorization": f"Bearer {run.key}"}) as events:
        run.said["the events"] = next(events.iter_bytes())
    lower = {
        "databuffer": ("/stat", "/dstat", "/dumpF", "/dumpLogF", "/overview", "/metrics", "/openapi.json"),
        "dslogic": ("/", "/bufstat", "/dsdesc", "/dumpf", "/dumpflog", "/overview", "/metrics", "/static/page.js"),
    }
    for service in run.trio.services[:2]:
        for path in lower[service.name]:
            for secret in (GATEWAYS_SECRET, LOGICS_SECRET, WRONG_KEY):
                run.ask("GET", service.url + path, secret)


@pytest.fixture(scope="module")
def hidden(run: Run, keys: dict[str, str]) -> dict[str, bytes]:
    """Return the secrets, by their names."""
    wrong = {"wrong key": WRONG_KEY, "wrong cookie": WRONG_COOKIE, "wrong token": WRONG_TOKEN}
    hops = {"gateway's secret": GATEWAYS_SECRET, "dslogic's secret": LOGICS_SECRET}
    seen = {"token": TOKEN, "altered key": run.key[:-1] + "~", **hops, **wrong, **keys}
    assert all(len(secret) >= 16 for secret in seen.values())
    return {name: secret.encode() for name, secret in seen.items()}


def found(hidden: dict[str, bytes], places: dict[str, bytes]) -> list[str]:
    return [f"{name} in {place}" for place, content in places.items() for name in hidden if hidden[name] in content]


def test_no_secret_is_in_a_file_of_the_home_be_it_log_catalog_state_or_archive(
    run: Run, hidden: dict[str, bytes]
) -> None:
    files = {
        str(path.relative_to(run.trio.home)): path.read_bytes() for path in run.trio.home.rglob("*") if path.is_file()
    }
    assert {"Dsstat.json", "StatDesc.json", "LogStream.json", "catalog.sqlite", "services.log", "MANIFEST.json"} <= {
        Path(name).name for name in files
    }
    assert b"alice" in files["appdata/adm/Dsstat.json"]
    assert b'"event":"freeze"' in files["services.log"]
    assert not found(hidden, files)


def test_no_secret_is_in_an_answer_a_page_or_a_metric(run: Run, hidden: dict[str, bytes]) -> None:
    assert len(run.said) > 60
    assert any(b"glitchflow_http_requests_total" in said for said in run.said.values())
    assert any(b"<html" in said.lower() for said in run.said.values())
    assert not found(hidden, run.said)


def test_no_secret_is_in_a_trace(run: Run, receiver: Receiver, hidden: dict[str, bytes]) -> None:
    assert len(receiver.spans) > 100
    assert {span.service for span in receiver.spans} == {service.name for service in run.trio.services}
    assert not found(hidden, {"traces": b"\n".join(receiver.bodies)})
