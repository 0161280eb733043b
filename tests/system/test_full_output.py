"""Output on a disk that is really full: one line that names the file, exit code 5, and no file left behind."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx2
import numpy as np
import pytest

from preproc.parameters import Parameters
from preproc.pipeline import preprocess
from preproc.progress import silent
from scripts.trio import Trio
from tests.preproc.batches import cut, noise, write_batch
from tests.support.forked import run_forked


def run(module: str, folders: Sequence[Path], *words: str, out: list[str] | None = None) -> list[tuple[int, str]]:
    """Run a command with each folder for the word OUT; return the exit codes and the last lines on standard error.

    `out` gets the lines of standard output.
    """
    results = []
    for folder in folders:
        done = run_forked([module, *(str(folder) if word == "OUT" else word for word in words)], os.environ)
        assert "Traceback" not in done.stderr
        if out is not None:
            out += done.stdout.splitlines()
        results.append((done.returncode, done.stderr.replace("\r", "\n").rstrip().rpartition("\n")[2]))
    return results


@pytest.fixture
def small(make_small: Callable[..., None], tmp_path: Path) -> Callable[[int], Path]:
    """Return a function that makes a folder with a file system of so many KiB."""

    def make(size: int) -> Path:
        make_small(tmp_path / f"{size}k", f"size={size}k")
        return tmp_path / f"{size}k"

    return make


def test_strain_that_is_fetched_to_a_full_disk_ends_with_exit_code_5(
    small: Callable[[int], Path], start_trio: Callable[..., Trio]
) -> None:
    folders = [small(size) for size in (8, 64, 300, 316)]
    trio = start_trio()
    h = np.random.default_rng(1).normal(0, 1e-21, 4096).tolist()
    segments = [{"h": h, "t": [1000 + second, 1 / 4096], "meta": {"channel": "H1:FULL"}} for second in range(10)]
    lines = "\n".join(map(json.dumps, segments))
    httpx2.post(f"{trio.url}/streamdata", content=lines, headers={"Content-Type": "application/x-ndjson"})
    words = ["get", "--channel", "H1:FULL", "--srv", trio.url, "--out", "OUT"]
    for folder, (code, seen) in zip(folders, run("gwclient", folders, *words), strict=True):
        assert code == 5
        name = folder / "H-H1_FULL-1000-10.hdf5"
        assert seen == f"gwclient: {name} cannot be written: No space left on device"
        assert list(folder.iterdir()) == []
    cut_off = folders[1] / "segments.ndjson"
    words[-1] = str(cut_off)
    ((code, seen),) = run("gwclient", folders[:1], *words, "--format", "ndjson")
    assert (code, seen) == (5, f"gwclient: {cut_off} cannot be written: No space left on device")
    assert list(folders[1].iterdir()) == []


@pytest.mark.parametrize("command", ["push", "replay"])
def test_a_cursor_or_spool_on_a_full_disk_ends_with_exit_code_5(
    small: Callable[[int], Path], start_trio: Callable[..., Trio], tmp_path: Path, command: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    state = small(16) / "gwclient"
    monkeypatch.setenv("XDG_STATE_HOME", str(state.parent))
    segment = tmp_path / "a.json"
    segment.write_text(json.dumps({"h": [1e-21] * 4096, "t": [1000, 1 / 4096], "meta": {"channel": "H1:FULL"}}))
    (state.parent / "filling").write_bytes(bytes(16 * 1024))
    trio = start_trio()
    out: list[str] = []
    ((code, seen),) = run("gwclient", [tmp_path], command, str(segment), "--srv", trio.url, out=out)
    assert code == 5
    assert seen.startswith(f"gwclient: {state}/")
    assert ".json cannot be written: No space left on device" in seen
    if command == "push":
        assert out[0].startswith("1 segment (")
        assert out[0].endswith(" acknowledged: H1:FULL [1000, 1001)")
        assert seen.endswith("; 1 of 1 segment acknowledged")


def test_a_simulated_batch_on_a_full_disk_ends_with_exit_code_5(small: Callable[[int], Path]) -> None:
    folder = small(64)
    ((code, seen),) = run("gwclient", [folder], "simulate", "--seconds", "8", "--out", "OUT")
    assert code == 5
    assert seen.startswith(f"gwclient: {folder}/gwb")
    assert seen.endswith(".json cannot be written: No space left on device")


def test_a_dataset_on_a_full_disk_ends_with_exit_code_5(small: Callable[[int], Path], tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "batch", cut(noise(40, rate=256.0), "H1:A", rate=256.0))
    folders = [small(size) for size in (8, 256, 320, 364)]
    shape = ["--window=2", "--fmax=80", "--rows=32", "--columns=64", "--fduration=1", "--psd-fftlength=2"]
    results = run("preproc", folders, "run", "--data", str(batch), "--out", "OUT", *shape, "--export", "annalisa")
    failed = [".job/block-000000.npy", "dataset.h5", "dataset.h5", "annalisa/1126259448.500000.h5"]
    for folder, name, (code, seen) in zip(folders, failed, results, strict=True):
        assert (code, seen) == (5, f"preproc: cannot write {folder / name}: No space left on device")
        assert not (folder / name).exists()
        assert list(folder.rglob("*.part")) == []


def test_a_tensor_on_a_full_disk_is_not_written_and_named(small: Callable[[int], Path], tmp_path: Path) -> None:
    """The disk is full before torch is used, so an empty module will do where it is not installed."""
    if importlib.util.find_spec("torch") is None:
        (tmp_path / "torch.py").touch()
    batch = write_batch(tmp_path / "batch", cut(noise(40, rate=256.0), "H1:A", rate=256.0))
    output = small(64) / "QT.pt"
    shape = Parameters(window=2, stride=2, fmax=80, rows=32, columns=128, fduration=1, psd_fftlength=2)
    preprocess(batch, tmp_path / "dataset.h5", shape, silent)
    program = f"from preproc.exports import *; write_qt(Path('{tmp_path}/dataset.h5'), Path('{output}'))"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.stderr.endswith(f"preproc.errors.Unwritable: cannot write {output}: No space left on device\n")
    assert list(output.parent.iterdir()) == []


@pytest.fixture
def volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment has an empty volume."""
    (tmp_path / "vol").mkdir()
    for name, path in {"DTVOLROOT": "vol", "DATAROOT": "vol/data", "ADMROOT": "adm", "LOGROOT": "log"}.items():
        monkeypatch.setenv(name, str(tmp_path / path))


@pytest.mark.usefixtures("volume")
@pytest.mark.parametrize("reason", ["No space left on device", "Broken pipe", "standard output is closed"])
def test_a_command_of_the_buffer_that_cannot_print_says_so_in_one_line(reason: str) -> None:
    command = [sys.executable, "-m", "databuffer", "fsck"]
    if reason == "standard output is closed":
        command = ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *command]
    with Path("/dev/full").open("w") as full:
        reader, pipe = os.pipe()
        os.close(reader)
        output = pipe if reason == "Broken pipe" else full
        done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
        os.close(pipe)
    assert (done.returncode, done.stderr) == (1, f"databuffer: fsck: the output cannot be written: {reason}\n")


@pytest.mark.usefixtures("volume")
def test_fsck_without_a_temporary_folder_says_so_in_one_line() -> None:
    program = (
        "import tempfile; tempfile.tempdir = '/missing'; from databuffer.__main__ import main; exit(main(['fsck']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"databuffer: fsck: No such file or directory: /missing/fsck-\S+\n", done.stderr)
