"""A datastore that was restored from a backup gets again what was stored after that."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from scripts.trio import Trio
from tests.support.typed import type_client
from tools.clients import Connection

StartTrio = Callable[..., Trio]


@pytest.mark.parametrize("others", [False, True], ids=["at once", "after others"])
def test_what_a_restored_datastore_lacks_is_sent_again_and_nothing_twice(
    tmp_path: Path,
    start_trio: StartTrio,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    others: bool,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    home, backup = tmp_path / "var", tmp_path / "backup"
    rng = np.random.default_rng(1)

    def push(name: str) -> str:
        path, t0 = tmp_path / f"{name}.npy", 1_400_000_000 + 100 * ord(name)
        if not path.exists():
            np.save(path, 1e-21 * rng.standard_normal(1024))
        code, printed = type_client(
            f".venv/bin/gwclient push {path} --rate 256 --t0 {t0} --channel L1:{name.upper()}", capsys
        )
        assert code == 0, printed
        return printed

    trio = start_trio(home=home)
    monkeypatch.setenv("SRV", trio.url)
    push("a")
    trio.stop()
    shutil.copytree(home, backup)
    trio.start()
    push("b")
    trio.stop()
    shutil.rmtree(home)
    backup.rename(home)
    trio.start()
    if others:
        push("c")
    assert push("a").startswith("0 segments (")
    assert push("b").startswith("4 segments (")
    assert push("b").startswith("0 segments (")
    stored = Connection(trio.url).get("/segments")["segments"]
    spans = [(each["channel"], each["t0"]) for each in stored]
    assert len(spans) == len(set(spans)) == (12 if others else 8)


@pytest.mark.parametrize("ended", [False, True], ids=["waiting", "killed"])
def test_what_a_replay_sent_before_the_restore_is_sent_again_when_it_is_repeated(
    tmp_path: Path, start_trio: StartTrio, *, ended: bool
) -> None:
    home, backup = tmp_path / "var", tmp_path / "backup"
    files = [tmp_path / f"{number}.json" for number in range(12)]
    for number, file in enumerate(files):
        segment = {"h": [1e-21 * number] * 16, "t": [1_400_000_000 + number, 1 / 16], "meta": {"channel": "H1:X"}}
        file.write_text(json.dumps(segment))
    trio = start_trio(home=home)
    command = [sys.executable, "-m", "gwclient", "replay", *map(str, files), "--tries", "1", "--poll", "0.1"]
    environment = {**os.environ, "SRV": trio.url, "XDG_STATE_HOME": str(tmp_path / "state")}

    def replay(rate: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, "--rate", rate], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def wait_for_segments(number: int) -> None:
        while Connection(trio.url).get("/stats")["n_itm"] < number:
            time.sleep(0.05)

    with replay("1") as first:
        wait_for_segments(1)
        first.kill()
    trio.stop()
    shutil.copytree(home, backup)
    trio.start()
    with replay("1") as second:
        wait_for_segments(4)
        if ended:
            second.kill()
        trio.stop()
        shutil.rmtree(home)
        backup.rename(home)
        if not ended:
            assert second.stderr is not None
            assert any("asking again in 0.1 s" in line for line in second.stderr)
        trio.start()
        if not ended:
            said = second.communicate(timeout=60)[1]
            assert second.returncode == 1, said
            assert "restored from before that; repeat the command" in said.splitlines()[-1]
    with replay("1000") as third:
        said = third.communicate(timeout=60)[1]
        assert third.returncode == 0, said
    stored = Connection(trio.url).get("/segments")["segments"]
    assert sorted(each["t0"] for each in stored) == [1_400_000_000 + number for number in range(12)]
