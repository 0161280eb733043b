"""docs/security.md says who may do what; the gateway does it."""

import re
from pathlib import Path

from glitchflow_api.access import EVERYTHING, implied, scope_needed
from gwwire.public import Scope
from tests.support.scopes import NEEDED

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "security.md").read_text()
POLICY = (ROOT / "SECURITY.md").read_text()


def section(title: str) -> str:
    return re.split(r"\n## ", TEXT.partition(f"## {title}\n")[2])[0]


def told_scopes() -> dict[str, set[tuple[str, str]]]:
    """Return the routes of each scope from the table: `GET /stats, /dumpbuf; POST /session`."""
    seen: dict[str, set[tuple[str, str]]] = {}
    for line in section("Scopes").partition("###")[0].splitlines():
        if (row := re.fullmatch(r"\| `?(\w+)`? \| (.*) \|", line)) and row[1] != "scope":
            seen[row[1]] = {
                (method, path)
                for part in row[2].split("; ")
                for method, paths in [part.partition(" ")[::2]]
                for path in (paths.split(", ") if paths else ["*"])
            }
    return seen


def test_each_route_needs_the_scope_that_the_table_says() -> None:
    seen = told_scopes()
    assert seen.keys() == {"read", "stream", "train", "clean", "work", "admin", "none"}
    for scope, routes in seen.items():
        for method, path in routes - {("OPTIONS", "*")}:
            assert scope_needed(method, path) == (None if scope == "none" else scope), (method, path)
    assert ("OPTIONS", "*") in seen["none"]
    assert scope_needed("OPTIONS", "/anything") is None


def test_the_table_and_the_access_tests_have_the_same_routes() -> None:
    table = {
        f"{method} {path}": scope.replace("none", "open") for scope, of in told_scopes().items() for method, path in of
    }
    del table["OPTIONS *"]
    same = {route for route in NEEDED if route.endswith("/") and route[:-1] in NEEDED}
    named = {route for route in NEEDED if not route.startswith("OPTIONS")} - same
    assert table == {route: NEEDED[route] for route in named}


def test_routes_that_are_not_listed_need_admin_and_admin_has_all_scopes() -> None:
    assert scope_needed("POST", "/anything") == scope_needed("GET", "/anything") == Scope.ADMIN
    assert implied(frozenset({Scope.ADMIN})) == EVERYTHING
    for scope in set(Scope) - {Scope.ADMIN}:
        assert implied(frozenset({scope})) == {scope}


def test_the_power_of_a_stolen_credential_is_documented_for_every_scope() -> None:
    stolen = section("Scopes").partition("### What a stolen credential can do")[2]
    assert set(re.findall(r"^\| `(\w+)` \|", stolen, re.MULTILINE)) == set(Scope)


def test_the_policy_has_its_sections() -> None:
    titles = set(re.findall(r"^## (.*)$", TEXT, re.MULTILINE))
    assert {"Who is trusted at which hop", "Between the services", "Limits", "Out of scope"} <= titles


def test_the_policy_says_how_to_report_and_leads_to_the_rest() -> None:
    assert "Report a vulnerability" in POLICY
    assert "(docs/security.md)" in POLICY
    assert "(../SECURITY.md)" in TEXT
