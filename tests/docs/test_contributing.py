"""CONTRIBUTING.md: its commands, links and folders exist, and no folder is missing."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
HIDDEN_OR_GENERATED = re.compile(r"[._]|.*\.egg-info$|var$|build$|dist$")


def test_every_make_target_exists_and_its_arguments_select_files_that_exist() -> None:
    targets = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout  # noqa: S607 (the user's make)
    known = {line.split()[1] for line in targets.splitlines()}
    assert {"setup", "run", "demo", "check", "test"} <= set(re.findall(r"\bmake ([a-z-]+)", TEXT)) <= known
    for path in re.findall(r"ARGS='(\S+)", TEXT):
        assert (ROOT / path).is_dir()


def test_every_folder_is_described_and_exists() -> None:
    described = set(re.findall(r"^\| `([\w]+)/`", TEXT, re.MULTILINE))
    assert described == {
        path.name for path in ROOT.iterdir() if path.is_dir() and not HIDDEN_OR_GENERATED.match(path.name)
    }


def test_every_file_that_is_named_exists() -> None:
    named = re.findall(r"\]\(([\w./-]+)\)|`((?:tools|\.ci)/[\w./]+)`", TEXT)
    assert len(named) >= 4
    for link, file in named:
        assert (ROOT / (link or file)).exists()
