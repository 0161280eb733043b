"""A datastore that was restored from a backup gets again what was stored after that."""

import shutil
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
