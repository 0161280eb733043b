"""The gateway's answers agree with its OpenAPI document for every request."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import sampled_from
from schemathesis import Case
from schemathesis.specs.openapi.schemas import OpenApiSchema

from gwwire.public import Scope
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
    ("GET", "/segments"),
    ("GET", "/segments/{name}"),
    ("POST", "/bundles"),
    ("GET", "/bundles/{bundle}"),
    ("DELETE", "/bundles/{bundle}"),
    ("GET", "/bundles/{bundle}/archive"),
    ("GET", "/records"),
    ("POST", "/records"),
    ("GET", "/records/{record}"),
    ("PUT", "/records/{record}"),
    ("PATCH", "/records/{record}"),
    ("PUT", "/records/{record}/steps/{step}"),
    ("DELETE", "/records/{record}/steps/{step}"),
    ("GET", "/steps"),
    ("GET", "/changes"),
    ("POST", "/steps/{step}/claim"),
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


def test_the_document_names_every_route_of_the_gateway(promised: OpenApiSchema) -> None:
    documented = {(method.upper(), path) for path, operations in promised.items() for method in operations}
    assert documented == set(ROUTES)


def adapt(case: Case[Any]) -> None:
    """Leave out and correct what the document cannot say.

    A key may have been used for other bytes, the stop of a span may be too early, an ETag is one of before, a condition
    contradicts another of its name. Ids have slashes, 1.0 is not a whole number, a step cannot wait for itself, and
    only good records are offered for one. A bundle has either a query or names. A claim of nothing would wait for a
    minute, a feed for ever.
    """
    case.headers.pop("Idempotency-Key", None)
    case.headers.pop("if-match", None)
    case.query.pop("feed", None)
    if "start" in case.query:
        case.query.pop("stop", None)
    if "condition" in case.query:
        of_names = {re.split("[<>=!]", text)[0]: text for text in case.query["condition"]}
        case.query["condition"] = list(of_names.values())
    if "record" in case.path_parameters:
        case.path_parameters["record"] = f"file/{len(case.path_parameters['record']) % 3}"
    case.body = with_whole_numbers(case.body)
    if case.path == "/bundles" and isinstance(case.body, dict):
        case.body = {"format": "manifest", "query": {}} if case.body.get("names") else {"query": {"channel": "H1:A"}}
    if case.path.endswith("/claim") and isinstance(case.body, dict):
        case.path_parameters |= {"step": "a-step-that-none-waits-for"} if "step" in case.path_parameters else {}
        case.body.pop("wait", None)
        if isinstance(query := case.body.get("query"), dict):
            query.pop("stop", None)
            query.pop("status", None)


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


# An answer of /events has no end; tests/glitchflow_api/test_events.py compares it with the description.
@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route[1] != "/events"])
def test_every_answer_is_one_the_document_describes(promised: OpenApiSchema, method: str, path: str) -> None:
    @given(case=promised[path][method].as_strategy())
    @settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def check(case: Case[Any]) -> None:
        adapt(case)
        case.call_and_validate()

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


@pytest.mark.parametrize(("method", "path"), [route for route in ROUTES if route[1] != "/events"])
def test_with_keys_every_answer_is_described_for_every_caller(
    guarded: OpenApiSchema, anyones: dict[str, str], method: str, path: str
) -> None:
    declared = guarded.raw_schema["paths"][path][method.lower()].get("security", [])
    needed = [scope for one in declared for scope in one.get("bearer", [])]
    authorizations = [*anyones, "Bearer nobody", ""]

    @given(case=guarded[path][method].as_strategy(), authorization=sampled_from(authorizations))
    @settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def check(case: Case[Any], authorization: str) -> None:
        adapt(case)
        case.cookies.clear()
        answer = case.call_and_validate(headers={"Authorization": authorization})
        assert (answer.status_code == 401) == (bool(needed) and authorization not in anyones) or path == "/session"
        if needed and anyones.get(authorization) not in {*needed, "admin", None}:
            assert answer.status_code == 403

    check()
