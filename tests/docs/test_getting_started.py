"""docs/getting-started.md: its commands, typed one after the other in a new folder, print what it shows."""

import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.trio import free_ports
from tests.support.transcripts import pattern, steps

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "getting-started.md").read_text()
STORY, _, _ = TEXT.partition("## The same with simulated strain")
README = (ROOT / "README.md").read_text()
SERVE = "MAX_SIZE=5MB make run"


def clone(folder: Path) -> None:
    """Copy what git tracks, and link this environment, so that `make setup` has nothing to do."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout  # noqa: S607 (the user's git)
    for name in filter(None, listed.split("\0")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target, follow_symlinks=False)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    for name in ("pyproject.toml", "constraints.txt"):
        os.utime(folder / name, (0, 0))


def download(files: dict[str, Path], folder: Path) -> None:
    """Put the files where the commands of step 3 put them; only these commands need the internet."""
    (block,) = (block for block in re.findall(r"```sh\n(.*?)```", STORY, re.DOTALL) if "curl" in block)
    urls = re.findall(r"^curl -fLO (https://gwosc\.org/\S+)$", block, re.MULTILINE)
    assert len(urls) == len(block.splitlines())
    assert {url.rpartition("/")[2] for url in urls} == {path.name for path in files.values()}
    for path in files.values():
        shutil.copy(path, folder)


@contextmanager
def serving(folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run the datastore as a reader does, from when it is ready until Ctrl-C."""
    with (folder / "services.log").open("w+") as log:
        services = subprocess.Popen(
            ["sh", "-c", f"make setup && exec env {SERVE}"],  # noqa: S607 (the system's)
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + 60
            while "ready at " not in (said := (folder / "services.log").read_text()):
                assert services.poll() is None, said
                assert time.monotonic() < deadline, said
                time.sleep(0.1)
            yield
        finally:
            if services.poll() is None:
                os.killpg(services.pid, signal.SIGINT)
            services.wait(timeout=60)


def test_a_reader_gets_from_a_file_to_a_picture(gw150914_files: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "glitchflow"
    folder.mkdir()
    clone(folder)
    download(gw150914_files, folder)
    ports = free_ports()
    seen = {name: value for name, value in os.environ.items() if name in {"PATH", "LANG", "VIRTUAL_ENV"}}
    # The ports of the document may be in use here; nothing else differs from what a reader has.
    moved = {"PORT_API": ports.api, "PORT_LOGIC": ports.logic, "PORT_BUFFER": ports.buffer}
    environment = {
        **seen,
        **{name: str(port) for name, port in moved.items()},
        "SRV": f"http://127.0.0.1:{ports.api}",
        "HOME": str(tmp_path),
    }
    story = list(steps(STORY))
    assert [step.command for step in story[:2]] == ["make setup", SERVE]
    with serving(folder, environment):
        for step in story[2:]:
            done = subprocess.run(
                ["sh", "-c", step.command],  # noqa: S607 (the system's)
                cwd=folder,
                env=environment,
                check=False,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert done.returncode == 0, done.stdout
            assert re.fullmatch(pattern(step.shown), done.stdout), done.stdout
            if " push " in step.command:
                pages = re.findall(r"<http://127\.0\.0\.1:8000(/\S+)>", STORY)
                assert pages
                for page in pages:
                    with urllib.request.urlopen(environment["SRV"] + page) as shown:  # noqa: S310 (an http address of ours)
                        assert b"GlitchFlow" in shown.read()
    (dataset,) = (folder / "dataset").iterdir()
    assert (dataset / "spectrograms.png").read_bytes().startswith(b"\x89PNG")
    for name in ("dataset.h5", "report.html"):
        assert f"`{name}`" in STORY
        assert (dataset / name).is_file(), name


def test_the_readmes_commands_are_those_of_the_guide() -> None:
    section = README.partition("## Use it as a physicist")[2].partition("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    named = [line for block in blocks for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    assert len(named) == 7
    assert set(named) <= {step.command for step in steps(STORY)}
