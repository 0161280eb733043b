"""NLDS' unmodified client, in an environment of its own, with the real trio: a table of cases, and more."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import yaml

from gwwire.public import Scope
from scripts.trio import Trio
from tests.support.files import contents_of
from tests.support.forked import run_forked
from tests.support.keyring import Keyring
from tests.support.nlds import ACCESS_KEY, SECRET_KEY, NldsClient, NotInstalled, OAuthServer, install, oauth_server
from tests.support.nlds_cases import Section

SECTIONS = yaml.safe_load(Path(__file__).with_name("nlds_cases.yaml").read_text())
GROUPS = {"alice": "detchar", "bob": "detchar", "dan": "detchar", "carol": "burst"}
READERS = {"bob"}


@dataclass
class Site:
    """A datastore with NLDS' API, its users, and the client."""

    trio: Trio
    client: NldsClient
    oauth: OAuthServer
    keys: dict[str, str]
    settings: dict[str, str]
    shared: Path

    def as_user(self, user: str) -> NldsClient:
        self.client.configure(self.trio.url, user, GROUPS[user], self.keys[user], self.oauth.url)
        return self.client


@pytest.fixture(scope="module")
def installed(pytestconfig: pytest.Config) -> Path:
    try:
        return install(pytestconfig.cache.mkdir("nlds-client"))
    except (NotInstalled, OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"NLDS' CLIENT IS NOT TESTED: nlds-client cannot be installed: {error}")


@pytest.fixture(scope="module")
def site(
    installed: Path, start_shared_trio: Callable[..., Trio], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("nlds")
    for name in ("shared", "outside", "state", "home", "homes/alice", "homes/bob"):
        (folder / name).mkdir(parents=True)
    (folder / "outside" / "secret").write_text("not shared")
    keyring, keys = Keyring(folder / "keys.json"), {}
    for user, group in GROUPS.items():
        keys[user] = keyring.make(user, *([Scope.READ] if user in READERS else [Scope.READ, Scope.STREAM]), group=group)
    settings = {
        **keyring.settings,
        "NLDS_API": "on",
        "NLDS_ROOTS": f"{folder / 'shared'}:{folder / 'homes'}/{{user}}",
        "NLDS_STATE": str(folder / "state"),
    }
    trio = start_shared_trio(each={"glitchflow_api": settings, "databuffer": {"HOLDING_QUOTA": "1MB"}})
    with oauth_server() as oauth, NldsClient(installed, folder / "home") as client:
        oauth.tokens = {f"refresh-{user}": key for user, key in keys.items()}
        yield Site(trio, client, oauth, keys, settings, folder / "shared")


@pytest.mark.parametrize("name", SECTIONS)
def test_the_cases(site: Site, name: str, subtests: pytest.Subtests) -> None:
    """Rows of a section follow each other: some need what earlier ones stored."""
    client, of = site.as_user("alice"), SECTIONS[name]
    section = Section(client, name, site.shared / name)
    section.prepare(of.get("given", []), site.shared.parent / "outside")
    for row in of["rows"]:
        site.as_user(row.get("as", "alice"))
        with subtests.test(row["it"]):
            section.check(row)


# ---- the command itself


def test_failed_files_are_a_list_for_the_next_try(site: Site) -> None:
    client, here = site.as_user("alice"), site.shared / "retry"
    here.mkdir()
    (here / "a").write_text("a")
    (here / "list").write_text(f"{here}/a\n{here}/late\n")
    assert client.command(here, "putlist", "list", "-l", "retry", "-b", "retry").returncode == 0
    _code, text = client.run(here, "stat", "-b", "retry", "-j")
    assert client.wait(json.loads(text)["data"]["records"][0]["transaction_id"])["state"] == "COMPLETE_WITH_ERRORS"
    (here / "failed").write_text(client.command(here, "stat", "-b", "retry", "-F").stdout)
    assert (here / "failed").read_text() == f"{here}/late\n"
    (here / "late").write_text("late")
    tried = client.command(here, "putlist", "failed", "-l", "retry", "-j")
    assert client.wait(json.loads(tried.stdout)["transaction_id"])["state"] == "COMPLETE"


# ---- tokens


def test_a_token_that_is_refused_is_refreshed_once(site: Site) -> None:
    client, before = site.as_user("alice"), site.oauth.asked
    client.configure(site.trio.url, "alice", "detchar", "expired", site.oauth.url)
    code, text = client.run(site.shared, "stat", "-b", "nothing")
    assert (code, "no transaction" in text) == (2, True)
    assert site.oauth.asked == before + 1
    assert json.loads(client.token.read_text())["access_token"] == site.keys["alice"]


def test_the_token_file_goes_if_it_cannot_be_refreshed(site: Site) -> None:
    client = site.as_user("alice")
    client.configure(site.trio.url, "alice", "detchar", "expired", site.oauth.url)
    client.token.write_text(json.dumps({"access_token": "expired", "refresh_token": "withdrawn"}))
    assert client.run(site.shared, "stat")[0] != 0
    assert not client.token.exists()


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({}, {}, 403),
        ({"Cookie": "glitchflow={key}"}, {}, 403),
        ({"Authorization": "Bearer wrong"}, {}, 401),
        ({"Authorization": "Bearer {key}"}, {"user": "bob"}, 404),
        ({"Authorization": "Bearer {key}"}, {"group": "burst"}, 404),
        ({"Authorization": "Bearer {key}"}, {"limit": "few"}, 400),
        ({"Authorization": "Bearer {key}"}, {"tag": "site"}, 400),
    ],
)
def test_errors_have_the_statuses_and_the_shape_of_nlds(
    site: Site, headers: dict[str, str], query: dict[str, str], status: int
) -> None:
    sent = {name: value.format(key=site.keys["alice"]) for name, value in headers.items()}
    asked = {"user": "alice", "group": "detchar", "access_key": ACCESS_KEY, "secret_key": SECRET_KEY, **query}
    answer = httpx2.get(f"{site.trio.url}/api/1.0.0/catalog/list/", headers=sent, params=asked)
    assert (answer.status_code, list(answer.json())) == (status, ["detail"])
    if status == 400:
        assert json.loads(answer.json()["detail"]).keys() == {"loc", "msg", "type"}


