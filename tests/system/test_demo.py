"""`make demo`, the first command of a new user."""

import re
import subprocess
import sys
from pathlib import Path

import h5py

from tests.support.transcripts import pattern, steps

ROOT = Path(__file__).parents[2]
#: Each has a transcript: the guide a whole one, the README a shortened one.
DOCUMENTS = ("docs/getting-started.md", "README.md")
TIME = re.compile(r"^ *\d+\.\d s", re.MULTILINE)


def test_the_demo_shows_the_whole_workflow_and_leaves_its_results(tmp_path: Path) -> None:
    seen = subprocess.run(
        [sys.executable, "-m", "scripts.demo"],
        check=False,
        cwd=ROOT,
        env={
            "PATH": "/usr/bin:/bin",
            "TMPDIR": str(tmp_path),
            "HOME": str(tmp_path / "home"),
            "XDG_CACHE_HOME": str(Path.home() / ".cache"),  # matplotlib's list of fonts
        },
        capture_output=True,
        text=True,
        timeout=290,
    )
    assert seen.returncode == 0, seen.stderr
    words = iter(["48 segments", "WAITING", "16 segments", "FROZEN: 64 segments", "frozen", "dataset", "CLEANED"])
    expected = next(words)
    for line in seen.stdout.splitlines():
        if expected in line:
            expected = next(words, "The end")
    assert expected == "The end"
    assert len(seen.stdout.splitlines()) < 45
    printed = TIME.sub("", seen.stdout.replace(str(tmp_path), "/tmp"))  # noqa: S108 (of the documents)
    for name in DOCUMENTS:
        (demo,) = (step for step in steps((ROOT / name).read_text()) if step.command == "make demo")
        assert re.fullmatch(pattern(TIME.sub("", demo.shown)), printed), (name, printed)

    archive, dataset, picture = (
        Path(re.search(rf"^\s+{name}\s+(/.+)$", seen.stdout, re.MULTILINE)[1])  # type: ignore[index]  # fails if absent
        for name in ("archive", "dataset", "picture")
    )
    assert len(list(archive.glob("gwb*.json"))) == 64
    assert not list(tmp_path.rglob("gwclient"))
    with h5py.File(dataset) as file:
        assert file["data"].shape[1:] == (2, 64, 256)
    assert picture.read_bytes().startswith(b"\x89PNG")
