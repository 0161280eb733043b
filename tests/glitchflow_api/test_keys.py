"""`glitchflow-keys`, and the file it writes."""

import errno
import hashlib
import json
import re
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from glitchflow_api.key_file import parse_keys
from glitchflow_api.keys import main
from tests.support.forked import Forked

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


class Command:
    """The command with one key file; `out` and `err` are its last output."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._path, self._capsys = path, capsys
        self.out = self.err = ""

    def __call__(self, *arguments: str) -> int:
        try:
            return main(["--file", str(self._path), *arguments])
        except SystemExit as ended:
            return int(str(ended.code))
        finally:
            self.out, self.err = self._capsys.readouterr()


@pytest.fixture
def keys(path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(path, capsys)


def test_a_new_key_is_shown_once_and_only_its_hash_is_kept(keys: Command, path: Path) -> None:
    assert keys("create", "alice", "--scopes", "train,read", "--group", "detchar") == 0
    key = keys.out.strip()
    assert re.fullmatch(r"gf_[0-9a-f]{12}_[\w-]{43}", key)
    (record,) = json.loads(path.read_text())["keys"]
    created = datetime.fromisoformat(record.pop("created"))
    assert datetime.now(UTC) - created < timedelta(minutes=1)
    assert record == {
        "id": key[3:15],
        "name": "alice",
        "group": "detchar",
        "scopes": ["read", "train"],
        "hash": hashlib.sha256(key.encode()).hexdigest(),
    }
    assert key[16:] not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    keys("list", "--json")
    assert key[16:] not in keys.out
    assert record["hash"] not in keys.out


def test_no_two_keys_are_alike(keys: Command, path: Path) -> None:
    made = set()
    for _ in range(20):
        keys("create", "alice", "--scopes", "read")
        made.add(keys.out)
    assert "alice now has 20 keys; `revoke alice` revokes all of them\n" in keys.err
    assert len(made) == len(parse_keys(path.read_bytes())) == 20


def test_the_list_has_users_scopes_and_expiry(keys: Command) -> None:
    keys("create", "alice", "--scopes", "admin", "--expires", "90d")
    keys("create", "stream-h1", "--scopes", "stream", "--group", "daq")
    keys("create", "bob", "--scopes", "read")
    assert keys("revoke", "bob") == 0
    assert keys("list") == 0
    head, alice, stream, bob = keys.out.splitlines()
    assert head.split() == ["ID", "NAME", "GROUP", "SCOPES", "CREATED", "STATE"]
    assert re.search(r"alice +- +admin +\d{4}-\d\d-\d\d +valid until \d{4}-", alice)
    assert re.search(r"stream-h1 +daq +stream +\S+ +valid$", stream)
    assert re.search(r"bob .* revoked \d{4}-", bob)
    keys("list", "--json")
    assert [each["valid"] for each in json.loads(keys.out)] == [True, True, False]


def test_a_key_is_revoked_by_its_id_and_all_keys_of_a_user_by_their_name(keys: Command, path: Path) -> None:
    for name in ("alice", "alice", "alice", "bob"):
        keys("create", name, "--scopes", "read")
    first, *_ = parse_keys(path.read_bytes())

    def revoked() -> list[bool]:
        return [record.revoked is not None for record in parse_keys(path.read_bytes()).values()]

    assert keys("revoke", first) == 0
    assert revoked() == [True, False, False, False]
    assert keys("revoke", "alice") == 0
    assert revoked() == [True, True, True, False]
    before = path.read_text()
    for nobody in ("alice", "carol", first):
        assert keys("revoke", nobody) == 1
        assert nobody in keys.err
    assert path.read_text() == before


def test_an_invalid_scope_or_time_is_refused_with_the_valid_ones(keys: Command) -> None:
    keys("create", "alice", "--scopes", "fly")
    assert "'fly'" in keys.err
    assert "read, stream, train, clean, work, admin" in keys.err
    keys("create", "alice", "--scopes", "read", "--expires", "soon")
    assert "'soon' is neither a duration such as 12h or 90d nor a date such as 2027-01-31" in keys.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["create", "alice"],
        ["create", "alice", "--scopes", "read,everything"],
        ["create", "alice", "--scopes", ""],
        ["create", "alice", "--scopes", "read", "--expires", "soon"],
        ["create", "alice", "--scopes", "read", "--expires", "2020-01-01"],
        ["create", "alice", "--scopes", "read", "--expires", "0h"],
        ["create", "--scopes", "read"],
        ["destroy", "alice"],
        [],
    ],
)
def test_a_command_that_makes_no_sense_changes_nothing(keys: Command, path: Path, arguments: list[str]) -> None:
    assert keys(*arguments) == 2
    assert not path.exists()


@pytest.mark.parametrize("name", ["", "a b", "a\n", "-", "ä", "x" * 65, "a/b", "$(id)"])
def test_a_name_that_cannot_stand_in_a_header_is_refused(keys: Command, path: Path, name: str) -> None:
    for arguments in (["--", name], [f"--group={name}", "alice"]):
        assert keys("create", "--scopes", "read", *arguments) == 2
        assert f"argument {'name' if '--' in arguments else '--group'}: {name!a}: expected at most 64" in keys.err
    assert keys.out == ""
    assert not path.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"keys":' * 5000,
        '{"keys": [{"id": "0123456789ab"}]}',
        '{"keys": [], "kyes": []}',
        '{"keys": [{"id":"0123456789ab","name":"a","scopes":["root"],"hash":"%s","created":"2026-11-21T00:00:00Z"}]}'
        % ("0" * 64),
        '{"keys": [{"id":"0123456789ab","name":"a","scopes":[],"hash":"%s","created":"2026-11-21T00:00:00Z"}]}'
        % ("0" * 64),
        '{"keys": [{"id":"0123456789ab","name":"a","scopes":["read"],"hash":"%s","created":"2026-11-21T00:00:00"}]}'
        % ("0" * 64),
        '{"keys": [{"id":"0123456789ab","name":"a","scopes":["read"],"hash":"x","created":"2026-11-21T00:00:00Z"}]}',
    ],
)
def test_a_broken_file_is_reported_and_not_changed(keys: Command, path: Path, text: str) -> None:
    path.write_text(text)
    for arguments in (["list"], ["revoke", "alice"], ["create", "alice", "--scopes", "read"]):
        assert keys(*arguments) == 1
        assert f"{path}: not a file of keys: " in keys.err
        assert len(keys.err.splitlines()) == 1
    assert path.read_text() == text


def test_a_file_that_names_an_id_twice_is_broken(keys: Command, path: Path) -> None:
    keys("create", "alice", "--scopes", "read")
    (record,) = json.loads(path.read_text())["keys"]
    with pytest.raises(ValueError, match="same id"):
        parse_keys(json.dumps({"keys": [record, record]}).encode())


def test_a_file_behind_a_link_is_changed_and_keeps_its_mode(
    keys: Command, path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys("create", "alice", "--scopes", "read")
    path.chmod(0o640)
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.json"
    link.symlink_to(path)
    assert Command(link, capsys)("revoke", "alice") == 0
    assert link.is_symlink()
    assert [record.revoked is not None for record in parse_keys(path.read_bytes()).values()] == [True]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_key_that_cannot_be_printed_is_not_kept(path: Path) -> None:
    create = ["--file", str(path), "create", "alice", "--scopes", "read"]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "glitchflow_api", "keys", *create],
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode == 1
    _, line = ended.stderr.splitlines()
    assert line.endswith("keys: the output cannot be written: No space left on device")
    assert parse_keys(path.read_bytes()) == {}


def test_a_key_is_not_called_revoked_if_the_file_cannot_be_written(
    keys: Command, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys("create", "alice", "--scopes", "read")
    before = path.read_bytes()

    def full(_path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("gwservice.atomic.sync", full)
    assert keys("revoke", "alice") == 1
    assert "is revoked" not in keys.err
    assert path.read_bytes() == before


def test_a_missing_folder_is_reported_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Command(tmp_path / "nowhere" / "keys.json", capsys)("create", "alice", "--scopes", "read") == 1


def test_commands_at_the_same_time_take_turns_and_lose_no_key(path: Path) -> None:
    def create(number: int) -> Forked:
        command = ["glitchflow_api", "keys", "create", f"user{number}", "--scopes", "read"]
        return Forked(command, {"KEYS_FILE": str(path)})

    made = [process.communicate()[0].strip() for process in [create(number) for number in range(3)]]
    assert {key[3:15] for key in made} == set(parse_keys(path.read_bytes()))
    assert list(path.parent.iterdir()) == [path]
