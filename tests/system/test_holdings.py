"""Holdings through all services: files go in and come back bit for bit, whatever breaks on the way."""

import base64
import hashlib
import json
import os
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2
import pytest

from gwservice.atomic import locked
from gwwire.public import Scope
from scripts.trio import Trio
from tests.support.faulty_proxy import Trouble, faulty_proxy
from tests.support.forked import run_forked
from tests.support.keyring import Keyring

SIZE = 3_000_001
BODY = bytes(range(256)) * (SIZE // 256) + b"x" * (SIZE % 256)


@dataclass
class Site:
    """A datastore, and what its users do with it."""

    trio: Trio
    keys: dict[str, Path]

    def gwclient(self, user: str, *words: str, code: int = 0, srv: str = "") -> Any:
        """Return the JSON that a command printed, or what it printed on standard error."""
        done = self.run(user, *words, "--json", srv=srv)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout) if code == 0 else done.stderr

    def run(self, user: str, *words: str, srv: str = "") -> Any:
        settings = {"SRV": srv or self.trio.url, "GLITCHFLOW_KEY_FILE": str(self.keys[user])}
        return run_forked(["gwclient", *words], os.environ | settings)

    def sends(self, route: str, begin: bytes) -> socket.socket:
        """Return a connection that has sent the beginning of a file of SIZE bytes for alice."""
        address, key = urlsplit(self.trio.url), self.keys["alice"].read_text()
        head = f"PUT {route} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: {SIZE}\r\n\r\n"
        connection = socket.create_connection((address.hostname or "", address.port or 0))
        connection.sendall(head.encode() + begin)
        return connection

    def http(self, user: str) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {self.keys[user].read_text().strip()}"}
        return httpx2.Client(base_url=self.trio.url, headers=headers, timeout=30)


@pytest.fixture(scope="module")
def site(start_shared_trio: Callable[..., Trio], tmp_path_factory: pytest.TempPathFactory) -> Site:
    keyring, keys = Keyring(tmp_path_factory.mktemp("keys") / "keys.json"), {}
    for user, group in (("alice", "detchar"), ("bob", "detchar"), ("carol", "burst")):
        path = keyring.path.with_name(user)
        path.write_text(keyring.make(user, Scope.READ, Scope.STREAM, group=group))
        keys[user] = path
    keys["root"] = keyring.path.with_name("root")
    keys["root"].write_text(keyring.make("root", Scope.ADMIN))
    quotas = {"HOLDING_QUOTA": "50MB", "HOLDING_TIER_QUOTA": "disk=60MB"}
    return Site(start_shared_trio(each={"glitchflow_api": keyring.settings, "databuffer": quotas}), keys)


@pytest.fixture
def alice(site: Site) -> Iterator[httpx2.Client]:
    with site.http("alice") as client:
        yield client


def begin(client: httpx2.Client, label: str, sizes: dict[str, int]) -> tuple[str, int]:
    """Begin to put files; return the transaction and the holding."""
    files = [{"path": path, "size": size} for path, size in sizes.items()]
    answer = client.post("/transactions", json={"label": label, "files": files})
    assert answer.status_code == 201, answer.text
    made = answer.json()["transaction"]
    return made["id"], made["holding"]


