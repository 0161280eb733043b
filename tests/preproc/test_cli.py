import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest

from preproc.cli import main
from tests.preproc.batches import EVENT, GPS, cut, noise, read_strain, write_batch

SMALL = ["--window=2", "--fmax=80", "--rows=16", "--columns=32", "--fduration=1", "--psd-fftlength=2"]
PREPROC = [sys.executable, "-m", "preproc", "run"]


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    segments = [one for one in cut(noise(12, rate=256.0), "H1:A", rate=256.0) if one.t0 != GPS + 8]
    return write_batch(tmp_path / "batch", segments)


def test_gw150914_comes_out_of_the_command_line(tmp_path: Path, gw150914_files: dict[str, Path]) -> None:
    segments = [
        segment
        for detector, path in gw150914_files.items()
        for segment in cut(read_strain(path), f"{detector}:GWOSC-4KHZ_R1_STRAIN")
    ]
    data, out = write_batch(tmp_path / "data", segments), tmp_path / "new" / "out"
    done = subprocess.run([*PREPROC, "--data", data, "--out", out], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    loudest = re.search(
        r"^loudest  (\S+) at GPS ([\d.]+), ([\d.]+) Hz, normalised energy ([\d.]+)$", done.stdout, re.MULTILINE
    )
    assert loudest
    assert loudest[1] == "H1:GWOSC-4KHZ_R1_STRAIN"
    assert abs(float(loudest[2]) - EVENT) < 0.03
    assert 80 < float(loudest[3]) < 300
    assert "5 windows of 6 s from GPS 1126259447, 2 channels" in done.stdout
    assert "L1:GWOSC-4KHZ_R1_STRAIN: 2 x edge of the whitening filter, 2 s" in done.stdout
    assert sorted(path.name for path in out.iterdir()) == ["dataset.h5", "spectrograms.png"]
    assert len(done.stdout.splitlines()) <= 25


def test_the_data_may_be_named_by_the_environment(
    tmp_path: Path, batch: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATART", str(batch))
    assert main(["run", "--out", str(tmp_path / "out"), *SMALL]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "H1:A  256 Hz, 2 runs, 11 s, power spectrum from 11 s" in printed.out
    # A stride as long as the window, where nothing is said.
    assert "4 windows of 2 s from GPS 1126259446.5, 1 channel" in printed.out
    assert "noted\n" in printed.out
    assert "H1:A: 1 x gap, 1 s" in printed.out


def test_every_parameter_can_be_chosen(tmp_path: Path, batch: Path) -> None:
    chosen = ["--stride=1", "--q=10", "--fmin=9", "--mismatch=0.3", "--highpass=12"]
    assert main(["run", "--data", str(batch), "--out", str(tmp_path), *SMALL, *chosen]) == 0
    with h5py.File(tmp_path / "dataset.h5") as file:
        names = ("window", "stride", "q", "fmin", "fmax", "rows", "columns", "mismatch", "highpass", "fduration")
        assert [file.attrs[name] for name in names] == [2, 1, 10, 9, 80, 16, 32, 0.3, 12, 1]
        assert file.attrs["psd_fftlength"] == 2


def test_earlier_results_are_replaced(tmp_path: Path, batch: Path) -> None:
    for name in ("dataset.h5", "spectrograms.png"):
        (tmp_path / name).write_text("old")
    assert main(["run", "--data", str(batch), "--out", str(tmp_path), *SMALL]) == 0
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("dataset.h5", "spectrograms.png"))


def test_what_could_not_be_done_is_one_line_and_exit_code_1(
    tmp_path: Path, original_segments: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["run", "--data", str(original_segments[0].parent), "--out", str(out)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("preproc: no window could be made: the longest of 2 runs without a gap is 0.2197 s")
    assert "8 s are needed" in printed.err
    assert len(printed.err.splitlines()) == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["run", "--out", "x"], "--data DIR is required where DATART is not set"),
        (["run", "--data", "x"], "the following arguments are required: --out"),
        (["run", "--data", "x", "--out", "./x"], "--out must not be the directory of the data"),
        (["run", "--data", "x", "--out", "y", "--q", "high"], "argument --q: invalid float value: 'high'"),
        (["run", "--data", "x", "--out", "y", "--q", "2"], "q must be above"),
        (["run", "--data", "x", "--out", "y", "--rows", "1.5"], "argument --rows: invalid int value"),
    ],
)
def test_a_command_that_makes_no_sense_is_exit_code_2(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATART", "")
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_terminal_sees_how_far_it_is_and_nothing_of_it_afterwards(tmp_path: Path, batch: Path) -> None:
    terminal, end = pty.openpty()
    command = [*PREPROC, "--data", str(batch), "--out", str(tmp_path / "out"), *SMALL]
    with subprocess.Popen(command, stderr=end, stdout=subprocess.DEVNULL) as process:
        os.close(end)
        shown = b""
        # Linux ends a terminal that nobody holds any more with an error.
        while chunk := _read(terminal):
            shown += chunk
    os.close(terminal)
    assert process.returncode == 0
    for step in ("reading", "whitening", "transforming"):
        assert step in shown.decode()
    assert shown.endswith(b"\r\x1b[K")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


def test_asked_to_stop_it_leaves_nothing_half_done(tmp_path: Path) -> None:
    # A batch that takes seconds to transform, a window at each sample.
    batch = write_batch(tmp_path / "batch", cut(noise(60, rate=256.0), "H1:A", rate=256.0, seconds=60))
    out = tmp_path / "out"
    command = [*PREPROC, "--data", str(batch), "--out", str(out), *SMALL, "--stride=0.004"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not (out.exists() and list(out.iterdir())):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate()
    assert (process.returncode, told) == (1, "preproc: interrupted\n")
    assert not list(out.iterdir())
