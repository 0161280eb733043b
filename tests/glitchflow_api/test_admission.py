"""Access control: every route of the gateway with every kind of credential."""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI, Response
from fastapi.testclient import TestClient
from starlette.routing import BaseRoute, Route, WebSocketRoute

from glitchflow_api.app import create_app
from glitchflow_api.key_file import make_key
from glitchflow_api.settings import GatewaySettings
from gwservice.observability import Edge
from gwwire.public import Scope
from scripts.trio import free_ports
from tests.support.keyring import Keyring
from tests.support.scopes import NEEDED


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return Keyring(tmp_path_factory.mktemp("keys") / "keys.json")


@pytest.fixture(scope="module")
def keys(ring: Keyring) -> Mapping[str, str]:
    """A key for each scope, and some that are not valid, or no longer valid."""
    made = {scope.value: ring.make("alice", scope, group="detchar") for scope in Scope}
    past = datetime.now(UTC) - timedelta(seconds=1)
    revoked, expired = (ring.make("alice", Scope.ADMIN) for _ in range(2))
    ring.change(revoked, revoked=past)
    ring.change(expired, expires=past)
    return {
        **made,
        "revoked": revoked,
        "expired": expired,
        "wrong": made["admin"][:-1] + ("A" if made["admin"][-1] != "A" else "B"),
        "unknown": make_key("mallory", [Scope.ADMIN])[0],
        "no key": "gf_x",
        "not even text": "\xff\xfe",
    }


@pytest.fixture(scope="module")
def app(ring: Keyring, keys: Mapping[str, str]) -> FastAPI:
    assert keys
    # There is no lower service: an admitted request is answered with 502, and changes nothing.
    below = f"http://127.0.0.1:{free_ports().logic}"
    return create_app(GatewaySettings.model_validate({"DS_BURL": below, **ring.settings}))


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def served(app: FastAPI) -> set[str]:
    """Return every route of the application, including those of included routers and undocumented ones."""
    routes: list[BaseRoute] = []
    for route in app.routes:
        of_router = getattr(route, "original_router", app).routes
        routes += [route] if isinstance(route, (Route, WebSocketRoute)) else of_router
    assert all(isinstance(route, (Route, WebSocketRoute)) for route in routes)
    methods = [(method, route) for route in routes if isinstance(route, Route) for method in route.methods or ()]
    handshakes = {f"GET {route.path_format}" for route in routes if isinstance(route, WebSocketRoute)}
    return handshakes | {f"{method} {route.path_format}" for method, route in methods if method != "HEAD"}


Headers = dict[bytes, bytes]


def bearer(key: str) -> Headers:
    return {b"Authorization": f"Bearer {key}".encode("latin-1")}


def ask(client: TestClient, route: str, headers: Headers) -> tuple[int, dict[str, object]]:
    method, path = route.split()
    if path == "/events":  # its answer has no end: here another application is behind the admission
        app = client.app
        assert isinstance(app, FastAPI)
        teapot = Response(status_code=418)
        client = TestClient(Edge(teapot, "the gateway", handlers={}, admit=app.state.admission.admit))
    answer = client.request(method, re.sub(r"{\w+}", "b1", path), headers=headers, content=b"{}")
    problem = answer.headers["content-type"] == "application/problem+json" if answer.content else False
    return answer.status_code, answer.json() if problem else {}


def test_every_route_of_the_gateway_is_in_the_table(app: FastAPI) -> None:
    assert served(app) == set(NEEDED)


@pytest.mark.parametrize("route", NEEDED)
def test_a_route_is_open_to_callers_with_its_scope_and_to_no_others(
    client: TestClient, keys: Mapping[str, str], route: str
) -> None:
    needed = NEEDED[route]
    for name, key in keys.items():
        status, problem = ask(client, route, bearer(key))
        if name in {needed, "admin"} or (needed == "open" and route != "POST /session"):
            assert status not in {401, 403}, (name, problem)
        elif needed == "open":
            assert (status, problem["code"]) == (422, "invalid-request")
        elif name in set(Scope):
            assert (status, problem["code"]) == (403, "forbidden"), name
            assert f"`{needed}`" in str(problem["detail"])
        else:
            assert (status, problem["code"]) == (401, "unauthorized"), name
    status, problem = ask(client, route, {})
    assert (status == 401) == (needed != "open")


@pytest.mark.parametrize(
    "path",
    ["/nothing", "//", "//stats", "/streamdata/../stats", "/STATS", "/batches/b1/burn", "/%73tats", "/stats%2F.."],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "QUERY"])
