"""The public models are declared in gwwire alone; the gateway describes them and the client decodes into them."""

import ast
import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from glitchflow_api.app import create_app
from glitchflow_api.openapi import EXAMPLES, MODELS
from glitchflow_api.settings import GatewaySettings
from gwclient.client import GlitchflowClient
from gwwire.public import StreamAnswer

ROOT = Path(__file__).parents[2]
NAMES = {model.__name__ for model in MODELS}
FIELDS = {frozenset(model.__struct_fields__): model.__name__ for model in MODELS if len(model.__struct_fields__) > 1}


def declared_fields(node: ast.ClassDef) -> frozenset[str]:
    return frozenset(ast.unparse(each.target) for each in node.body if isinstance(each, ast.AnnAssign))


# The buffer's own rows may look like public models: they describe what is stored on the disk.
@pytest.mark.parametrize("package", ["dslogic", "glitchflow_api", "gwclient", "gwfiles", "gwservice"])
def test_no_public_model_is_declared_again(package: str) -> None:
    again = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and (node.name in NAMES or declared_fields(node) in FIELDS)
    ]
    assert not again


def test_the_document_describes_exactly_the_public_models_and_refers_to_each() -> None:
    document = create_app(GatewaySettings()).openapi()
    schemas = document["components"]["schemas"]
    assert schemas.keys() >= NAMES
    assert set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document))) == schemas.keys()


@pytest.mark.parametrize(
    "verb", [verb for name, verb in inspect.getmembers(GlitchflowClient, inspect.iscoroutinefunction) if name[0] != "_"]
)
def test_the_client_answers_with_public_models(verb: Callable[..., Any]) -> None:
    answer = get_type_hints(verb)["return"]
    structs = [
        each for each in (answer, *get_args(answer)) if isinstance(each, type) and issubclass(each, msgspec.Struct)
    ]
    assert {each.__name__ for each in structs} <= {"About", "SearchResult"} or set(structs) <= set(MODELS)


@pytest.mark.parametrize("example", [each for examples in EXAMPLES.values() for each in examples])
def test_an_example_is_valid(example: msgspec.Struct) -> None:
    assert msgspec.json.decode(msgspec.json.encode(example), type=type(example)) == example


def test_a_field_of_a_later_version_is_ignored() -> None:
    answer = msgspec.json.decode(b'{"resp":"CREATED","body":"","later":1}', type=StreamAnswer)
    assert answer == StreamAnswer("CREATED")
