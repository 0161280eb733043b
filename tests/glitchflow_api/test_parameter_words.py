"""The answers about parameters that do not match their patterns say which characters are allowed."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient

from glitchflow_api.app import create_app
from glitchflow_api.settings import GatewaySettings
from gwservice.validation import PATTERNS
from gwwire.names import PRINTABLE

#: The parameters whose pattern another part checks, with its own words.
CHECKED_ELSEWHERE = {
    *(
        "query.run",
        "query.status",
        "query.condition",
        "query.regex",
        "header.Idempotency-Key",
        "header.Idempotency-Keys",
    )
}


def patterns_of(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        for each in schema.values():
            yield from patterns_of(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from patterns_of(each)


def test_every_pattern_of_a_parameter_has_words() -> None:
    found = {
        (f"{parameter['in']}.{parameter['name']}", pattern)
        for path in create_app(GatewaySettings()).openapi()["paths"].values()
        for operation in path.values()
        for parameter in operation.get("parameters", ())
        for pattern in patterns_of(parameter["schema"])
    }
    workers_step = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"  # what the document says; names with a colon are refused later
    assert {each for each in found if each[0] not in CHECKED_ELSEWHERE and each[1] not in PATTERNS} == {
        ("path.step", workers_step)
    }
    assert PRINTABLE not in PATTERNS


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/holdings?tag=x", "query.tag: expected tags as NAME:VALUE,NAME:VALUE; names have letters, digits, '_', '.'"),
        ("/api/tape/v1/stage/x%20y", "path.request: expected the id of a stage request: 'stage-' and 32 digits"),
        ("/batches/a%20b", "path.batch: expected letters, digits, '_', '.' and '-', got 'a b'"),
        ("/api/v1/gwf/L/X/1,2.json?match=(a)", "query.match: expected a part of a URL: letters, digits and _/:.%~-"),
        ("/records?last=a%20b", "query.last: expected the name of a step: letters A to Z and a to z, digits, '_'"),
    ],
)
def test_a_parameter_is_refused_with_the_characters_that_it_may_have(path: str, words: str) -> None:
    with TestClient(create_app(GatewaySettings())) as client:
        answer = client.get(path)
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(words)