def sha256(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


def within_a_minute(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


# ---- whole trees


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "run 1"
    (root / "Übersicht").mkdir(parents=True)
    (root / "strain.h5").write_bytes(os.urandom(100_000))
    (root / "Übersicht" / "日本 100%?#.txt").write_text("notes\n")
    (root / "empty").write_bytes(b"")
    (root / "latest").symlink_to("strain.h5")
    (root / "copy.h5").write_bytes((root / "strain.h5").read_bytes())
    (root / "strain.h5").chmod(0o640)
    os.utime(root / "strain.h5", (1_126_259_462.25, 1_126_259_462.25))
    os.utime(root / "Übersicht", (1e9, 1e9))
    return root


def described(root: Path) -> dict[str, tuple[object, ...]]:
    """Return mode, mtime and content of everything in a folder."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        about = path.lstat()
        content = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        times = () if path.is_symlink() else (stat.S_IMODE(about.st_mode), about.st_mtime)
        found[str(path.relative_to(root))] = (*times, content)
    return found


def test_a_tree_comes_back_bit_for_bit_with_modes_times_and_links(site: Site, tree: Path, tmp_path: Path) -> None:
    put = site.gwclient("alice", "put", str(tree), "-l", "run 1", "-t", "site:LLO,run:O4a", "-b", "nightly")
    [transaction] = put["transactions"]
    assert (transaction["state"], transaction["percent"], transaction["files"]) == ("COMPLETE", 100, 7)
    target = tmp_path / "restored"
    site.gwclient("alice", "getfile", str(tree), "-l", "run 1", "-r", str(target))
    assert described(target / str(tree)[1:]) == described(tree)
    again = site.gwclient("alice", "getfile", str(tree), "-r", str(target))
    assert len(again["files"]) == 7, "what is there already is not an error"
    [held] = site.gwclient("alice", "holdings", "-t", "site:LLO")["holdings"]
    assert (held["label"], held["user"], held["group"], held["files"]) == ("run 1", "alice", "detchar", 7)
    contents = site.trio.home / "datavar" / ".holdings" / "objects"
    assert len([path for path in contents.rglob("*") if path.is_file()]) >= 3
    assert sum(path.stat().st_size == 100_000 for path in contents.rglob("*")) == 1, "equal bytes are stored once"


def test_two_fetches_do_not_write_the_same_file(site: Site, tree: Path, tmp_path: Path) -> None:
    content = (tree / "strain.h5").read_bytes()
    site.gwclient("alice", "put", str(tree / "strain.h5"), "-l", "twice")
    path = tmp_path / "restored" / str(tree / "strain.h5")[1:]
    path.parent.mkdir(parents=True)
    names = hashlib.sha256(b"strain.h5").hexdigest()[:16], hashlib.sha256(content).hexdigest()
    partial = path.with_name(f".{names[0]}.{names[1]}.part")
    partial.write_bytes(content[:1000])
    fetch = "getfile", str(tree / "strain.h5"), "-l", "twice", "-r", str(tmp_path / "restored")
    with locked(partial):
        assert f"another gwclient fetches it to {path}" in site.gwclient("alice", *fetch, code=1)
    assert partial.read_bytes() == content[:1000]
    site.gwclient("alice", *fetch)
    assert [each.read_bytes() for each in path.parent.iterdir()] == [content]


def test_the_list_of_find_is_one_that_getlist_and_putlist_take(site: Site, tree: Path, tmp_path: Path) -> None:
    site.gwclient("alice", "put", str(tree), "-l", "lists")
    found = site.run("alice", "find", "-l", "lists", "-x", "-p", "[.]h5$", "-1")
    assert found.stdout.splitlines() == [f"{tree}/copy.h5", f"{tree}/strain.h5"]
    (tmp_path / "list").write_text(found.stdout)
    got = site.gwclient("alice", "getlist", str(tmp_path / "list"), "-l", "lists", "-r", str(tmp_path / "there"))
    assert len(got["files"]) == 2
    put = site.gwclient("alice", "putlist", str(tmp_path / "list"), "-l", "other")
    assert put["transactions"][0]["complete"] == 2


def test_failed_files_are_named_with_reasons_and_put_again(site: Site, tree: Path, tmp_path: Path) -> None:
    (tree / "line\nbreak").write_text("")
    names = tmp_path / "list"
    names.write_text(f"{tree}/strain.h5\n{tree}/strain.h5\n{tree}/empty\n")
    site.gwclient("alice", "putlist", str(names), "-l", "first", code=1)
    errors = site.gwclient("alice", "put", str(tree), "-l", "first", code=1)
    assert f"{tree}/line\\nbreak: a line break or another control character" in errors
    assert f"{tree}/strain.h5: holding" in errors
    [first, second] = site.gwclient("alice", "stat", "-9", "-L", "2")["transactions"]
    assert {first["state"], second["state"]} == {"COMPLETE_WITH_ERRORS"}
    failed = site.run("alice", "stat", second["id"], "-F")
    assert failed.stdout == f"{tree}/strain.h5\n"
    assert failed.stderr == f"{tree}/strain.h5: the path is twice in the list\n"
    names.write_text(failed.stdout)
    assert site.gwclient("alice", "putlist", str(names), "-l", "second")["transactions"][0]["state"] == "COMPLETE"


def test_a_path_of_a_list_that_no_file_can_have_fails_alone(site: Site, tree: Path, tmp_path: Path) -> None:
    names, long = tmp_path / "list", f"{tmp_path}/{'x/' * 1024}"
    names.write_bytes(b"%b/\xff\n%b\n%b/strain.h5\n" % (bytes(tmp_path), long.encode(), bytes(tree)))
    put = site.run("alice", "putlist", str(names), "-l", "odd")
    got = site.run("alice", "getlist", str(names), "-l", "odd", "-r", str(tmp_path / "there"))
    for done, code in ((put, 1), (got, 4)):
        assert done.returncode == code, done.stderr
        assert f"{tmp_path}/\\udcff: the name, or the target of the link, is not UTF-8" in done.stderr
        assert "2 files failed" in done.stderr
    assert "longer than 2048 bytes" in got.stderr
    assert "COMPLETE, 1 of 1 file, " in put.stdout
    assert got.stdout == f"{tmp_path}/there{tree}/strain.h5\n"
    names.write_text("a\0b\n", encoding="utf-16")
    refused = site.gwclient("alice", "putlist", str(names), "-l", "odd", code=2)
    assert refused == f"gwclient: {names} has NULs: expected UTF-8 text with one path in each line\n"


def test_a_missing_holding_and_a_label_of_another_are_errors_at_once(site: Site, tree: Path) -> None:
    assert "there is no holding 4711" in site.gwclient("alice", "put", str(tree), "-i", "4711", code=1)
    made = site.gwclient("alice", "put", str(tree / "empty"), "-l", "mine")["transactions"][0]
    errors = site.gwclient("alice", "put", str(tree), "-i", str(made["holding"]), "-l", "yours", code=1)
    assert "has the label 'mine', not 'yours'" in errors
    assert "no holding has a complete file there" in site.gwclient("alice", "getfile", "/no/such/file", code=1)


def test_a_link_in_a_holding_leads_nothing_out_of_the_target(site: Site, alice: httpx2.Client, tmp_path: Path) -> None:
    outside, target = tmp_path / "outside", tmp_path / "target"
    outside.mkdir()
    order = [{"path": "/a", "type": "LINK", "link": str(outside)}, {"path": "/a/b", "size": 3}]
    made = alice.post("/transactions", json={"label": "trap", "files": order}).json()["transaction"]
    assert alice.put(f"/transactions/{made['id']}/files/a/b", content=b"bad").status_code == 200
    target.mkdir()
    (target / "a").symlink_to(outside)  # as an earlier fetch has left it
    assert "leads to another place" in site.gwclient("alice", "getfile", "/a/b", "-r", str(target), code=1)
    assert list(outside.iterdir()) == []


# ---- interruptions


def test_an_upload_goes_on_after_a_cut(site: Site, alice: httpx2.Client) -> None:
    transaction, holding = begin(alice, "cut", {"/big file": SIZE})
    route = f"/transactions/{transaction}/files/{quote('big file')}"
    with site.sends(route, BODY[:2_000_000]):
        within_a_minute(lambda: int(alice.head(route).headers["Upload-Offset"]) >= 1_000_000)
    offset = int(alice.head(route).headers["Upload-Offset"])
    assert 1_000_000 <= offset <= 2_000_000
    within_a_minute(lambda: alice.get(route).json()["received"] == offset or offset < 2_000_000)
    early = alice.put(route, content=BODY, headers={"Upload-Offset": "7"})
    assert (early.status_code, early.json()["code"]) == (409, "offset-mismatch")
    offset = alice.get(route).json()["received"]
    rest = {"Upload-Offset": str(offset), "Repr-Digest": sha256(BODY), "Content-Digest": sha256(BODY[offset:])}
    done = alice.put(route, content=BODY[offset:], headers=rest)
    assert (done.status_code, done.headers["Upload-Complete"]) == (200, "?1")
    assert done.json()["file"]["sha256"] == hashlib.sha256(BODY).hexdigest()
    got = alice.get(f"/holdings/{holding}/files/big%20file")
    assert got.content == BODY
    assert (got.headers["ETag"], got.headers["Repr-Digest"]) == (f'"{hashlib.sha256(BODY).hexdigest()}"', sha256(BODY))
    part = alice.get(f"/holdings/{holding}/files/big%20file", headers={"Range": "bytes=1000000-1000009"})
    assert (part.status_code, part.content) == (206, BODY[1_000_000:1_000_010])
    assert alice.put(route, content=b"more").json()["code"] == "upload-ended"


def test_a_request_takes_an_upload_over_from_one_whose_connection_hangs(site: Site, alice: httpx2.Client) -> None:
    transaction, holding = begin(alice, "hangs", {"/a": SIZE})
    route = f"/transactions/{transaction}/files/a"
    with site.sends(route, BODY[:1_000_000]) as hanging:
        within_a_minute(lambda: int(alice.head(route).headers["Upload-Offset"]) >= 500_000)
        for _ in range(5):
            offset = int(alice.head(route).headers["Upload-Offset"])
            done = alice.put(route, content=BODY[offset:], headers={"Upload-Offset": str(offset)})
            if done.is_success:
                break
        assert done.json()["file"]["state"] == "COMPLETE"
        hanging.settimeout(60)
        answer = b""
        while b"upload-ended" not in answer:
            part = hanging.recv(65536)
            assert part, answer
            answer += part
    assert alice.get(f"/holdings/{holding}/files/a").content == BODY


def test_bytes_that_differ_from_their_digest_are_refused_and_dropped(alice: httpx2.Client) -> None:
    transaction, _ = begin(alice, "digests", {"/a": 20})
    route = f"/transactions/{transaction}/files/a"
    assert alice.put(route, content=b"0123456789").json()["received"] == 10
    wrong = {"Upload-Offset": "10", "Content-Digest": sha256(b"other")}
    refused = alice.put(route, content=b"abcdefghij", headers=wrong)
    assert (refused.status_code, refused.json()["code"]) == (422, "digest-mismatch")
    assert alice.head(route).headers["Upload-Offset"] == "10", "the bytes of the request are dropped"
    refused = alice.put(route, content=b"abcdefghij", headers={"Upload-Offset": "10", "Repr-Digest": sha256(b"other")})
    assert (refused.status_code, refused.json()["field"]) == (422, "Repr-Digest")
    assert alice.head(route).headers["Upload-Offset"] == "0", "all bytes are dropped"
    too_many = alice.put(route, content=b"x" * 21)
    assert (too_many.status_code, alice.head(route).headers["Upload-Offset"]) == (413, "0")


def test_files_go_through_a_network_that_fails_half_of_the_time(site: Site, tree: Path, tmp_path: Path) -> None:
    (tree / "large").write_bytes(BODY)
    troubles = [Trouble.NONE, Trouble.CLOSED, Trouble.NONE, Trouble.LOST, Trouble.CUT]
    with faulty_proxy(site.trio.url, troubles) as proxy:
        words = ("-l", "faults", "--tries", "30")
        put = site.gwclient("alice", "put", str(tree), *words, srv=proxy.url)
        assert [each["state"] for each in put["transactions"]] == ["COMPLETE"]
        site.gwclient("alice", "getfile", str(tree), *words, "-r", str(tmp_path / "there"), srv=proxy.url)
        assert proxy.troubled > 3
    assert described(tmp_path / "there" / str(tree)[1:]) == described(tree)


def test_a_killed_buffer_has_every_file_that_it_acknowledged(
    start_trio: Callable[..., Trio], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GLITCHFLOW_KEY_FILE", raising=False)
    trio = start_trio()
    with httpx2.Client(base_url=trio.url, timeout=30) as client:
        contents = {f"/many/{i}": os.urandom(1000 + i) for i in range(20)}
        transaction, holding = begin(client, "kill", {path: len(body) for path, body in contents.items()})
        for path, body in list(contents.items())[:12]:
            assert client.put(f"/transactions/{transaction}/files{path}", content=body).status_code == 200
        half = f"/transactions/{transaction}/files/many/12"
        assert client.put(half, content=contents["/many/12"][:500]).json()["received"] == 500
        trio.processes["databuffer"].send_signal(signal.SIGKILL)
        trio.processes["databuffer"].wait()
        trio.launch("databuffer")
        trio.wait_until_ready()
        for path, body in list(contents.items())[:12]:
            assert client.get(f"/holdings/{holding}/files{path}").content == body
        assert client.head(half).headers["Upload-Offset"] == "500"
        assert client.put(half, content=contents["/many/12"][500:], headers={"Upload-Offset": "500"}).is_success
        assert client.get(f"/transactions/{transaction}").json()["percent"] == 65
        sources = tmp_path / "many"
        sources.mkdir()
        assert client.get(f"/holdings/{holding}/files/many/12").content == contents["/many/12"]


def test_an_interrupted_put_is_resumed(site: Site, alice: httpx2.Client, tmp_path: Path) -> None:
    source, changed = tmp_path / "large", tmp_path / "changed"
    source.write_bytes(BODY)
    changed.write_text("before")
    files: list[dict[str, Any]] = [
        {"path": str(path), "size": path.stat().st_size, "mtime": path.stat().st_mtime} for path in (source, changed)
    ]
    made = alice.post("/transactions", json={"label": "resumed", "files": files}).json()["transaction"]
    alice.put(f"/transactions/{made['id']}/files{source}", content=BODY[:1_000_000])
    changed.write_text("afterwards")
    errors = site.gwclient("alice", "resume", made["id"], code=1)
    assert f"{changed}: it has changed since its transaction began" in errors
    done = alice.get(f"/transactions/{made['id']}").json()
    assert (done["state"], done["percent"]) == ("COMPLETE_WITH_ERRORS", 100)
    assert alice.get(f"/holdings/{made['holding']}/files{source}").content == BODY


# ---- many files


def test_pages_of_10000_files_have_all_of_them_in_order(site: Site) -> None:
    with site.http("carol") as carol:
        paths = [f"/many/{i:05}/some name.h5" for i in range(10_000)]
        _, holding = begin(carol, "many", dict.fromkeys(paths, 1))
        seen: list[str] = []
        page: dict[str, Any] = {"more": True, "after": ""}
        while page["more"]:
            page = carol.get(f"/holdings/{holding}/files", params={"limit": 1000, "after": page["after"]}).json()
            seen += [each["path"] for each in page["files"]]
    assert seen == paths


# ---- who may do what


def test_the_group_may_read_and_only_the_owner_may_change(site: Site, tree: Path) -> None:
    made = site.gwclient("alice", "put", str(tree / "strain.h5"), "-l", "shared")["transactions"][0]
    holding, path = made["holding"], f"/holdings/{made['holding']}/files{quote(str(tree))}/strain.h5"
    with site.http("bob") as bob, site.http("carol") as carol:
        assert bob.get(path).content == (tree / "strain.h5").read_bytes()
        refused = [
            bob.patch(f"/holdings/{holding}", json={"label": "mine"}),
            bob.delete(f"/holdings/{holding}"),
            bob.delete(path),
            bob.post("/transactions", json={"holding": holding, "files": [{"path": "/x"}]}),
            bob.put(f"/transactions/{made['id']}/files{quote(str(tree))}/strain.h5", content=b""),
        ]
        assert [(each.status_code, each.json()["code"]) for each in refused] == [(403, "not-owner")] * 5
        assert carol.get(f"/holdings/{holding}").status_code == carol.get(path).status_code == 404
        assert holding not in {each["id"] for each in carol.get("/holdings").json()["holdings"]}
        assert carol.get(f"/transactions/{made['id']}").status_code == 404
        forged = {"X-User": "alice", "X-Group": "detchar"}
        assert carol.get(f"/holdings/{holding}", headers=forged).status_code == 404
        assert bob.post("/transactions", json={"label": "shared", "files": [{"path": "/x"}]}).status_code == 201


def test_an_admin_may_do_everything(site: Site, tree: Path) -> None:
    made = site.gwclient("alice", "put", str(tree / "strain.h5"), "-l", "left behind")["transactions"][0]
    holding, path = made["holding"], f"/holdings/{made['holding']}/files{quote(str(tree))}/strain.h5"
    with site.http("root") as root, site.http("carol") as carol:
        assert holding in {each["id"] for each in root.get("/holdings").json()["holdings"]}
        assert root.get(path).content == (tree / "strain.h5").read_bytes()
        assert carol.delete(f"/holdings/{holding}", headers={"X-Admin": "1"}).status_code == 404
        assert root.patch(f"/holdings/{holding}", json={"label": "of the group"}).json()["user"] == "alice"
        answer = root.post("/transactions", json={"holding": holding, "files": [{"path": "/x"}]}).json()
        added = root.get(f"/transactions/{answer['transaction']['id']}").json()
        assert (added["user"], added["group"]) == ("alice", "detchar")
        assert root.delete(f"/holdings/{holding}").status_code == 200


def test_a_stage_request_belongs_to_the_group_that_made_it(site: Site) -> None:
    paths = {"paths": ["/segments/gwb1.json"]}
    with site.http("alice") as alice, site.http("bob") as bob, site.http("carol") as carol:
        made = alice.post("/api/tape/v1/stage", json={"files": [{"path": "/segments/gwb1.json"}]})
        route = f"/api/tape/v1/stage/{made.json()['requestId']}"
        assert [carol.get(route).status_code, carol.delete(route).status_code] == [404, 404]
        assert carol.post(f"{route}/cancel", json=paths).status_code == 404
        assert carol.post(route.replace("stage/", "release/", 1), json=paths).status_code == 200
        assert [file["state"] for file in bob.get(route).json()["files"]] == ["FAILED"]
        assert bob.delete(route).status_code == 200
        assert alice.get(route).status_code == 404


def test_a_group_has_no_more_than_its_quota(site: Site) -> None:
    with site.http("carol") as carol:
        [before] = site.gwclient("carol", "tiers")["tiers"]
        _, holding = begin(carol, "quota", {"/a": 30_000_000})
        files = [{"path": "/b", "size": 30_000_000}, {"path": "/c", "size": 1000}]
        made = carol.post("/transactions", json={"label": "quota", "files": files}).json()
        assert [each["state"] for each in made["files"]] == ["FAILED", "WAITING"]
        assert "of its quota (HOLDING_QUOTA)" in made["files"][0]["reason"]
        [disk] = site.gwclient("carol", "tiers")["tiers"]
        assert (disk["quota"], disk["quota_used"] - before["quota_used"]) == (60_000_000, 30_001_000)
        assert "quota of a group 60.0 MB, of which yours uses 30.0 MB" in site.run("carol", "tiers").stdout
        assert carol.delete(f"/holdings/{holding}").status_code == 200
        assert begin(carol, "quota", {"/b": 30_000_000}), "what never arrived does not count"


def test_a_label_that_no_holding_has_is_an_error_and_another_empty_selection_is_none(site: Site, tree: Path) -> None:
    site.gwclient("alice", "put", str(tree), "-l", "labelled")
    for command in ("holdings", "find"):
        for label in (("-l", "labeled"), ("-l", "labelled", "-t", "site:NOWHERE")):
            assert f"there is no such holding: '{label[1]}'" in site.gwclient("alice", command, *label, code=1)
        assert "there is no holding 999999" in site.gwclient("alice", command, "-i", "999999", code=1)
    for words in (
        ("holdings", "-t", "site:NOWHERE"),
        ("find", "-t", "site:NOWHERE"),
        ("holdings", "-x", "-l", "labeled"),
        ("find", "-l", "labelled", "-p", "/nowhere"),
    ):
        empty = site.run("alice", *words)
        assert (empty.returncode, empty.stdout) == (0, "")


# ---- deletions


def test_a_deletion_is_undone(site: Site, tree: Path, tmp_path: Path) -> None:
    made = site.gwclient("alice", "put", str(tree), "-l", "deleted")["transactions"][0]
    number = str(made["holding"])
    assert "nothing was deleted; --yes answers" in site.gwclient("alice", "delete", "-i", number, code=1)
    [one] = site.gwclient("alice", "delete", f"{tree}/strain.h5", "-i", number, "--yes")["transactions"]
    [whole] = site.gwclient("alice", "delete", "-i", number, "--yes")["transactions"]
    assert (one["files"], whole["files"]) == (1, 6)
    assert "there is no such holding" in site.gwclient("alice", "delete", "-l", "deleted", "--yes", code=1)
    [seen] = [each for each in site.gwclient("alice", "holdings", "--deleted")["holdings"] if each["id"] == int(number)]
    assert seen["deleted"] is not None
    assert "undo that transaction first" in site.gwclient("alice", "undo", one["id"], code=1)
    undone = site.gwclient("alice", "undo", whole["id"], one["id"])["transactions"]
    assert [each["state"] for each in undone] == ["UNDONE", "UNDONE"]
    site.gwclient("alice", "getfile", str(tree), "-i", number, "-r", str(tmp_path / "there"))
    assert described(tmp_path / "there" / str(tree)[1:]) == described(tree)


def test_labels_and_tags_are_changed(site: Site, tree: Path) -> None:
    site.gwclient("alice", "put", str(tree / "empty"), "-l", "draft", "-t", "a:1,b:2")
    done = site.gwclient("alice", "meta", "-l", "draft", "-n", "final", "-T", "c:3", "-D", "a")
    assert (done["label"], done["tags"]) == ("final", {"b": "2", "c": "3"})
    late = site.gwclient("alice", "put", str(tree / "copy.h5"), "-l", "final", "-t", "b:9")["transactions"][0]
    assert (late["state"], late["warnings"]) == (
        "COMPLETE_WITH_WARNINGS",
        ["tag b stays '2'; it was not set to '9'"],
    )
    assert "\n    warning: tag b stays '2'; it was not set to '9'\n" in site.run("alice", "stat", late["id"]).stdout
    site.gwclient("alice", "put", str(tree / "empty"), "-l", "another")
    for order in (("put", str(tree / "empty"), "-l", "more", "-t"), ("meta", "-l", "another", "-T")):
        assert "'a:1,a:2': 'a' is given twice" in site.gwclient("alice", *order, "a:1,a:2", code=2)
    assert "label 'final': holding" in site.gwclient("alice", "meta", "-l", "another", "-n", "final", code=1)