def test_a_head_is_answered(site: Site) -> None:
    assert httpx2.head(f"{site.trio.url}/api/1.0.0/status/").status_code == 401


# ---- files


def send(site: Site, user: str, method: str, route: str, body: Any = None, **query: Any) -> httpx2.Response:
    """Call NLDS' API without its client."""
    asked = {"user": user, "group": GROUPS[user], "transaction_id": str(uuid4()), **query}
    headers = {"Authorization": f"Bearer {site.keys[user]}"}
    return httpx2.request(method, f"{site.trio.url}/api/1.0.0/{route}/", headers=headers, params=asked, json=body or {})


def test_users_have_folders_of_their_own(site: Site) -> None:
    homes = site.shared.parent / "homes"
    (homes / "alice" / "a").write_text("mine")
    for user, state in (("alice", "COMPLETE"), ("dan", "FAILED")):
        _code, text = site.as_user(user).run(site.shared, "put", str(homes / "alice" / "a"), "-j")
        assert site.client.wait(json.loads(text)["transaction_id"])["state"] == state


def test_other_bytes_are_never_replaced(site: Site) -> None:
    client, file = site.as_user("alice"), site.shared / "changed"
    file.write_text("before")
    client.wait(json.loads(client.run(site.shared, "put", "changed", "-l", "changed", "-j")[1])["transaction_id"])
    file.write_text("after!")
    _code, text = client.run(site.shared, "get", "changed", "-l", "changed", "-j")
    done = client.wait(json.loads(text)["transaction_id"])
    assert done["failed"] == {str(file): "a file with other bytes is there, and is not replaced"}
    assert file.read_text() == "after!"


def test_files_count_in_the_quota_of_the_group(site: Site) -> None:
    client, file = site.as_user("alice"), site.shared / "large"
    file.write_bytes(bytes(2_000_000))
    _code, text = client.run(site.shared, "put", "large", "-j")
    done = client.wait(json.loads(text)["transaction_id"])
    assert "HOLDING_QUOTA" in done["failed"][str(file)]


def test_a_large_list_has_several_parts_and_one_holding(site: Site) -> None:
    client, here = site.as_user("alice"), site.shared / "many"
    here.mkdir()
    for number in range(1500):
        (here / f"{number}").symlink_to("nowhere")
    _code, text = client.run(site.shared, "put", "many", "-l", "many", "-j")
    done = client.wait(json.loads(text)["transaction_id"])
    assert (done["state"], len(done["record"]["sub_records"])) == ("COMPLETE", 2)
    _code, text = client.run(site.shared, "list", "-l", "many", "-j")
    [holding] = json.loads(text)["data"]["holdings"]
    assert len(holding["transactions"]) == 2
    for selected in (("-l", "many"), ("-n", done["record"]["transaction_id"])):
        _code, text = client.run(site.shared, "find", *selected, "-1", "-L", "2000")
        assert len(text.splitlines()) == 1501


