"""docs/tiers.md: the disaster recovery drill, command by command."""

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.trio import Trio
from tests.support.typed import type_client
from tools.clients import Connection

StartTrio = Callable[..., Trio]

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "tiers.md").read_text()
DRILL = TEXT.partition("## Disaster recovery drill")[2].partition("With Compose:")[0]
SERVE, PUSH, LOSE_CATALOG, LOSE_VOLUME, LOOK = re.findall(r"```sh\n(.*?)```", DRILL, re.DOTALL)
MAKE_FOLDER, START = SERVE.replace("\\\n", "").splitlines()


class Reader:
    """A reader of the page, with a folder that has the other disk, and `var` of the datastore."""

    def __init__(
        self, folder: Path, start: StartTrio, patch: pytest.MonkeyPatch, output: pytest.CaptureFixture[str]
    ) -> None:
        self._folder = folder
        self._start = start
        self._patch = patch
        self._output = output
        (folder / "second").mkdir()
        (folder / ".venv").symlink_to(Path(sys.executable).parents[1])
        patch.chdir(folder)
        patch.setenv("PWD", str(folder))
        patch.setenv("PYTHONPATH", str(ROOT))

    def type(self, commands: str) -> str:
        """Type commands; return what they print."""
        return "".join(map(self._type_one, self._here(commands).replace("\\\n", "").splitlines()))

    def _type_one(self, command: str) -> str:
        if command.startswith(".venv/bin/gwclient "):
            code, printed = type_client(command, self._output)
        else:
            done = subprocess.run(["sh", "-c", command], check=False, stdout=subprocess.PIPE, text=True)  # noqa: S607 (the system's)
            code, printed = done.returncode, done.stdout
        assert code == 0, (command, printed)
        return printed

    @contextmanager
    def serving(self) -> Iterator[Trio]:
        """Run the datastore with the settings of the page's command, as `make run` does."""
        *settings, make, run = shlex.split(self._here(START))
        assert (make, run) == ("make", "run")
        trio = self._start(dict(setting.split("=", 1) for setting in settings), home=self._folder / "var")
        self._patch.setenv("SRV", trio.url)
        try:
            yield trio
        finally:
            trio.stop()

    def _here(self, commands: str) -> str:
        return commands.replace("/mnt/second", f"{self._folder}/second")


def wait_for_copies(trio: Trio) -> None:
    """Wait until both packs are verified in the tier."""
    deadline = time.monotonic() + 60
    while Connection(trio.url).get("/tiers")["tiers"][1]["replicas"] != 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_drill_brings_the_archive_back(
    tmp_path: Path, start_trio: StartTrio, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = Reader(tmp_path, start_trio, monkeypatch, capsys)
    reader.type(MAKE_FOLDER)
    with reader.serving() as trio:
        (batch,) = re.findall(r"(b\d+)  ARCHIVED  32 segments", reader.type(PUSH))
        wait_for_copies(trio)
    reader.type(LOSE_CATALOG)
    with reader.serving() as trio:
        wait_for_copies(trio)
        assert {each["id"] for each in Connection(trio.url).get("/batches")["batches"]} > {batch}
        assert [each["label"] for each in Connection(trio.url).get("/holdings")["holdings"]] == ["drill"]
    assert "2 folders restored, 0 problems" in reader.type(LOSE_VOLUME)
    with reader.serving() as trio:
        wait_for_copies(trio)
        told = reader.type(LOOK.replace("ID", batch))
        assert f"{batch}  ARCHIVED  32 segments" in told
        assert "object  folder" in told
        assert "intact" in told
