"""docs/api.md and the README's table: the routes of the gateway, with their scopes, and those of the lower services."""

import json
import re
from pathlib import Path

from fastapi import APIRouter
from fastapi.routing import APIRoute

from databuffer.routes import routers as buffer_routers
from dslogic.app import create_app as create_logic
from dslogic.asgi import relayed_routes
from dslogic.settings import LogicSettings
from glitchflow_api.app import create_app
from glitchflow_api.settings import GatewaySettings
from gwwire.public import AuthMode

ROOT = Path(__file__).parents[2]
API = (ROOT / "docs" / "api.md").read_text()
README = (ROOT / "README.md").read_text()
#: The routes of the original's gateway.
ORIGINAL = {
    *("GET /stats", "GET /dumpbuf", "GET /desc", "GET /dspage"),
    *("POST /train", "POST /streamdata", "POST /cleanbuf"),
}


def rows(text: str) -> list[list[str]]:
    """Return the cells of each row of a table that begins with a route."""
    lines = re.findall(r"^\| ((?:GET|POST|PUT|PATCH|DELETE) /.*) \|$", text, re.MULTILINE)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines]


def served_by(router: APIRouter) -> set[str]:
    routes = [route for route in router.routes if isinstance(route, APIRoute) and route.include_in_schema]
    served = {f"{method} {route.path}" for route in routes for method in route.methods or ()}
    return {route for route in served if not route.startswith("OPTIONS")}


def test_the_tables_are_the_routes_of_the_openapi_document_with_their_scopes(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"keys": []}))
    document = create_app(GatewaySettings(AUTH=AuthMode.KEYS, KEYS_FILE=keys)).openapi()
    served = {
        f"{method.upper()} {path}": {
            scope for one in operation.get("security", []) for of in one.values() for scope in of
        }
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert len(rows(API)) == len(served)
    assert {row[0]: {row[1]} - {"none"} for row in rows(API)} == served


def test_the_readmes_table_has_the_routes_of_the_original() -> None:
    assert {row[0] for row in rows(README)} == ORIGINAL
    assert {row[0] for row in rows(API)} > ORIGINAL


def test_the_lower_tiers_routes_are_named() -> None:
    named = set(re.findall(r"`((?:GET|POST) /\w*)`", API.partition("## The services behind the gateway")[2]))
    settings = LogicSettings.load()
    logic = {f"GET {path}" for path in relayed_routes(settings)} | {
        f"{method} {rule.rule}"
        for rule in create_logic(settings=settings).url_map.iter_rules()
        for method in (rule.methods or set()) & {"GET", "POST"}
    }
    served = set().union(*map(served_by, buffer_routers)) | logic
    in_words = "/(static|batches|bundles|segments|records|steps|changes|tier|tape|holdings|transactions)"
    assert named == {route for route in served if not re.search(in_words, route)}
