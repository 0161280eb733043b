"""What the README and its tables in docs/ say exists, and what exists is in them."""

import re
import subprocess
from pathlib import Path

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.routing import Route

from databuffer.routes import routers as buffer_routers
from databuffer.settings import BufferSettings
from dslogic.app import create_app
from dslogic.asgi import relayed_routes
from dslogic.settings import LogicSettings
from glitchflow_api.routes import data_route as streamdata_route
from glitchflow_api.routes import router as gateway_routes
from glitchflow_api.sessions import router as session_routes
from glitchflow_api.settings import GatewaySettings
from gwclient.cli import gwclient
from gwservice.settings import ServiceSettings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text()
CLIENT = (ROOT / "docs" / "client.md").read_text()
SETTINGS = (ROOT / "docs" / "configuration.md").read_text()
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def table_rows(first_cell: str, told: str = README) -> list[list[str]]:
    rows = [line.strip("|").split("|") for line in told.splitlines() if line.startswith(f"| {first_cell}")]
    return [[cell.strip() for cell in row] for row in rows]


def served_by(router: APIRouter, *others: Route) -> set[str]:
    routes = [route for route in router.routes if isinstance(route, APIRoute) and route.include_in_schema]
    served = {f"{method} {route.path}" for route in [*routes, *others] for method in route.methods or ()}
    return {route for route in served if not route.startswith("OPTIONS")}


def test_the_routes_table_is_the_gateways() -> None:
    told = {row[0] for method in ("GET", "POST", "DELETE") for row in table_rows(f"{method} /")}
    assert told == served_by(gateway_routes, streamdata_route) | served_by(session_routes)


def test_the_lower_tiers_routes_are_named() -> None:
    lower = ARCHITECTURE[ARCHITECTURE.index("The services behind the gateway") :].split("\n\n")[0]
    told = set(re.findall(r"`((?:GET|POST) /\w*)`", lower))
    settings = LogicSettings.load()
    logic = {f"GET {path}" for path in relayed_routes(settings)} | {
        f"{method} {rule.rule}"
        for rule in create_app(settings=settings).url_map.iter_rules()
        for method in (rule.methods or set()) & {"GET", "POST"}
    }
    served = set().union(*map(served_by, buffer_routers)) | logic
    assert told == {route for route in served if not re.search("/(static|batches|segments)", route)}


@pytest.mark.parametrize(
    ("service", "settings"), [("buffer", BufferSettings), ("dslogic", LogicSettings), ("gateway", GatewaySettings)]
)
def test_every_setting_is_told_with_its_default_and_meaning(service: str, settings: type[ServiceSettings]) -> None:
    told = {row[1]: (row[2].strip("`"), row[3]) for row in table_rows(f"{service} |", SETTINGS)}
    assert told.keys() == settings.model_fields.keys()
    for name, field in settings.model_fields.items():
        default, meaning = told[name]
        assert meaning == field.description
        read = settings.model_validate({name: default}) if default else settings()
        assert getattr(read, name) == field.default


def test_the_clients_commands_are_all_there_and_no_others() -> None:
    told = {match[1] for row in table_rows("`gwclient", CLIENT) if (match := re.match(r"`gwclient (\w+)", row[0]))}
    assert told == set(gwclient.commands)


@pytest.mark.parametrize("row", table_rows("`gwclient ", CLIENT), ids=lambda row: row[0].strip("`"))
def test_every_option_shown_is_one_the_command_takes(row: list[str]) -> None:
    _, name, *arguments = row[0].strip("`").split()
    known = {option for parameter in gwclient.commands[name].params for option in parameter.opts}
    assert {argument for argument in arguments if argument.startswith("--")} <= known


def test_every_target_named_is_in_the_makefile() -> None:
    targets = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout  # noqa: S607 (make is what the README asks for)
    known = {line.split()[1] for line in targets.splitlines()}
    named = {name for path in DOCUMENTS for name in re.findall(r"(?:\$ |`)make ([a-z-]+)", path.read_text())}
    assert {"demo", "test", "run", "check"} <= named <= known


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_into_the_project_leads_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


def test_git_ignores_every_key_and_secret_that_a_documented_command_writes() -> None:
    told = [*DOCUMENTS, ROOT / "SECURITY.md", *ROOT.glob("docker-compose*.yml")]
    commands = [
        line.lstrip("# ")
        for path in told
        for line in path.read_text().splitlines()
        if re.match(r"[# ]*(\.venv/bin/)?(glitchflow-keys|openssl) ", line)
    ]
    written = {name for line in commands for name in re.findall(r"(?:>|--file) *([\w./-]+)", line)}
    assert {"alice.key", "keys.json", "hops/logic/secret", "keys/client.key"} <= written
    ignored = subprocess.run(["git", "check-ignore", *written], cwd=ROOT, check=False, capture_output=True, text=True)  # noqa: S607 (the user's git)
    if ignored.returncode == 128:
        pytest.skip(f"this is not a git repository: {ignored.stderr.strip()}")
    assert set(ignored.stdout.split()) == {name for name in written if not name.startswith("/")}


def test_every_script_named_exists() -> None:
    named = set(re.findall(r"`(\w+\.sh)`", CLIENT))
    assert named == {path.name for path in (ROOT / "scripts").glob("*.sh")}
