"""docs/holdings.md: its commands, typed one after the other in a new folder."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.trio import Trio
from tests.support.typed import type_client

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "holdings.md").read_text()
#: The only command that fails, as the page says.
FAILS = 'gwclient put -l "O4a glitches" -b again notes.md'


class Reader:
    """Types commands; those of the client run in this process."""

    def __init__(self, output: pytest.CaptureFixture[str]) -> None:
        self._output = output
        self._transaction = ""

    def type(self, command: str) -> int:
        """Type a command and return its exit code; TRANSACTION is the one that the command before has printed."""
        if not command.startswith("gwclient "):
            return subprocess.run(["sh", "-c", command], check=False).returncode  # noqa: S607 (the system's)
        words, _, file = command.partition(" > ")
        code, printed = type_client(words.replace("TRANSACTION", self._transaction), self._output)
        self._transaction = printed.partition(" ")[0]
        if file:
            Path(file).write_text(printed)
        return code


def test_the_commands_of_the_page_run_in_their_order(
    start_trio: Callable[..., Trio],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("SRV", start_trio().url)
    monkeypatch.chdir(tmp_path)
    reader = Reader(capsys)
    commands = [line for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) for line in block.splitlines()]
    assert [command for command in commands if reader.type(command)] == [FAILS]
    below = tmp_path / "restored" / str(tmp_path)[1:]
    for name in ("notes.md", "spectrograms/a.h5", "spectrograms/b.h5"):
        assert (below / name).read_bytes() == (tmp_path / name).read_bytes()
    assert reader.type('gwclient find -l "O4a glitches" -1 > back.txt') == 0
    back = (tmp_path / "back.txt").read_text().splitlines()
    assert back == [f"{tmp_path}/spectrograms{rest}" for rest in ("", "/a.h5", "/b.h5")]