def test_a_path_spelled_otherwise_opens_nothing(
    client: TestClient, keys: Mapping[str, str], method: str, path: str
) -> None:
    assert client.request(method, f"http://testserver{path}").status_code == 401
    answer = client.request(method, f"http://testserver{path}", headers=bearer(keys["train"]))
    assert answer.status_code == 403


def test_a_refusal_says_how_to_come_in(client: TestClient) -> None:
    answer = client.get("/stats")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("header", ["bearer {}", "BEARER  {}", "Bearer {} "])
def test_the_scheme_may_be_written_in_any_way(client: TestClient, keys: Mapping[str, str], header: str) -> None:
    told = client.get("/whoami", headers={"Authorization": header.format(keys["read"])}).json()
    assert told["scopes"] == ["read"]


@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer", "", "{}", "Digest {}"])
def test_another_scheme_is_not_a_credential(client: TestClient, keys: Mapping[str, str], header: str) -> None:
    assert client.get("/stats", headers={"Authorization": header.format(keys["read"])}).status_code == 401


def test_whoami_names_the_user_of_the_key_and_never_refuses(client: TestClient, keys: Mapping[str, str]) -> None:
    whoami = {name: client.get("/whoami", headers=bearer(key)) for name, key in keys.items()}
    assert {answer.status_code for answer in whoami.values()} == {200}
    assert whoami["train"].json() == {"auth": "keys", "name": "alice", "group": "detchar", "scopes": ["train"]}
    assert whoami["admin"].json()["scopes"] == list(Scope)
    nobody: dict[str, object] = {"auth": "keys", "name": None, "group": None, "scopes": []}
    assert client.get("/whoami").json() == whoami["revoked"].json() == whoami["not even text"].json() == nobody


