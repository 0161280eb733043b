"""README and docs/ name everything that exists, and nothing else."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from databuffer.settings import BufferSettings
from dslogic.settings import LogicSettings
from glitchflow_api.settings import GatewaySettings
from gwclient.cli import gwclient
from gwclient.search import SearchResult
from gwservice.settings import ServiceSettings

ROOT = Path(__file__).parents[2]
CLIENT = (ROOT / "docs" / "client.md").read_text()
SETTINGS = (ROOT / "docs" / "configuration.md").read_text()
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")), ROOT / "k8s" / "README.md"]

#: It begins with the first commands.
CLIENT_PAGE = ROOT / "docs" / "client.md"


def table_rows(first_cell: str, text: str) -> list[list[str]]:
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith(f"| {first_cell}")]
    return [[cell.strip() for cell in row] for row in rows]


@pytest.mark.parametrize(
    ("service", "settings"), [("buffer", BufferSettings), ("dslogic", LogicSettings), ("gateway", GatewaySettings)]
)
def test_every_setting_is_documented_with_its_default_and_meaning(
    service: str, settings: type[ServiceSettings]
) -> None:
    seen = {row[1]: (row[2].strip("`"), row[3]) for row in table_rows(f"{service} |", SETTINGS)}
    assert seen.keys() == settings.model_fields.keys()
    for name, field in settings.model_fields.items():
        default, meaning = seen[name]
        assert meaning == field.description
        read = settings.model_validate({name: default}) if default else settings()
        assert getattr(read, name) == field.default


@pytest.mark.parametrize(
    ("container", "settings"), [("databuff", BufferSettings), ("dslogic", LogicSettings)], ids=("buffer", "dslogic")
)
def test_compose_passes_the_policy_of_tiers_and_holdings_on_with_its_defaults(
    container: str, settings: type[ServiceSettings]
) -> None:
    passed = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"][container]["environment"]
    policy = re.compile("ARCHIVE|KEEP|MOVE|SCRUB|OBJECT|RECALL|HOLDING|GROUP|BUNDLE|MAX_SIZE|ON_FROZEN")
    assert passed.keys() == set(filter(policy.match, settings.model_fields))
    assert passed.keys() <= {name for row in table_rows("`make up`", SETTINGS) for name in row[1].split(", ")}
    given = {name: value.removeprefix(f"${{{name}:-").removesuffix("}") for name, value in passed.items()}
    assert settings.model_validate({name: value for name, value in given.items() if value}) == settings()


def test_the_clients_commands_are_all_there_and_no_others() -> None:
    seen = {match[1] for row in table_rows("`gwclient", CLIENT) if (match := re.match(r"`gwclient (\w+)", row[0]))}
    assert seen == set(gwclient.commands)


@pytest.mark.parametrize("row", table_rows("`gwclient ", CLIENT), ids=lambda row: row[0].strip("`"))
def test_every_option_shown_is_one_the_command_takes(row: list[str]) -> None:
    _, name, *arguments = row[0].strip("`").split()
    known = {option for parameter in gwclient.commands[name].params for option in parameter.opts}
    assert {argument for argument in arguments if argument.startswith("--")} <= known


def test_every_field_of_a_search_result_is_described() -> None:
    assert set(re.findall(r"\bfound\.(\w+)", CLIENT)) == set(SearchResult.__struct_fields__)


def test_every_target_named_is_in_the_makefile() -> None:
    targets = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout  # noqa: S607 (make is what the README asks for)
    known = {line.split()[1] for line in targets.splitlines()}
    named = {name for path in DOCUMENTS for name in re.findall(r"(?:\$ |`)make ([a-z-]+)", path.read_text())}
    assert {"demo", "test", "run", "check"} <= named <= known


def anchors(path: Path) -> set[str]:
    """Return the anchors of the headings of a document, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_into_the_project_leads_somewhere(path: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", path.read_text()):
        page = path.parent / target if target else path
        assert page.exists(), target
        assert not anchor or anchor in anchors(page), f"{target}#{anchor}"


def test_the_index_names_every_document() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    named = set(re.findall(r"^\| \[([\w-]+\.md)\]", index, re.MULTILINE))
    assert named == {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}


@pytest.mark.parametrize("path", sorted(set((ROOT / "docs").glob("*.md")) - {CLIENT_PAGE}), ids=lambda path: path.name)
def test_a_document_begins_with_what_its_reader_can_do_afterwards(path: Path) -> None:
    assert re.match(r"# [^\n]+\n\nAfter reading this page,? you ", path.read_text())


def test_git_ignores_every_key_and_secret_that_a_documented_command_writes() -> None:
    seen = [*DOCUMENTS, *ROOT.glob("docker-compose*.yml")]
    commands = [
        line.lstrip("# ")
        for path in seen
        for line in path.read_text().replace("\\\n", "").splitlines()
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
