"""The gateway's answers agree with its OpenAPI document for every request."""

import re
from collections.abc import Callable, Iterator
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import sampled_from
from schemathesis import Case
from schemathesis.specs.openapi.schemas import OpenApiSchema

from gwwire.public import Scope
from gwwire.segment import MAX_SPACING, MAX_TIME
from gwwire.tiering import LONGEST_KEPT
from scripts.trio import Trio
from tests.support.keyring import Keyring

ROUTES = [
    ("GET", "/stats"),
    ("GET", "/dumpbuf"),
    ("GET", "/desc"),
    ("GET", "/dspage"),
    ("GET", "/search"),
    ("POST", "/streamdata"),
    ("POST", "/train"),
    ("POST", "/thaw"),
    ("POST", "/cleanbuf"),
    ("GET", "/overview"),
    ("GET", "/events"),
    ("GET", "/coverage"),
    ("GET", "/facets"),
    ("GET", "/log"),
    ("GET", "/batches"),
    ("GET", "/batches/{batch}"),
    ("GET", "/batches/{batch}/manifest"),
    ("POST", "/batches/{batch}/verify"),
    ("GET", "/batches/{batch}/replicas"),
    ("POST", "/batches/{batch}/recall"),
    ("GET", "/batches/{batch}/recall"),
    ("DELETE", "/batches/{batch}/recall"),
    ("PUT", "/batches/{batch}/tiering"),
    ("GET", "/segments"),
    ("GET", "/segments/{name}"),
    ("POST", "/bundles"),
    ("GET", "/bundles/{bundle}"),
    ("DELETE", "/bundles/{bundle}"),
    ("GET", "/bundles/{bundle}/archive"),
    ("GET", "/bundles/{bundle}/ready"),
    ("GET", "/records"),
    ("POST", "/records"),
    ("GET", "/records/{record}"),
    ("PUT", "/records/{record}"),
    ("PATCH", "/records/{record}"),
    ("PUT", "/records/{record}/steps/{step}"),
    ("DELETE", "/records/{record}/steps/{step}"),
    ("GET", "/steps"),
    ("GET", "/tiers"),
    ("DELETE", "/steps/{step}"),
    ("GET", "/changes"),
    ("GET", "/holdings"),
    ("GET", "/holdings/{holding}"),
    ("PATCH", "/holdings/{holding}"),
    ("DELETE", "/holdings/{holding}"),
    ("GET", "/holdings/{holding}/files"),
    ("GET", "/holdings/{holding}/files/{path}"),
    ("DELETE", "/holdings/{holding}/files/{path}"),
    ("GET", "/transactions"),
    ("POST", "/transactions"),
    ("GET", "/transactions/{transaction}"),
    ("POST", "/transactions/{transaction}/undo"),
    ("GET", "/transactions/{transaction}/files"),
    ("GET", "/transactions/{transaction}/files/{path}"),
    ("PUT", "/transactions/{transaction}/files/{path}"),
    ("DELETE", "/transactions/{transaction}/files/{path}"),
    ("POST", "/steps/{step}/claim"),
    ("POST", "/tiering/plan"),
    ("POST", "/tiering/apply"),
    ("GET", "/graphql"),
    ("POST", "/graphql"),
    ("GET", "/api/version"),
    ("GET", "/api/v1/{ext}.json"),
    ("GET", "/api/v1/{ext}/{site}.json"),
    ("GET", "/api/v1/{ext}/{site}/{frametype}/segments.json"),
    ("GET", "/api/v1/{ext}/{site}/{frametype}/segments/{start},{stop}.json"),
    ("GET", "/api/v1/{ext}/{site}/{frametype}/{start},{stop}.json"),
    ("GET", "/api/v1/{ext}/{site}/{frametype}/{start},{stop}/{urltype}.json"),
    ("GET", "/api/v1/{ext}/{site}/{frametype}/latest.json"),
    ("GET", "/api/v1/{ext}/{site}/{frametype}/latest/{urltype}.json"),
    ("GET", "/api/v1/{ext}/{site}/{frametype}/{name}.json"),
    ("GET", "/files/{name}"),
    ("GET", "/.well-known/wlcg-tape-rest-api"),
    ("POST", "/api/tape/v1/stage"),
    ("GET", "/api/tape/v1/stage/{request}"),
    ("POST", "/api/tape/v1/stage/{request}/cancel"),
    ("DELETE", "/api/tape/v1/stage/{request}"),
    ("POST", "/api/tape/v1/release/{request}"),
    ("POST", "/api/tape/v1/archiveinfo"),
    ("GET", "/problems"),
    ("GET", "/problems/{code}"),
    ("GET", "/whoami"),
    ("POST", "/session"),
    ("DELETE", "/session"),
    ("GET", "/metrics"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
]


@pytest.fixture(scope="module")
def promised(start_shared_trio: Callable[..., Trio]) -> OpenApiSchema:
    trio = start_shared_trio({"MAX_SIZE": "1kB"})
    return schemathesis.openapi.from_url(f"{trio.url}/openapi.json")


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    """Return a session that keeps its connections, but no cookies."""
    with requests.Session() as session:
        session.trust_env = False
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        yield session


def test_the_document_names_every_route_of_the_gateway(promised: OpenApiSchema) -> None:
    documented = {(method.upper(), path) for path, operations in promised.items() for method in operations}
    assert documented == set(ROUTES)


def adapt(case: Case[Any]) -> None:
    """Leave out and correct what the document cannot say.

    A key may have been used for other bytes, one segment has no keys of lines, the stop of a span may be too early,
    an ETag is one of before, a condition or tag contradicts another of its name. Ids have slashes, the paths of
    files have names between them, 1.0 is not a whole number, a step cannot wait for itself, and only good records
    are offered for one. A bundle has either a query or names. A holding that exists has another label. The buffer
    has no tier, and without one no policy lets the disk drop a batch. A claim of nothing would wait for a minute, a
    feed for ever.
    """
    case.headers.pop("Idempotency-Key", None)
    if case.media_type == "application/json":
        case.headers.pop("Idempotency-Keys", None)
    case.headers.pop("if-match", None)
    case.headers.pop("if-none-match", None)
    adapt_query(case.query)
    adapt_path(case.path_parameters)
    case.body = with_length(with_whole_numbers(with_paths(case.body)))
    if case.path == "/bundles" and isinstance(case.body, dict):
        case.body = {"format": "manifest", "query": {}} if case.body.get("names") else {"query": {"channel": "H1:A"}}
    if case.path == "/transactions" and isinstance(case.body, dict) and case.body.get("holding") is not None:
        case.body.pop("label", None)
    if isinstance(case.body, dict) and is_policy(case.body.get("tiering")):
        case.body["tiering"] = {}
    if case.path.endswith("/tiering") and is_policy(case.body):
        case.body = {}
    if case.path.endswith("/claim") and isinstance(case.body, dict):
        case.path_parameters |= {"step": "a-step-that-none-waits-for"} if "step" in case.path_parameters else {}
        case.body.pop("wait", None)
        case.body.pop("before", None)
        if isinstance(query := case.body.get("query"), dict):
            query.pop("stop", None)
            query.pop("status", None)


def adapt_query(query: dict[str, Any]) -> None:
    for waiting in ("feed", "wait"):
        query.pop(waiting, None)
    if "start" in query:
        query.pop("stop", None)
    if "condition" in query:
        of_names = {re.split("[<>=!]", text)[0]: text for text in query["condition"]}
        query["condition"] = list(of_names.values())
    if isinstance(tags := query.get("tag"), str):
        query["tag"] = ",".join({text.partition(":")[0]: text for text in tags.split(",")}.values())


def with_length(segment: Any) -> Any:
    """Return a segment that ends after it begins, and in time, which the document cannot say of its times."""
    match segment:
        case {"h": [*h], "t": [int() | float() as t0, int() | float() as dt]} if (
            abs(t0) < MAX_TIME and abs(dt) <= MAX_SPACING
        ):
            stop = t0 + len(h) * dt
            return {**segment, "t": [0, dt]} if stop == t0 or stop >= MAX_TIME else segment
    return segment


def adapt_path(parameters: dict[str, Any]) -> None:
    if "record" in parameters:
        parameters["record"] = f"file/{len(parameters['record']) % 3}"
    if "path" in parameters:
        parameters["path"] = "data/a.h5"
    if "name" in parameters:  # in a path of GWDataFind, a comma is between two times
        parameters["name"] = parameters["name"].replace(",", "_")


def with_paths(body: Any) -> Any:
    """Return the body of a request with paths that files can have, if it has a list of files."""
    if not isinstance(body, dict) or not isinstance(body.get("files"), list):
        return body
    return {**body, "files": [{"path": f"/data/{number}"} for number, _ in enumerate(body["files"])]}


def is_policy(value: Any) -> bool:
    """Return whether the document allows a value as a Tiering."""
    if not isinstance(value, dict) or not value.keys() <= {"archive_to", "keep_on_disk"}:
        return False
    tiers, seconds = value.get("archive_to", []), value.get("keep_on_disk")
    names = isinstance(tiers, list) and all(
        isinstance(each, str) and re.fullmatch(r"[a-z][a-z0-9-]{0,31}", each) for each in tiers
    )
    return names and (seconds is None or (type(seconds) is int and 0 <= seconds <= LONGEST_KEPT)) and len(tiers) <= 16


def with_whole_numbers(value: Any) -> Any:
    match value:
        case dict():
            return {key: with_whole_numbers(each) for key, each in value.items()}
        case list():
            return [with_whole_numbers(each) for each in value]
        case float() if value.is_integer():
            return int(value)
    return value


schemathesis.serializer.alias("application/x-ndjson", "text/plain")


#: An answer of /events has no end, and a WebSocket is none; test_events.py and test_bundle_ready.py are about them.
ANSWERED = [route for route in ROUTES if route[1] not in {"/events", "/bundles/{bundle}/ready"}]


@pytest.mark.parametrize(("method", "path"), ANSWERED)
def test_every_answer_is_one_the_document_describes(
    promised: OpenApiSchema, session: requests.Session, method: str, path: str
) -> None:
    @given(case=promised[path][method].as_strategy())
    @settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def check(case: Case[Any]) -> None:
        adapt(case)
        case.call_and_validate(session=session, timeout=60)

    check()


# ---- with AUTH=keys


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return Keyring(tmp_path_factory.mktemp("keys") / "keys.json")


@pytest.fixture(scope="module")
def anyones(keys: Keyring) -> dict[str, str]:
    return {f"Bearer {keys.make('anyone', scope)}": scope for scope in Scope}


@pytest.fixture(scope="module")
def guarded(start_shared_trio: Callable[..., Trio], keys: Keyring, anyones: dict[str, str]) -> OpenApiSchema:
    assert anyones
    trio = start_shared_trio({"MAX_SIZE": "1kB", **keys.settings})
    return schemathesis.openapi.from_url(f"{trio.url}/openapi.json")


@pytest.mark.parametrize(("method", "path"), ANSWERED)
def test_with_keys_every_answer_is_described_for_every_caller(
    guarded: OpenApiSchema, session: requests.Session, anyones: dict[str, str], method: str, path: str
) -> None:
    declared = guarded.raw_schema["paths"][path][method.lower()].get("security", [])
    needed = [scope for one in declared for scope in one.get("bearer", [])]
    authorizations = [*anyones, "Bearer nobody", ""]

    @given(case=guarded[path][method].as_strategy(), authorization=sampled_from(authorizations))
    @settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def check(case: Case[Any], authorization: str) -> None:
        adapt(case)
        case.cookies.clear()
        answer = case.call_and_validate(session=session, timeout=60, headers={"Authorization": authorization})
        assert (answer.status_code == 401) == (bool(needed) and authorization not in anyones) or path == "/session"
        if needed and anyones.get(authorization) not in {*needed, "admin", None}:
            assert answer.status_code == 403

    check()
