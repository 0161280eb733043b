"""`make demo`, the first command of a new user."""

import re
import subprocess
import sys
from pathlib import Path

import h5py

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
TIME = re.compile(r"^ *\d+\.\d s")


def test_the_demo_shows_the_whole_workflow_and_leaves_its_results(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "scripts.demo"],
        check=False,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert told.returncode == 0, told.stderr
    words = iter(["48 segments", "WAITING", "16 segments", "FROZEN: 64 segments", "frozen", "dataset", "CLEANED"])
    expected = next(words)
    for line in told.stdout.splitlines():
        if expected in line:
            expected = next(words, "The end")
    assert expected == "The end"
    assert len(told.stdout.splitlines()) < 45
    transcript = README[README.index("$ make demo\n") :].partition("```")[0].splitlines()[1:]
    for shown, line in zip(transcript, told.stdout.splitlines(), strict=True):
        pattern = re.escape(TIME.sub("", shown)).replace("/tmp", re.escape(str(tmp_path))).replace("…", ".+")  # noqa: S108 (of the README)
        assert re.fullmatch(pattern, TIME.sub("", line)), line

    archive, dataset, picture = (
        Path(re.search(rf"^\s+{name}\s+(/.+)$", told.stdout, re.MULTILINE)[1])  # type: ignore[index]  # fails if absent
        for name in ("archive", "dataset", "picture")
    )
    assert len(list(archive.glob("gwb*.json"))) == 64
    with h5py.File(dataset) as file:
        assert file["data"].shape[1:] == (2, 64, 256)
    assert picture.read_bytes().startswith(b"\x89PNG")