def test_with_auth_off_anybody_may_do_everything(keys: Mapping[str, str]) -> None:
    below = f"http://127.0.0.1:{free_ports().logic}"
    with TestClient(create_app(GatewaySettings.model_validate({"DS_BURL": below}))) as client:
        for headers in (Headers(), bearer(keys["revoked"])):
            told = client.get("/whoami", headers=headers).json()
            assert told == {"auth": "off", "name": None, "group": None, "scopes": list(Scope)}
            assert client.get("/stats", headers=headers).status_code == 502
        order = json.dumps({"user": "somebody", "token": "t"})
        assert client.post("/train", content=order).status_code == 502
        assert client.post("/cleanbuf", json={"msg": ""}, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


# ---- orders for other users


@pytest.mark.parametrize("route", ["/train", "/thaw"])
def test_a_caller_gives_orders_in_their_own_name_only(client: TestClient, keys: Mapping[str, str], route: str) -> None:
    own = client.post(route, json={"user": "alice", "token": "t"}, headers=bearer(keys["train"]))
    assert own.status_code == 502  # it was admitted, but there is no lower service
    other = client.post(route, json={"user": "bob", "token": "t"}, headers=bearer(keys["train"]))
    assert (other.status_code, other.json()["code"], other.json()["field"]) == (403, "not-caller", "user")
    for body, status in ((b"", 400), (b"[]", 422), (b'{"token":"t"}', 422), (b'{"user":null,"token":"t"}', 422)):
        assert client.post(route, content=body, headers=bearer(keys["train"])).status_code == status
    anyone = client.post(route, json={"user": "bob", "token": "t"}, headers=bearer(keys["admin"]))
    assert anyone.status_code == 502


# ---- the cookie


def test_a_browser_keeps_the_key_in_a_cookie_that_no_script_reads(app: FastAPI, keys: Mapping[str, str]) -> None:
    with TestClient(app) as browser:
        begun = browser.post("/session", json={"key": keys["read"]})
        assert begun.status_code == 204
        assert {part.strip() for part in begun.headers["set-cookie"].split(";")} == {
            f"glitchflow={keys['read']}",
            "HttpOnly",
            "Path=/",
            "SameSite=strict",
        }
        assert browser.get("/whoami").json()["scopes"] == ["read"]
        assert browser.get("/stats").status_code == 502
        # The header that a program sets takes precedence over the cookie that the browser adds.
        assert browser.get("/whoami", headers=bearer(keys["clean"])).json()["scopes"] == ["clean"]
        assert browser.get("/whoami", headers=bearer(keys["wrong"])).json()["scopes"] == []
        assert browser.get("/whoami", headers={"Authorization": "Basic YTpi"}).json()["scopes"] == ["read"]
        ended = browser.delete("/session")
        assert ended.status_code == 204
        assert "Max-Age=0" in ended.headers["set-cookie"]
        assert browser.get("/whoami").json()["scopes"] == []


def test_over_https_the_cookie_is_for_https_only(app: FastAPI, keys: Mapping[str, str]) -> None:
    order = {"key": keys["read"]}
    with TestClient(app, base_url="https://testserver") as browser:
        assert "; Secure" in browser.post("/session", json=order).headers["set-cookie"]
    with TestClient(app) as behind_a_proxy:
        forwarded = behind_a_proxy.post("/session", json=order, headers={"X-Forwarded-Proto": "https"})
        assert "; Secure" in forwarded.headers["set-cookie"]


@pytest.mark.parametrize("name", ["wrong", "revoked", "expired", "unknown", "no key"])
def test_a_key_that_is_not_valid_begins_no_session(client: TestClient, keys: Mapping[str, str], name: str) -> None:
    answer = client.post("/session", json={"key": keys[name]})
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("key", ["a; Domain=evil.org", "a\r\nSet-Cookie: b=c", "", "a b", "é"])
def test_an_invalid_credential_is_not_stored_in_a_cookie_even_with_auth_off(key: str) -> None:
    with TestClient(create_app(GatewaySettings())) as client:
        answer = client.post("/session", json={"key": key})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers


def test_a_strange_cookie_beside_it_hides_nothing(client: TestClient, keys: Mapping[str, str]) -> None:
    cookie = f'other="x; y=[1,2]; glitchflow={keys["read"]}; z'
    assert client.get("/whoami", headers={"Cookie": cookie}).json()["scopes"] == ["read"]


# ---- other sites


@pytest.mark.parametrize("route", [route for route in NEEDED if not route.startswith(("GET", "OPTIONS"))])
def test_an_order_of_another_sites_page_is_refused_even_with_a_key(
    client: TestClient, keys: Mapping[str, str], route: str
) -> None:
    for headers in ({b"Sec-Fetch-Site": b"cross-site"}, {b"Origin": b"https://evil.example.org"}):
        status, problem = ask(client, route, {**headers, b"Cookie": f"glitchflow={keys['admin']}".encode()})
        assert (status, problem["code"]) == (403, "cross-site")


# ---- the log


def test_an_order_is_logged_with_its_caller_and_without_the_key(
    client: TestClient, keys: Mapping[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "glitchflow_api.admission"):
        client.post("/cleanbuf", json={"msg": ""}, headers=bearer(keys["clean"]))
        client.post("/batches/b%0A1/verify", headers=bearer(keys["clean"]))
        client.post("/cleanbuf", json={"msg": ""}, headers=bearer(keys["train"]))
        client.post("/streamdata", json={}, headers=bearer(keys["stream"]))
        client.get("/stats", headers=bearer(keys["read"]))
    told = [record for record in caplog.records if record.name == "glitchflow_api.admission"]
    assert [record.getMessage() for record in told] == [
        "POST '/cleanbuf' requested by alice",
        "POST '/batches/b\\n1/verify' requested by alice",
    ]
    assert {vars(record)["caller"] for record in told} == {"alice"}
    assert "gf_" not in caplog.text


# ---- changes at run time


def test_a_new_key_is_known_and_a_revoked_one_refused_while_the_gateway_runs(tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "keys.json")
    first = ring.make("alice", Scope.READ)
    app = create_app(GatewaySettings.model_validate(ring.settings))
    app.state.authenticator._file._look_seconds = 0  # noqa: SLF001 (not to wait a second for each look)
    with TestClient(app) as client:

        def scopes(key: str) -> list[str]:
            told: list[str] = client.get("/whoami", headers=bearer(key)).json()["scopes"]
            return told

        assert scopes(first) == ["read"]
        second = ring.make("bob", Scope.CLEAN)
        assert (scopes(first), scopes(second)) == (["read"], ["clean"])
        text = ring.path.read_text()
        ring.path.write_text(text[:-10])
        assert (scopes(first), scopes(second)) == (["read"], ["clean"])
        ring.path.write_text(text)
        ring.change(first, revoked=datetime(2026, 11, 20, tzinfo=UTC))
        assert (scopes(first), scopes(second)) == ([], ["clean"])
        assert client.get("/stats", headers=bearer(first)).json()["detail"] == (
            f"the API key {first[3:15]} is revoked since 2026-11-20 00:00:00 UTC"
        )