def test_the_same_transaction_again_changes_nothing(site: Site) -> None:
    (site.shared / "once").write_text("once")
    identity, body = str(uuid4()), {"filelist": [str(site.shared / "once")], "label": "once"}
    answers = [send(site, "alice", "PUT", "files", body, transaction_id=identity) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert site.as_user("alice").wait(identity)["state"] == "COMPLETE"
    other = send(site, "dan", "PUT", "files", body, transaction_id=identity)
    assert other.status_code == 400


# ---- what lasts


def test_a_killed_gateway_goes_on_with_its_transactions(site: Site) -> None:
    """Neither a put nor a get is lost, and what the first process did is not done again."""
    client, here = site.as_user("alice"), site.shared / "killed"
    (here / "out").mkdir(parents=True)
    for number in range(3):
        (here / f"{number}").write_text(f"{number}")
    client.wait(json.loads(client.run(here, "put", "0", "-l", "killed", "-j")[1])["transaction_id"])
    buffer = site.trio.processes["databuffer"]
    buffer.send_signal(signal.SIGSTOP)
    try:
        (here / "list").write_text("1\n2\n")
        put = json.loads(client.run(here, "putlist", "list", "-l", "killed", "-j")[1])["transaction_id"]
        get = json.loads(client.run(here, "get", f"{here}/0", "-r", "out", "-j")[1])["transaction_id"]
        _code, text = client.run(here, "stat", "-n", put, "-j")
        [record] = json.loads(text)["data"]["records"]
        assert {part["state"] for part in record["sub_records"]} <= {"INDEXING", "CATALOG_PUTTING"}
        gateway = site.trio.processes["glitchflow_api"]
        gateway.kill()
        gateway.wait()
    finally:
        buffer.send_signal(signal.SIGCONT)
    site.trio.launch("glitchflow_api")
    site.trio.wait_until_ready()
    assert [client.wait(each)["state"] for each in (put, get)] == ["COMPLETE", "COMPLETE"]
    assert Path(f"{here}/out{here}/0").read_text() == "0"


def test_a_put_that_goes_on_sends_every_file_though_the_folder_has_changed(site: Site) -> None:
    """Parts that were begun have the files of then; what was added since is put too, and what is gone fails."""
    here, identity = site.shared / "growing", str(uuid4())
    here.mkdir()
    begun = {"files": [{"path": f"{here}/{name}", "size": 1} for name in ("gone", "late")]}
    headers = {"Authorization": f"Bearer {site.keys['alice']}"}
    order = {**begun, "id": identity, "label": "growing"}
    assert httpx2.post(f"{site.trio.url}/transactions", headers=headers, json=order).status_code == 201
    for name in ("early", "late"):
        (here / name).write_text(name[0])
    body = {"filelist": [str(here)], "label": "growing"}
    assert send(site, "alice", "PUT", "files", body, transaction_id=identity).status_code == 202
    client = site.as_user("alice")
    assert client.wait(identity)["failed"] == {f"{here}/gone": "no such file or directory"}
    _code, text = client.run(here, "find", "-l", "growing", "-1")
    assert sorted(text.splitlines()) == [str(here), f"{here}/early", f"{here}/late"]


def test_only_one_gateway_uses_the_folder(site: Site) -> None:
    gateway = site.trio.services[-1]
    settings = {**os.environ, **gateway.environment, **site.settings, "LISTEN": "127.0.0.1:0"}
    done = run_forked(["glitchflow_api"], settings)
    assert done.returncode == 2
    assert "another gateway uses it" in done.stderr


def test_nothing_keeps_the_secrets_in_the_queries(site: Site) -> None:
    """Neither a log nor a file, though every request of the client has them in its query, also those that fail."""
    for route in ("files", "catalog/list", "status", "quota"):
        secrets = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY, "token": SECRET_KEY}
        answer = send(site, "alice", "GET", route, limit="x", **secrets)
        assert "nlds-" not in answer.text
    folders = (site.trio.home, site.shared.parent / "state")
    files = {path: content for folder in folders for path, content in contents_of(folder).items()}
    secret = [ACCESS_KEY, SECRET_KEY, *site.keys.values()]
    assert [(path, each) for path in files for each in secret if each.encode() in files[path]] == []
    assert "putlist of alice" in (site.trio.home / "services.log").read_text()
