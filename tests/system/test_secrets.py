"""A full run is searched for every credential in it: none is in a file, a log, a page, a metric, a trace, an answer."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from scripts.trio import Trio
from tests.support.otlp_receiver import Receiver, receiving
from tests.support.segments import JSON, segment_body

GATEWAYS_SECRET, LOGICS_SECRET = "hop-secret-of-the-gateway-7c1d", "hop-secret-of-dslogic-90ab"
TOKEN, WRONG_TOKEN = "the-holders-token-5f2e", "a-guessed-token-d41d"
NLDS_ACCESS_KEY, NLDS_SECRET_KEY, NLDS_TOKEN = "nlds-access-key-1f0c", "nlds-secret-key-77ab", "nlds-query-token-9c41"
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
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for NLDS' API, with a file, and with its transactions."""
    folder = tmp_path_factory.mktemp("shared")
    (folder / "notes").write_text("notes")
    return folder


@pytest.fixture(scope="module")
def run(
    start_shared_trio: Callable[..., Trio], receiver: Receiver, secrets: Path, shared: Path, keys: dict[str, str]
) -> Run:
    trio = start_shared_trio(
        {
            "MAX_SIZE": "50",
            "NLDS_API": "on",
            "NLDS_ROOTS": str(shared),
            "NLDS_STATE": str(shared),
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
        call_nlds(run, shared)
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


def call_nlds(run: Run, shared: Path) -> None:
    """Put and get a file as NLDS' client does, with the keys of an object store in each query; also wrongly."""
    keys = {"access_key": NLDS_ACCESS_KEY, "secret_key": NLDS_SECRET_KEY, "token": NLDS_TOKEN}
    query = {"user": "alice", "group": "", **keys}
    put, get = ({**query, "transaction_id": f"{n}0000000-0000-4000-8000-000000000000"} for n in (1, 2))

    def call(method: str, route: str, asked: dict[str, str], **more: object) -> httpx2.Response:
        return run.gateway(method, f"/api/1.0.0/{route}", params=asked, **more)

    def order(method: str, asked: dict[str, str], body: object) -> None:
        """Order a transaction, and wait for its end."""
        assert call(method, "files/", asked, json=body).status_code == 202
        state = {**query, "transaction_id": asked["transaction_id"]}
        while not re.search(r"COMPLETE|FAILED", call("GET", "status/", state, json={}).text):
            time.sleep(0.02)

    paths = [str(shared / name) for name in ("notes", "missing")]
    order("PUT", put, {"filelist": paths})
    order("GET", {**get, "filepath": paths[0]}, {})
    wrong = [{**query, "limit": "x"}, {**query, "user": "bob"}, {**keys}, {**query, "tag": "site"}]
    for asked, status in zip(wrong, (400, 404, 400, 400), strict=True):
        assert call("GET", "catalog/list/", asked).status_code == status
    assert call("GET", "quota/", query).status_code == 404
    assert run.ask("GET", f"{run.trio.url}/api/1.0.0/catalog/list/", WRONG_KEY, params=query).status_code == 401


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
        "request": "of-nobody",
    }
    named["record"] = f"batch/{named['batch']}"
    put = {"label": "notes", "files": [{"path": "/a note", "size": 1}]}
    transaction = run.gateway("POST", "/transactions", json=put).json()["transaction"]
    named |= {"transaction": transaction["id"], "holding": transaction["holding"], "path": "/a note"}
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
    nlds = {"access key": NLDS_ACCESS_KEY, "secret key": NLDS_SECRET_KEY, "token in a query": NLDS_TOKEN}
    hops = {"gateway's secret": GATEWAYS_SECRET, "dslogic's secret": LOGICS_SECRET}
    seen = {"token": TOKEN, "altered key": run.key[:-1] + "~", **hops, **wrong, **nlds, **keys}
    assert all(len(secret) >= 16 for secret in seen.values())
    return {name: secret.encode() for name, secret in seen.items()}


def found(hidden: dict[str, bytes], places: dict[str, bytes]) -> list[str]:
    return [f"{name} in {place}" for place, content in places.items() for name in hidden if hidden[name] in content]


def test_no_secret_is_in_a_file_of_the_home_be_it_log_catalog_state_or_archive(
    run: Run, shared: Path, hidden: dict[str, bytes]
) -> None:
    files = {
        str(path.relative_to(run.trio.home)): path.read_bytes() for path in run.trio.home.rglob("*") if path.is_file()
    }
    assert {"Dsstat.json", "StatDesc.json", "LogStream.json", "catalog.sqlite", "services.log", "MANIFEST.json"} <= {
        Path(name).name for name in files
    }
    assert b"alice" in files["appdata/adm/Dsstat.json"]
    assert b'"event":"freeze"' in files["services.log"]
    assert b"putlist of alice: 1 files complete, 1 failed" in files["services.log"]
    assert not found(hidden, files | {path.name: path.read_bytes() for path in shared.iterdir()})


def test_no_secret_is_in_an_answer_a_page_or_a_metric(run: Run, hidden: dict[str, bytes]) -> None:
    assert len(run.said) > 60
    assert any(b"glitchflow_http_requests_total" in said for said in run.said.values())
    assert any(b"<html" in said.lower() for said in run.said.values())
    assert not found(hidden, run.said)


def test_no_secret_is_in_a_trace(run: Run, receiver: Receiver, hidden: dict[str, bytes]) -> None:
    assert len(receiver.spans) > 100
    assert {span.service for span in receiver.spans} == {service.name for service in run.trio.services}
    assert not found(hidden, {"traces": b"\n".join(receiver.bodies)})
