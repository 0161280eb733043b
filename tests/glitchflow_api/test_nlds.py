"""NLDS' API: what is shared and what is not, and the transactions that it keeps."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from threading import Event, Thread
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from msgspec import structs

from glitchflow_api.access import scope_needed
from glitchflow_api.app import create_app
from glitchflow_api.nlds import calls
from glitchflow_api.nlds import jobs as jobs_module
from glitchflow_api.nlds.answers import PREFIX
from glitchflow_api.nlds.jobs import Jobs, Member, NldsState, Order, TooManyTransactions
from glitchflow_api.nlds.models import StatBody, StatQuery
from glitchflow_api.nlds.shapes import files_shape, overall_state, sub_records
from glitchflow_api.nlds.shared_files import Failure, NotPossible, Roots, SharedFiles
from glitchflow_api.nlds.status import find_transactions
from glitchflow_api.nlds.worker import fail_rest
from glitchflow_api.settings import GatewaySettings
from gwservice.upstream import UpstreamUnreachable
from gwservice.watched_file import FileBroken
from gwwire.decoding import InvalidRequest
from gwwire.holdings import FileState, Holding, HoldingFile, NewFile, PathType
from gwwire.problems import ProblemCode, ProblemError
from gwwire.public import Scope
from gwwire.tiering import BatchLocality
from tests.support.keyring import Keyring

ALICE = Member("alice", "detchar")


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    (tmp_path / "shared" / "d").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    (tmp_path / "shared" / "a").write_text("a")
    return tmp_path / "shared"


@pytest.fixture
def files(shared: Path) -> SharedFiles:
    return Roots([str(shared)]).of("alice", None)


def stored(path: Path | str, content: bytes = b"stored", kind: PathType = PathType.FILE) -> HoldingFile:
    digest = sha256(content).hexdigest()
    link = "nowhere" if kind is PathType.LINK else None
    return HoldingFile(
        *(str(path), kind, len(content), 0o644, 1e9, link, digest, FileState.COMPLETE, None, 1, str(uuid4()), 1e9, None)
    )


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def put_back(files: SharedFiles, file: HoldingFile, content: bytes = b"stored", target: str | None = None) -> None:
    writing = files.restore(target, file, "job")
    if writing:
        with writing:
            writing.write(content)
            writing.finish()


# ---- settings and scopes


def test_it_is_off_by_default() -> None:
    paths = {getattr(route, "path", "") for route in create_app(GatewaySettings()).routes}
    assert [path for path in paths if path.startswith(PREFIX)] == []


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "AUTH=keys or AUTH=jwt"),
        ({"AUTH": "keys"}, "NLDS_ROOTS and NLDS_STATE"),
        ({"AUTH": "keys", "NLDS_STATE": "/tmp", "NLDS_ROOTS": "/a:b"}, "'b' is not an absolute path"),  # noqa: S108
        ({"AUTH": "keys", "NLDS_STATE": "/tmp", "NLDS_ROOTS": "/a/{usr}"}, "{usr} is unknown; there are {user} and"),  # noqa: S108
    ],
)
def test_it_needs_authentication_folders_and_a_place_for_its_transactions(
    settings: dict[str, str], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        GatewaySettings(NLDS_API="on", **settings)  # type: ignore[arg-type]  # texts, as in the environment


@pytest.mark.parametrize(
    ("method", "route", "scope"),
    [
        ("PUT", "files", Scope.STREAM),
        ("GET", "files", Scope.READ),
        ("PUT", "files/getlist", Scope.READ),
        ("GET", "catalog/list", Scope.READ),
        ("GET", "catalog/find", Scope.READ),
        ("POST", "catalog/meta", Scope.STREAM),
        ("GET", "status", Scope.READ),
    ],
)
def test_what_changes_holdings_needs_another_scope(method: str, route: str, scope: Scope) -> None:
    assert scope_needed(method, f"{PREFIX}/{route}/") is scope


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("catalog/list/?user=alice", "query.group: expected a value"),
        ("status/?user=alice&group=&transaction_id=x", "query.transaction_id: expected a UUID, got 'x'"),
    ],
)
def test_a_wrong_query_is_refused_in_our_words(tmp_path: Path, query: str, detail: str) -> None:
    keys = Keyring(tmp_path / "keys.json")
    headers = {"Authorization": f"Bearer {keys.make('alice', Scope.READ)}"}
    nlds = {"NLDS_API": "on", "NLDS_ROOTS": str(tmp_path), "NLDS_STATE": str(tmp_path)}
    with TestClient(create_app(GatewaySettings.model_validate({**keys.settings, **nlds}))) as client:
        answer = client.get(f"{PREFIX}/{query}", headers=headers)
    assert (answer.status_code, json.loads(answer.json()["detail"])["msg"]) == (400, detail)


# ---- shared files


@pytest.mark.parametrize(
    ("user", "group", "shares"),
    [("alice", "detchar", True), ("..", "detchar", False), ("alice", "a/b", False), ("alice", None, False)],
)
def test_only_plain_names_stand_for_user_and_group(
    tmp_path: Path, user: str, group: str | None, *, shares: bool
) -> None:
    (tmp_path / "alice" / "detchar").mkdir(parents=True)
    (tmp_path / "alice" / "detchar" / "a").write_text("a")
    found = list(Roots([f"{tmp_path}/{{user}}/{{group}}"]).of(user, group).find([f"{tmp_path}/alice/detchar/a"]))
    assert isinstance(found[0], NewFile if shares else Failure)


def test_a_folder_that_users_can_replace_by_a_link_is_not_shared(tmp_path: Path) -> None:
    """A link that the administrator made, above what users own, is followed."""
    for folder in ("export/alice", "outside"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "alice").symlink_to(tmp_path / "export" / "alice")
    (tmp_path / "outside" / "secret").write_text("secret")
    (tmp_path / "export" / "alice" / "nlds").symlink_to(tmp_path / "outside")
    home = tmp_path / "home" / "alice"
    files = Roots([f"{tmp_path}/home/{{user}}/nlds"]).of("alice", None)
    for path in (home / "nlds" / "secret", home / "nlds", tmp_path / "outside" / "secret", tmp_path / "outside"):
        assert [type(each) for each in files.find([str(path)])] == [Failure]
        with pytest.raises((NotPossible, OSError)):
            put_back(files, stored(path / "new"))
    (home / "nlds").unlink()
    (home / "nlds").mkdir()
    put_back(files, stored(home / "nlds" / "d" / "x"))
    found = [each.path for each in files.find([str(home / "nlds")]) if isinstance(each, NewFile)]
    assert found == [str(home / "nlds" / each) for each in ("", "d", "d/x")]


@pytest.mark.parametrize("path", ["{shared}/../outside/secret", "{shared}/out/secret", "{outside}/secret", "relative"])
def test_nothing_outside_is_found_or_read(files: SharedFiles, shared: Path, path: str) -> None:
    outside = shared.parent / "outside"
    (shared / "out").symlink_to(outside)
    text = path.format(shared=shared, outside=outside)
    assert isinstance(next(files.find([text])), Failure)
    with pytest.raises((NotPossible, OSError)):
        files.open(text)


def test_a_link_is_described_and_not_opened(files: SharedFiles, shared: Path) -> None:
    (shared / "link").symlink_to(shared.parent / "outside" / "secret")
    found = next(files.find([str(shared / "link")]))
    assert isinstance(found, NewFile)
    assert found.link == str(shared.parent / "outside" / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        files.open(str(shared / "link"))


def test_a_folder_that_becomes_a_link_meanwhile_leads_nowhere(files: SharedFiles, shared: Path) -> None:
    """The folder is replaced by a link to another place, and back, as often as possible."""
    folder, kept, link, stop = shared / "swapped", shared / "kept", shared.parent / "outside", Event()
    folder.mkdir()
    (folder / "secret").write_text("shared")

    def swap() -> None:
        while not stop.is_set():
            with suppress(OSError):
                folder.rename(kept)
            with suppress(OSError):  # the folder was made in between
                folder.symlink_to(link)
                folder.unlink()
            if kept.exists():
                rmtree(folder, ignore_errors=True)
                with suppress(OSError):
                    kept.rename(folder)

    swapping = Thread(target=swap)
    swapping.start()
    try:
        for _ in range(500):
            try:
                with files.open(str(folder / "secret")) as file:
                    assert file.read() == b"shared"
                put_back(files, stored(f"{folder}/written"))
            except (NotPossible, OSError):
                continue
    finally:
        stop.set()
        swapping.join()
    assert names(link) == ["secret"]


def test_a_shared_folder_itself_can_be_put(files: SharedFiles, shared: Path) -> None:
    (shared / "d" / "b").write_text("b")
    found = [each.path.removeprefix(str(shared)) for each in files.find([str(shared)])]
    assert found == ["", "/a", "/d", "/d/b"]


def test_what_cannot_be_put_has_a_reason_and_the_rest_is_found(files: SharedFiles, shared: Path) -> None:
    os.mkfifo(shared / "d" / "pipe")
    (shared / "d" / os.fsdecode(b"not-\xff")).write_text("x")
    (shared / "d" / "line\nbreak").write_text("x")
    (shared / "d" / "link").symlink_to("line\nbreak")
    found = {each.path.rpartition("/")[2]: each for each in files.find([str(shared / "d"), str(shared / "a")])}
    reasons = {name: each.reason for name, each in found.items() if isinstance(each, Failure)}
    assert reasons == {
        "line\nbreak": "a line break or another control character",
        "link": "the target has a line break or another control character",
        "not-\\udcff": "the name, or the target of the link, is not UTF-8",
        "pipe": "not a file, directory or link",
    }
    assert isinstance(found["a"], NewFile)


def test_a_tree_that_is_too_deep_ends_with_a_failure(files: SharedFiles, shared: Path) -> None:
    Path(shared, *["d"] * 150).mkdir(parents=True)
    *_found, last = files.find([str(shared / "d")])
    assert isinstance(last, Failure)
    assert "100 directories" in last.reason


# ---- restoring


def test_a_file_is_written_with_mode_and_time_and_no_rest_is_left(files: SharedFiles, shared: Path) -> None:
    put_back(files, stored("/data/x"), target=str(shared / "d"))
    written = shared / "d" / "data" / "x"
    about = written.stat()
    assert (written.read_text(), about.st_mode & 0o777, about.st_mtime) == ("stored", 0o644, 1e9)
    assert names(written.parent) == ["x"]


def test_other_bytes_than_the_digest_says_are_not_written(files: SharedFiles, shared: Path) -> None:
    with pytest.raises(NotPossible, match="SHA-256"):
        put_back(files, stored(shared / "d" / "x"), b"broken")
    assert names(shared / "d") == []


@pytest.mark.parametrize("kind", list(PathType))
def test_what_is_there_is_not_replaced(files: SharedFiles, shared: Path, kind: PathType) -> None:
    with pytest.raises((NotPossible, OSError)):
        put_back(files, stored(shared / "a", kind=kind))
    assert (shared / "a").read_text() == "a"


@pytest.mark.parametrize("content", [b"mine", b"stored"])
def test_a_file_that_appears_while_another_is_written_is_not_replaced(
    files: SharedFiles, shared: Path, content: bytes
) -> None:
    """One with the same bytes is what was wanted, as from another get at the same time."""
    writing = files.restore(None, stored(shared / "d" / "x"), "job")
    assert writing
    with writing:
        writing.write(b"stored")
        (shared / "d" / "x").write_bytes(content)
        with nullcontext() if content == b"stored" else pytest.raises(NotPossible, match="not replaced"):
            writing.finish()
    assert (shared / "d" / "x").read_bytes() == content
    assert names(shared / "d") == ["x"]


@pytest.mark.parametrize("target", ["{outside}", "{shared}/out", "", "relative", "{shared}/\0"])
def test_nothing_is_written_outside(files: SharedFiles, shared: Path, target: str) -> None:
    outside = shared.parent / "outside"
    (shared / "out").symlink_to(outside)
    for kind in PathType:
        with pytest.raises((NotPossible, OSError)):
            put_back(files, stored("/x/y", kind=kind), target=target.format(outside=outside, shared=shared))
    assert names(outside) == ["secret"]


def test_a_link_to_what_no_path_can_be_is_not_restored(files: SharedFiles, shared: Path) -> None:
    link = structs.replace(stored(shared / "d" / "x", kind=PathType.LINK), link="no\0path")
    with pytest.raises(NotPossible, match="has a NUL"):
        put_back(files, link)


@pytest.mark.parametrize(
    ("locality", "storage"),
    [("DISK", ["OBJECT_STORAGE"]), ("TAPE", ["TAPE"]), ("DISK_AND_TAPE", ["OBJECT_STORAGE", "TAPE"]), ("LOST", [])],
)
def test_a_file_is_shown_where_it_is(locality: str, storage: list[str]) -> None:
    file = structs.replace(stored("/x"), locality=BatchLocality(locality))
    holding = Holding(1, "x", "alice", None, {}, 1e9, 1, 6, None)
    told = files_shape(holding, [file], {}, lambda _: "http://x")
    [[described]] = [each["filelist"] for each in told["transactions"].values()]
    assert [each["storage_type"] for each in described["locations"]] == storage


# ---- repetitions


class OnTape(ProblemError, code=ProblemCode.ON_TAPE):
    """As the buffer answers."""


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_FIRST_WAIT", "_TAPE_SECONDS"):
        monkeypatch.setattr(calls, name, 0)


@pytest.mark.anyio
@pytest.mark.usefixtures("impatient")
async def test_bytes_on_tape_are_waited_for_however_long() -> None:
    patience, seen = calls.Patience(), Counter[str]()
    for _ in range(50):
        await patience.wait_or_raise(OnTape("recalled"), on_tape=lambda: seen.update(["waited"]))
    assert seen["waited"] == 50


@pytest.mark.anyio
@pytest.mark.usefixtures("impatient")
async def test_an_outage_is_waited_for_until_the_repetitions_are_used_up() -> None:
    tried = Counter[str]()

    async def call(error: ProblemError) -> None:
        tried[error.code] += 1
        raise error

    for error, most in ((UpstreamUnreachable("away"), 15), (InvalidRequest("wrong"), 1)):
        with pytest.raises(type(error)):
            await calls.patiently(partial(call, error))
        assert tried[error.code] == most


# ---- transactions


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    jobs = Jobs(tmp_path)
    yield jobs
    jobs.close()


@pytest.mark.anyio
async def test_transactions_survive_and_their_numbers_go_on(tmp_path: Path, jobs: Jobs) -> None:
    first, second = [await jobs.add(str(uuid4()), "put", ALICE, "job", Order([f"/{i}"])) for i in range(2)]
    await jobs.end(first)
    jobs.close()
    again = Jobs(tmp_path)
    assert [job.id for job in again] == [first.id, second.id]
    assert [job.order.paths for job in again.unfinished()] == [["/1"]]
    assert (await again.add(str(uuid4()), "get", ALICE, None, Order(["/2"]))).number == 3
    again.close()


@pytest.mark.anyio
async def test_the_oldest_that_have_ended_are_forgotten(
    tmp_path: Path, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "_MOST_ENDED", 2)
    made = [await jobs.add(str(uuid4()), "put", ALICE, None, Order(["/x"])) for _ in range(5)]
    for job in made[1:]:
        await jobs.end(job)
    expected = [made[0].id, made[3].id, made[4].id]
    assert [job.id for job in jobs] == expected
    assert set(names(tmp_path)) == {f"{identity}.json" for identity in expected}


@pytest.mark.anyio
async def test_transactions_with_many_failed_files_are_forgotten_sooner(
    tmp_path: Path, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs_module, "_MOST_FAILED", 100)
    made = [await jobs.add(str(uuid4()), "putlist", ALICE, None, Order(["/" + "x" * size])) for size in (1, 60, 200)]
    for job, left in zip(made, ([0], [0, 1], [2]), strict=True):
        fail_rest(job, "why")
        await jobs.end(job)
        assert [each.id for each in jobs if each.ended] == [made[index].id for index in left]
    assert names(tmp_path) == [f"{made[2].id}.json"], "the last one stays, however large"


@pytest.mark.parametrize(("limit", "most"), [("_MOST_UNFINISHED", 2), ("_MOST_ORDERED", 10)])
@pytest.mark.anyio
async def test_too_many_transactions_are_refused_until_one_has_ended(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr(jobs_module, limit, most)
    first, _ = [await jobs.add(str(uuid4()), "put", ALICE, None, Order(["/12345"])) for _ in range(2)]
    with pytest.raises(TooManyTransactions, match="2 transactions have not ended"):
        await jobs.add(str(uuid4()), "put", ALICE, None, Order(["/x"]))
    await jobs.end(first)
    await jobs.add(str(uuid4()), "put", ALICE, None, Order(["/x"]))


@pytest.mark.anyio
async def test_transactions_of_others_are_seen_in_their_group_and_without_a_group_never(jobs: Jobs) -> None:
    for user, group in (("alice", "detchar"), ("carol", "burst"), ("nora", None)):
        await jobs.add(str(uuid4()), "put", Member(user, group), None, Order(["/x"]))

    def seen(user: str, group: str | None) -> list[str]:
        found = find_transactions(jobs, Member(user, group), StatQuery(groupall=True), StatBody())
        return [each["user"] for each in found]

    assert [seen("bob", "detchar"), seen("nora", None), seen("ned", None)] == [["alice"], ["nora"], []]


@pytest.mark.parametrize(("complete", "state"), [(1, "COMPLETE_WITH_ERRORS"), (0, "FAILED")])
@pytest.mark.anyio
async def test_a_transaction_that_breaks_off_fails_for_what_is_left(jobs: Jobs, complete: int, state: str) -> None:
    job = await jobs.add(str(uuid4()), "putlist", ALICE, None, Order(["/a", "/b"]))
    assert overall_state(job) is NldsState.SEARCHING
    job.begin_part(NldsState.TRANSFER_PUTTING).complete = complete
    job.begin_part(NldsState.INDEXING)
    assert overall_state(job) is NldsState.INDEXING
    fail_rest(job, "why")
    assert overall_state(job).name == state
    assert sub_records(job)[-1]["failed_files"] == [{"filepath": path, "reason": "why"} for path in ("/a", "/b")]


def test_a_folder_is_used_once(tmp_path: Path, jobs: Jobs) -> None:
    assert not jobs.unfinished()
    with pytest.raises(FileBroken, match="another gateway"):
        Jobs(tmp_path)


def test_a_folder_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(FileBroken, match="NLDS_STATE"):
        Jobs(tmp_path / "missing")


@pytest.mark.anyio
@pytest.mark.parametrize("content", [b"", b"{", b'{"id":' * 5000, b"\xff", None])
async def test_a_damaged_transaction_is_named_and_stops_no_other(
    tmp_path: Path, jobs: Jobs, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    job = await jobs.add(str(uuid4()), "put", ALICE, "job", Order(["/x"]))
    jobs.close()
    os.mkfifo(tmp_path / "x.json") if content is None else (tmp_path / "x.json").write_bytes(content)
    again = Jobs(tmp_path)
    assert [each.id for each in again] == [job.id]
    again.close()
    assert f"{tmp_path / 'x.json'} is not a transaction, and is left out" in caplog.text
