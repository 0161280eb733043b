"""The whole workflow with AUTH=keys: client, preprocessing and scripts with and without a key."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gwwire.public import Scope
from scripts.trio import Trio
from tests.support.event_stream import EventStream
from tests.support.files import contents_of
from tests.support.forked import run_forked
from tests.support.keyring import Keyring
from tests.support.segments import segment_body

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return Keyring(tmp_path_factory.mktemp("keys") / "keys.json")


@pytest.fixture(scope="module")
def keys(ring: Keyring) -> Mapping[str, Path]:
    """A key file for each participant."""
    return {
        "h1": ring.make_file("h1", Scope.STREAM),
        "alice": ring.make_file("alice", Scope.READ, Scope.TRAIN),
        "preproc": ring.make_file("preproc", Scope.READ, Scope.WORK, Scope.CLEAN),
        "shift": ring.make_file("shift", Scope.READ, Scope.CLEAN),
    }


@pytest.fixture(scope="module")
def leaving(ring: Keyring) -> Mapping[str, str]:
    """Return keys that tests revoke, by the name of their owner."""
    return {
        "listener": ring.make("listener", Scope.READ),
        "streamer": ring.make("streamer", Scope.STREAM),
        "downloader": ring.make("downloader", Scope.STREAM, Scope.READ),
    }


@pytest.fixture(scope="module")
def trio(
    start_shared_trio: Callable[..., Trio], ring: Keyring, keys: Mapping[str, Path], leaving: Mapping[str, str]
) -> Trio:
    assert keys and leaving  # noqa: PT018 (the gateway reads keys that are made later only after a second)
    return start_shared_trio({"MAX_SIZE": "100kB", **ring.settings})


class Run:
    """Runs programs against the trio with the key of a user."""

    def __init__(self, trio: Trio, keys: Mapping[str, Path], home: Path) -> None:
        self._trio, self._keys, self._home = trio, keys, home

    def environment(self, who: str | None) -> dict[str, str]:
        environment = {**os.environ, "SRV": self._trio.url, "XDG_STATE_HOME": str(self._home), "MPLCONFIGDIR": "/tmp"}  # noqa: S108 (matplotlib's own)
        environment.pop("GLITCHFLOW_KEY_FILE", None)
        if who:
            environment["GLITCHFLOW_KEY_FILE"] = str(self._keys[who])
        return environment

    def module(self, who: str | None, *module: str) -> subprocess.CompletedProcess[str]:
        return run_forked(module, self.environment(who))

    def shell(self, who: str | None, *arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[str]:
        command = ["/bin/sh", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment(who), input=data, capture_output=True, check=False
        )
        return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())

    def gwclient(self, who: str | None, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.module(who, "gwclient", *arguments)

    def script(
        self, who: str | None, name: str, *arguments: str, data: bytes = b""
    ) -> subprocess.CompletedProcess[str]:
        return self.shell(who, str(ROOT / "scripts" / name), *arguments, data=data)


@pytest.fixture
def run(trio: Trio, keys: Mapping[str, Path], tmp_path: Path) -> Run:
    return Run(trio, keys, tmp_path)


def test_a_batch_is_processed_with_each_step_by_a_user_with_its_scope(run: Run, tmp_path: Path) -> None:
    pushed = run.gwclient("h1", "simulate", "--detectors", "H1", "--seconds", "8", "--rate", "4096", "--seed", "1")
    assert pushed.returncode == 0, pushed.stderr
    refused = run.gwclient("alice", "simulate", "--seconds", "1", "--rate", "4096", "--restart")
    assert (refused.returncode, "403" in refused.stderr) == (1, True)

    frozen = run.gwclient("alice", "train", "--token", "t", "--json")  # the key identifies the user
    assert (frozen.returncode, json.loads(frozen.stdout)["holder"]) == (0, "alice"), frozen.stderr

    small = ("--window", "2", "--rows", "8", "--columns", "16", "--export", "none")
    worked = run.module("preproc", "preproc", "watch", "--once", "--clean", "--out", str(tmp_path), *small)
    assert worked.returncode == 0, worked.stderr
    (dataset,) = tmp_path.glob("b*/dataset.h5")
    assert '"OPERATIONAL"' in run.script("alice", "desc.sh").stdout
    again = ("run", "--batch", dataset.parent.name, "--out", str(tmp_path / "again"))
    refused = run.module(None, "preproc", *again)
    assert (refused.returncode, "401" in refused.stderr) == (1, True)


def test_a_push_with_a_key_that_may_not_read_says_that_it_trusts_its_cursor(run: Run) -> None:
    words = ("simulate", "--detectors", "H1", "--seconds", "1", "--rate", "1024", "--seed", "8")
    first = run.gwclient("h1", *words)
    assert (first.returncode, "--restart" in first.stderr) == (0, False), first.stderr
    again = run.gwclient("h1", *words)
    assert (again.returncode, again.stdout[:11]) == (0, "0 segments "), again.stderr
    unknown = "still has what it acknowledged is not known: the key does not have the scope read; --restart sends"
    assert again.stderr.count(unknown) == 1


def test_the_curl_scripts_take_the_same_key_file(run: Run) -> None:
    assert '"CREATED"' in run.script("h1", "streamdata.sh", data=segment_body(1)).stdout
    for who, code in ((None, "unauthorized"), ("h1", "forbidden")):
        refused = run.script(who, "stats.sh")
        assert (refused.returncode, json.loads(refused.stdout)["code"]) == (22, code)
    assert '"n_itm":' in run.script("alice", "stats.sh").stdout
    assert '"WAITING"' in run.script("alice", "train.sh", "alice", "t").stdout
    assert json.loads(run.script("alice", "train.sh", "bob", "t").stdout)["code"] == "not-caller"
    assert '"CLEANED"' in run.script("shift", "cleanbuf.sh").stdout


@pytest.mark.parametrize("text", [None, "", 'a"\nurl = "http://evil.example.org', "a b"])
def test_a_key_file_without_a_key_is_reported_before_any_request(run: Run, tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "some.key"
    if text is not None:
        path.write_text(text)
    seen = run.shell(None, "-c", f"GLITCHFLOW_KEY_FILE='{path}' exec scripts/stats.sh")
    assert seen.returncode == 2
    assert seen.stdout == ""
    assert str(path) in seen.stderr


def test_doctor_names_the_user_of_a_key_and_the_errors_of_it(run: Run) -> None:
    def authorization(who: str | None) -> tuple[int, dict[str, Any]]:
        seen = run.gwclient(who, "doctor", "--json")
        (found,) = (each for each in json.loads(seen.stdout) if each["check"] == "authorization")
        return seen.returncode, found

    code, found = authorization("alice")
    assert (code, found["verdict"]) == (0, "ok")
    assert found["words"].startswith("alice may read, train: OPERATIONAL, ")
    code, found = authorization(None)
    assert (code, found["verdict"]) == (1, "wrong")
    assert "GLITCHFLOW_KEY_FILE" in found["words"]


def test_a_key_is_revoked_while_the_gateway_runs(run: Run, ring: Keyring) -> None:
    assert run.script("shift", "desc.sh").returncode == 0
    command = [sys.executable, "-m", "glitchflow_api", "keys", "--file", str(ring.path), "revoke", "shift"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    for _ in range(100):
        seen = run.script("shift", "desc.sh")
        if seen.returncode:
            break
        time.sleep(0.1)
    assert json.loads(seen.stdout)["code"] == "unauthorized"
    assert "revoked" in seen.stdout
    assert seen.stdout.endswith("\n")
    assert "is revoked since" in run.gwclient("shift", "doctor").stdout
    assert run.script("alice", "desc.sh").returncode == 0


def test_a_listener_receives_nothing_more_after_the_key_is_revoked(
    trio: Trio, run: Run, ring: Keyring, leaving: Mapping[str, str]
) -> None:
    with EventStream(trio.url) as refused:
        assert refused.status == 401
    with EventStream(trio.url, key=leaving["listener"]) as events:
        before = events.next("overview").data["n_itm"]
        ring.change(leaving["listener"], revoked=datetime.now(UTC))
        time.sleep(1.1)  # the gateway checks the file once a second
        assert '"CREATED"' in run.script("h1", "streamdata.sh", data=segment_body(7)).stdout
        assert f'"n_itm":{before + 1}'.encode() not in events.rest()


def test_a_stream_stores_nothing_more_after_the_key_is_revoked(
    trio: Trio, ring: Keyring, keys: Mapping[str, Path], leaving: Mapping[str, str]
) -> None:
    alice = {"Authorization": f"Bearer {keys['alice'].read_text().strip()}"}

    def lines() -> Iterator[bytes]:
        yield segment_body(1) + b"\n"
        while stored() == before:
            time.sleep(0.02)
        ring.change(leaving["streamer"], revoked=datetime.now(UTC))
        time.sleep(1.1)  # the gateway checks the file once a second
        yield segment_body(2) + b"\n"
        time.sleep(0.1)
        yield segment_body(3) + b"\n"

    def stored() -> int:
        return int(httpx2.get(f"{trio.url}/stats", headers=alice).json()["n_itm"])

    before = stored()
    headers = {"Authorization": f"Bearer {leaving['streamer']}", "Content-Type": "application/x-ndjson"}
    with suppress(httpx2.TransportError):  # the answer has no end
        httpx2.post(f"{trio.url}/streamdata", content=lines(), headers=headers)
    assert stored() == before + 1


def test_a_download_ends_after_the_key_is_revoked(trio: Trio, ring: Keyring, leaving: Mapping[str, str]) -> None:
    headers = {"Authorization": f"Bearer {leaving['downloader']}"}
    with httpx2.Client(base_url=trio.url, headers=headers, timeout=30) as client:
        large = b'"h": [0.0' + b", 1e-21" * 3_600_000 + b"]"  # more than the sockets hold
        body = segment_body(0, samples=1, t0=5e8).replace(b'"h": [0.0]', large)
        name = client.post("/streamdata", content=body, headers={"Content-Type": "application/json"}).json()["body"]
        order = {"format": "tar", "query": {"start": 5e8, "stop": 6e8}}
        bundle = client.post("/bundles", json=order).json()["id"]
        while client.get(f"/bundles/{bundle}", params={"wait": 10}).json()["state"] != "READY":
            pass
        with (
            client.stream("GET", f"/bundles/{bundle}/archive") as archive,
            client.stream("GET", f"/segments/{name.split()[1]}") as segment,
        ):
            downloads = [(answer, answer.iter_raw()) for answer in (archive, segment)]
            received = [len(next(pieces)) for _, pieces in downloads]
            ring.change(leaving["downloader"], revoked=datetime.now(UTC))
            time.sleep(2.5)
            for number, (answer, pieces) in enumerate(downloads):
                with suppress(httpx2.TransportError):
                    received[number] += sum(map(len, pieces))
                assert received[number] < int(answer.headers["content-length"])


def test_no_key_is_in_any_log_or_file(trio: Trio, keys: Mapping[str, Path]) -> None:
    secrets = [path.read_text().strip()[16:].encode() for path in keys.values()]
    written = contents_of(trio.home)
    assert (trio.home / "services.log") in written
    for path, text in written.items():
        assert not any(secret in text for secret in secrets), path
