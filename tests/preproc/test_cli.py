import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from preproc.batch import digest_directory
from preproc.cli import _with_command, main
from preproc.dataset import channels_of, selection_of
from preproc.errors import OutputFailed
from preproc.job import WINDOWS_IN_BLOCK, working_in
from preproc.progress import bar_text, silent
from preproc.run import refuse_another_batch
from preproc.selection import Selection
from preproc.spectrograms import Task, Transformation
from tests.preproc.batches import EVENT, GPS, cut, noise, read_strain, write_batch
from tests.support.forked import Forked, run_forked

SMALL = ["--window=2", "--fmax=80", "--rows=16", "--columns=32", "--fduration=1", "--psd-fftlength=2", "--export=none"]


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    segments = [one for one in cut(noise(12, rate=256.0), "H1:A", rate=256.0) if one.t0 != GPS + 8]
    return write_batch(tmp_path_factory.mktemp("batch"), segments)


@pytest.fixture(scope="module")
def made(batch: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the dataset that the batch yields."""
    out = tmp_path_factory.mktemp("made")
    assert main(["run", "--data", str(batch), "--out", str(out), *SMALL]) == 0
    return out


@pytest.fixture
def finished(made: Path, tmp_path: Path) -> Path:
    """A folder of the test's own, in which a run has finished."""
    return shutil.copytree(made, tmp_path / "out")


def test_gw150914_comes_out_of_the_command_line(tmp_path: Path, gw150914_files: dict[str, Path]) -> None:
    segments = [
        segment
        for detector, path in gw150914_files.items()
        for segment in cut(read_strain(path), f"{detector}:GWOSC-4KHZ_R1_STRAIN")
    ]
    data, out = write_batch(tmp_path / "data", segments), tmp_path / "new" / "out"
    done = run_forked(["preproc", "run", "--data", str(data), "--out", str(out)], os.environ)
    assert (done.returncode, done.stderr) == (0, "")
    loudest = re.search(
        r"^loudest  (\S+) at GPS ([\d.]+), ([\d.]+) Hz, normalised energy ([\d.]+)$", done.stdout, re.MULTILINE
    )
    assert loudest
    assert loudest[1] == "H1:GWOSC-4KHZ_R1_STRAIN"
    assert abs(float(loudest[2]) - EVENT) < 0.03
    assert 80 < float(loudest[3]) < 300
    assert "5 windows of 6 s from GPS 1126259447, 2 channels" in done.stdout
    assert (
        "H1:GWOSC-4KHZ_R1_STRAIN, L1:GWOSC-4KHZ_R1_STRAIN, each: edge of the whitening filter, 2 s in 2 parts"
        in done.stdout
    )
    assert {path.name for path in out.iterdir()} - {"QT.pt"} == {
        *(".products", "dataset.h5", "spectrograms.png", "report.html", "report.json")
    }
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
    assert "H1:A: gap, 1 s" in printed.out


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
        (["--once"], "the following arguments are required: COMMAND"),
        (["run", "--out", "x"], "--data DIR or --batch ID is required if DATART is not set"),
        (["run", "--batch", "\udcff"], "argument --batch: '\\udcff' holds characters that cannot be printed"),
        (["run", "--data", "x", "--channels", ""], "argument --channels: a name cannot be empty"),
        (["run", "--data", ""], "argument --data: a path cannot be empty"),
        (["run", "--data", "x", "--out", ""], "argument --out: a path cannot be empty"),
        (["run", "--data", "x", "--parameters", ""], "argument --parameters: a path cannot be empty"),
        (["watch", "--key-file", ""], "argument --key-file: a path cannot be empty"),
        (["plot", "", "0"], "argument DATASET: a path cannot be empty"),
        *(
            (["run", "--data", "x", "--jobs", jobs], f"argument --jobs: '{jobs[:20]}' is not a number from 1 to 1000")
            for jobs in ("0", "two", "3000000000", "9" * 5000)
        ),
        (["run", "--data", "x", "--start", "nan"], "argument --start: 'nan' is not a number of GPS seconds"),
        (["run", "--data", "x", "--start", "8", "--stop", "7"], "start 8 is not before stop 7"),
        (["run", "--data", "x", "--out", "./x"], "--out must not be the directory of the data"),
        (["run", "--data", "x", "--out", "y", "--q", "high"], "argument --q: invalid float value: 'high'"),
        (["run", "--data", "x", "--out", "y", "--q", "2"], "q must be above"),
        (["run", "--data", "x", "--out", "y", "--rows", "1.5"], "argument --rows: invalid int value"),
        (["run", "--data", "x", "--out", "y", "--rows", "9" * 400], "rows must be a positive number up to 1e+09"),
        (["run", "--data", "x", "--out", "y", "--scheduler", "x"], "--scheduler: 'x' is not an address such as tcp://"),
        (["run", "--data", "x", "--out", "y", "--parameters", "/bin/sh"], "cannot read /bin/sh: it is not text"),
        (["run", "--batch", "b", "--out", "y", "--gateway", "ftp://x"], "--gateway: 'ftp://x' is not an address"),
        (["watch", "--out", "y", "--gateway", "a b"], "--gateway: 'a b' is not an address"),
    ],
)
def test_a_command_that_makes_no_sense_is_exit_code_2(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATART", "")
    monkeypatch.setenv("SRV", "")
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense"])
def test_a_matplotlib_backend_in_the_environment_is_ignored(backend: str, finished: Path) -> None:
    command = [sys.executable, "-m", "preproc", "plot", str(finished / "dataset.h5"), "0"]
    done = subprocess.run(command, env={**os.environ, "MPLBACKEND": backend}, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("content", [b"text.usetex: True\nsavefig.dpi: 7\n", b"caf\xe9: 1\n"], ids=["LaTeX", "Latin-1"])
@pytest.mark.parametrize("place", ["here", "MATPLOTLIBRC", "MPLCONFIGDIR", "XDG_CONFIG_HOME"])
def test_files_of_matplotlib_of_the_user_are_ignored(
    place: str, content: bytes, finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "settings" / ("matplotlib" if place == "XDG_CONFIG_HOME" else "")
    folder.mkdir(parents=True)
    (folder / "matplotlibrc").write_bytes(content)
    environment = {key: os.environ[key] for key in os.environ.keys() - {"MATPLOTLIBRC", "MPLCONFIGDIR"}}
    if place != "here":
        environment[place] = str(tmp_path / "settings")
    command = [sys.executable, "-m", "preproc", "plot", str(finished / "dataset.h5"), "0"]
    here = folder if place == "here" else tmp_path
    done = subprocess.run(command, env=environment, cwd=here, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_terminal_sees_how_far_it_is_and_nothing_of_it_afterwards(tmp_path: Path, batch: Path) -> None:
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "preproc", "run", "--data", str(batch), "--out", str(tmp_path / "out"), *SMALL]
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
    assert bar_text(0, 90, 0.0) == f"{'░' * 30} 0/90"
    assert bar_text(30, 90, 60.0) == f"{'█' * 10}{'░' * 20} 30/90, 0.5/s, 2:00 left"


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:
        return b""


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """A command that takes seconds, with a window at every fourth sample, and the folder that comes of it."""
    folder = tmp_path_factory.mktemp("long")
    batch = write_batch(folder / "batch", cut(noise(10, rate=256.0), "H1:A", rate=256.0, seconds=10))
    options = ["--data", str(batch), *SMALL, "--stride=0.0156"]
    assert main(["run", *options, "--out", str(folder / "out")]) == 0
    return options, folder / "out"


@pytest.mark.parametrize(
    ("sent", "code", "jobs"), [(signal.SIGTERM, 130, 1), (signal.SIGINT, 130, 2), (signal.SIGKILL, -9, 2)]
)
def test_cut_short_it_leaves_nothing_half_done_and_goes_on_where_it_was(
    tmp_path: Path, long_run: tuple[list[str], Path], sent: signal.Signals, code: int, jobs: int
) -> None:
    options, whole = long_run
    out = tmp_path / "out"
    with Forked(["preproc", "run", *options, f"--jobs={jobs}", "--out", str(out)], os.environ) as process:
        while not list(out.glob(".job/block-*.npy")):
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(sent)
        _, seen = process.communicate()
    assert process.returncode == code
    assert code == -9 or seen == "preproc: interrupted\n"
    assert [path.name for path in out.iterdir()] == [".job"]
    done = len(list(out.glob(".job/block-*.npy")))
    transformed = count_transformed(lambda: main(["run", *options, "--out", str(out)]))
    with h5py.File(whole / "dataset.h5") as dataset:
        assert transformed == len(dataset["data"]) - WINDOWS_IN_BLOCK * done
    assert (out / "dataset.h5").read_bytes() == (whole / "dataset.h5").read_bytes()
    assert {path.name for path in out.iterdir()} == {path.name for path in whole.iterdir()}


def count_transformed(work: Callable[[], int]) -> int:
    """Count the windows that are transformed by what is done."""
    counted = 0
    transform = Transformation.__call__

    def counting(self: Transformation, task: Task) -> NDArray[np.float32]:
        nonlocal counted
        counted += len(task.strain)
        return transform(self, task)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Transformation, "__call__", counting)
        assert work() == 0
    return counted


def test_done_again_with_the_same_input_and_parameters_it_does_nothing_and_says_so(
    batch: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.iterdir()}
    assert count_transformed(lambda: main(["run", "--data", str(batch), "--out", str(finished), *SMALL])) == 0
    assert capsys.readouterr().out.startswith("nothing to do: ")
    assert {path: path.stat().st_mtime_ns for path in finished.iterdir()} == before


def test_another_parameter_makes_it_anew(batch: Path, finished: Path) -> None:
    assert count_transformed(lambda: main(["run", "--data", str(batch), "--out", str(finished), *SMALL, "--q=10"])) == 4


def test_the_dataset_of_another_batch_is_not_overwritten(
    tmp_path: Path, batch: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in finished.iterdir()}
    larger = shutil.copytree(batch, tmp_path / "larger")
    (larger / "gwb9.json").write_text('{"h":[1e-22],"t":[0,0.00390625],"meta":{"channel":"H1:A"}}')
    assert main(["run", "--data", str(larger), "--out", str(finished), *SMALL]) == 1
    digest = digest_directory(batch, silent)[:12]
    assert capsys.readouterr().err == (
        f"preproc: {finished} holds the dataset of another batch, with the digest {digest}; choose another --out\n"
    )
    assert {path: path.read_bytes() for path in finished.iterdir()} == before
    folder = tmp_path / "sets" / "{batch}"
    assert main(["run", "--data", str(larger), "--out", str(folder), *SMALL]) == 0
    assert (tmp_path / "sets" / digest_directory(larger, silent)[:12] / "dataset.h5").exists()


def test_a_sealed_batch_that_was_opened_again_may_replace_its_own_dataset(finished: Path) -> None:
    dataset = finished / "dataset.h5"
    with h5py.File(dataset, "a") as file:
        file.attrs["batch_id"] = "b1"
    refuse_another_batch(dataset, "b1", "another digest")
    for batch in ("b2", None):
        with pytest.raises(OutputFailed, match="holds the dataset of another batch, b1;"):
            refuse_another_batch(dataset, batch, "another digest")


def test_a_channel_of_any_name_is_in_the_dataset_and_its_exports(tmp_path: Path) -> None:
    names = ["../x:Y", ".", "100%"]
    segments = [one for name in names for one in cut(noise(10, rate=256.0), name, rate=256.0, seconds=10)]
    out, options = tmp_path / "out", [*SMALL[:-1], "--export=annalisa"]
    assert main(["run", "--data", str(write_batch(tmp_path / "data", segments)), "--out", str(out), *options]) == 0
    with h5py.File(out / "dataset.h5") as file:
        assert channels_of(file) == sorted(names)
        assert sorted(file["psd"]) == ["%2E", "..%2Fx:Y", "100%25"]
    assert [one["name"] for one in json.loads((out / "report.json").read_text())["channels"]] == sorted(names)
    event = min((out / "annalisa").iterdir())
    with h5py.File(event) as file:
        assert sorted(file[event.stem]) == ["%2E", "..%2Fx:Y", "100%25"]


def test_the_settings_of_the_original_start_it_unchanged(
    tmp_path: Path, batch: Path, finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(batch, tmp_path / "data" / "datavar")
    monkeypatch.setenv("DATART", "data/datavar/")
    monkeypatch.setenv("SRV", "http://127.0.0.1:1/")
    assert main(["--out", str(finished), *SMALL]) == 0
    assert "nothing to do" in capsys.readouterr().out
    monkeypatch.delenv("DATART")
    assert main(["--batch", "b1", "--out", str(tmp_path / "out"), *SMALL]) == 1
    assert "no gateway at http://127.0.0.1:1: Connection refused" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environment", "words", "completed"),
    [
        ({"DATART": "d", "SRV": "s"}, [], ["run"]),
        ({"SRV": "s"}, ["--out", "x"], ["watch", "--once", "--out", "x"]),
        ({"SRV": "s"}, ["--batch=b1"], ["run", "--batch=b1"]),
        ({"DATART": "d"}, ["--help"], ["--help"]),
        ({"DATART": "d"}, ["plot", "x"], ["plot", "x"]),
        ({}, [], []),
    ],
)
def test_without_a_command_it_does_what_the_environment_asks(
    environment: dict[str, str], words: list[str], completed: list[str]
) -> None:
    assert _with_command(words, environment) == completed


def test_what_is_left_out_is_named_when_the_batch_is_read_and_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    segments = [
        *cut(noise(20, rate=256.0), "H1:A", rate=256.0),
        *cut(noise(9, rate=256.0), "V1:A", rate=256.0, t0=1e9),
        *cut(noise(3, rate=512.0), "L1:A", rate=512.0),
    ]
    data, out = write_batch(tmp_path / "data", segments), tmp_path / "out"
    assert main(["run", "--data", str(data), "--out", str(out), *SMALL]) == 0
    printed = capsys.readouterr()
    theirs = "those of H1:A in GPS 1126259446 to 1126259466 (2015-09-14)"
    apart = f"its data are in GPS 1000000000 to 1000000009 (2011-09-14), {theirs}"
    assert printed.err.splitlines() == [
        "preproc: left out of the dataset",
        f"  V1:A: no common window, 9 s ({apart})",
        "  L1:A: other sample rate, 3 s in 3 parts (512 Hz, not 256)",
    ]
    seen = printed.out.splitlines()
    assert seen[seen.index("not in the dataset") + 1].startswith("  V1:A: no common window, 8 s (its data are in")
    assert seen[seen.index("not in the dataset") + 2] == printed.err.splitlines()[2]
    assert "  all 9 windows are for training: 18 s are too short for a split in blocks of 60 s" in seen


def test_a_channel_of_short_runs_is_named_when_the_batch_is_read_and_at_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = [
        *cut(noise(4, 2, rate=256.0), "L1:A", rate=256.0),
        *cut(noise(4, 3, rate=256.0), "L1:A", rate=256.0, t0=1e9),
    ]
    shortest = cut(noise(3, 4, rate=256.0), "V1:A", rate=256.0)
    data, out = (
        write_batch(tmp_path / "data", [*cut(noise(20, rate=256.0), "H1:A", rate=256.0), *short, *shortest]),
        tmp_path / "out",
    )
    assert main(["run", "--data", str(data), "--out", str(out), *SMALL, "--window=4"]) == 0
    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "preproc: left out of the dataset",
        "  L1:A: no run long enough, 8 s in 2 parts (4 s; a window and the filter need 5 s)",
        "  V1:A: no power spectrum, 3 s (3 s in runs of at least 2 s; a power spectrum needs 8 s)",
    ]
    seen = printed.out.splitlines()
    top = seen.index("not in the dataset") + 1
    assert seen[top : top + 2] == printed.err.splitlines()[1:]


def test_no_name_of_a_file_or_channel_begins_a_line_or_steers_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_batch(tmp_path / "data", cut(noise(12, rate=256.0), "H1:A\u202eB", rate=256.0))
    (data / "gwb\n\x1b[2J\u202e.json").write_text("no segment")
    (data / os.fsdecode(b"gwb\xff.json")).write_text("no segment")
    assert main(["run", "--data", str(data), "--out", str(tmp_path / "out\x1b[2J"), *SMALL]) == 0
    printed = capsys.readouterr()
    assert all(line.isprintable() for line in [*printed.out.splitlines(), *printed.err.splitlines()])
    for text in (printed.out, printed.err):
        assert r"unreadable file in 2 parts (gwb\n\x1b[2J\u202e.json: " in text
    assert r"gwb\udcff.json: the name is not UTF-8" in (tmp_path / "out\x1b[2J" / "report.html").read_text()
    assert r"H1:A\u202eB  256 Hz" in printed.out
    assert main(["run", "--data", str(tmp_path / "a\nb\u202e"), "--out", str(tmp_path / "out")]) == 1
    assert r"b\u202e" in capsys.readouterr().err


def test_an_old_report_that_cannot_be_replaced_is_named(
    batch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    report.mkdir()
    assert main(["run", "--data", str(batch), "--out", str(tmp_path), *SMALL]) == 5
    assert capsys.readouterr().err == f"preproc: cannot write {report}: Is a directory\n"


def test_channels_and_a_span_can_be_chosen_and_make_another_dataset(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    h1, l1 = (cut(noise(20, seed, rate=256.0), name, rate=256.0) for seed, name in ((1, "H1:A"), (2, "L1:A")))
    data, out = write_batch(tmp_path / "data", [*h1, *l1]), tmp_path / "out"
    options = ["run", "--data", str(data), "--out", str(out), *SMALL[:-1], "--export=annalisa"]
    chosen = ["--channels", "L1:A", f"--start={GPS + 4.5}", f"--stop={GPS + 14}"]
    assert main([*options, *chosen]) == 0
    with h5py.File(out / "dataset.h5") as file:
        assert channels_of(file) == ["L1:A"]
        assert file["gps_start"][:].tolist() == [GPS + 5, GPS + 7, GPS + 9, GPS + 11]
        assert file["runs"]["span"].tolist() == [[GPS + 4.5, GPS + 14]]
        assert selection_of(file) == Selection(("L1:A",), GPS + 4.5, GPS + 14)
    with h5py.File(out / "annalisa" / f"{GPS + 5:.6f}.h5") as event:
        strain = event[f"{GPS + 5:.6f}/L1:A"][:]
    assert strain.tobytes() == np.concatenate([one.h for one in l1])[5 * 256 : 7 * 256].tobytes()
    assert json.loads((out / "report.json").read_text())["parameters"]["channels"] == ["L1:A"]
    capsys.readouterr()
    assert main([*options, *chosen]) == 0
    assert capsys.readouterr().out.startswith("nothing to do")
    assert main([*options, "--channels", "L1:*", "H1:A"]) == 0
    with h5py.File(out / "dataset.h5") as file:
        assert channels_of(file) == ["H1:A", "L1:A"]
    capsys.readouterr()
    for wrong, message in (
        (["--channels", "V1:A", "L1:A"], "no strain of V1:A in the batch; the channels there are H1:A, L1:A"),
        (["--start=5", "--stop=7"], f"no strain in GPS [5, 7); the batch is in GPS {GPS:.0f} to {GPS + 20:.0f}"),
        (["--stop=-5"], "no strain before GPS -5; the batch is in GPS"),
        ([f"--start={GPS + 20}"], f"no strain from GPS {GPS + 20:.0f} on; the batch is in GPS"),
        (
            [f"--start={GPS + 1.001}", f"--stop={GPS + 1.00101}"],
            f"no usable strain in GPS [{GPS + 1:.0f}.001, {GPS + 1:.0f}.00101): this time contains no sample",
        ),
    ):
        assert main([*options, *wrong]) == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("plot", "DATASET", "0")])
def test_output_that_cannot_be_written_is_one_line_and_exit_code_5(
    arguments: tuple[str, ...], finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.replace("DATASET", str(finished / "dataset.h5")) for word in arguments]
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(words) == 5
    assert capsys.readouterr().err == "preproc: the output cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file or directory"), ("strain", "it is not HDF5, or is truncated"), ({}, "is not a dataset of")],
)
def test_what_is_no_dataset_is_named(
    tmp_path: Path, content: str | dict[str, str] | None, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "dataset.h5"
    if isinstance(content, str):
        path.write_text(content)
    elif content is not None:
        h5py.File(path, "w").close()
    assert main(["plot", str(path), "0"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("preproc: ")
    assert str(path) in line
    assert reason in line


def test_a_product_that_is_missing_is_made_without_the_work_before_it(batch: Path, finished: Path) -> None:
    (finished / "spectrograms.png").unlink()
    options = ["--data", str(batch), "--out", str(finished), *SMALL, "--export=annalisa"]
    assert count_transformed(lambda: main(["run", *options])) == 0
    assert (finished / "spectrograms.png").exists()
    assert len(list((finished / "annalisa").glob("*.h5"))) == 4


def test_two_runs_never_work_in_the_same_folder(
    tmp_path: Path, batch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with working_in(tmp_path / "out"):
        assert main(["run", "--data", str(batch), "--out", str(tmp_path / "out"), *SMALL]) == 1
    assert capsys.readouterr().err == f"preproc: another run is using {tmp_path / 'out'}\n"


def test_parameters_come_from_a_file_and_the_command_line_goes_before_it(tmp_path: Path, batch: Path) -> None:
    file = tmp_path / "preproc.yaml"
    file.write_text("dataset_proc: {parameters: {q: 10, frange: [9, 70]}}\nwhiten: {truncation_window_size: 1}\n")
    options = ["--parameters", str(file), "--fmax=75", *(one for one in SMALL if one != "--fmax=80")]
    assert main(["run", "--data", str(batch), "--out", str(tmp_path / "out"), *options]) == 0
    with h5py.File(tmp_path / "out" / "dataset.h5") as dataset:
        assert [dataset.attrs[name] for name in ("q", "fmin", "fmax", "fduration")] == [10, 9, 75, 1]


def test_single_windows_are_drawn_on_request(
    tmp_path: Path, batch: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = finished
    assert main(["run", "--data", str(batch), "--out", str(out), *SMALL, "--window-png=1"]) == 0
    assert main(["plot", str(out / "dataset.h5"), "0", "3", "--out", str(tmp_path)]) == 0
    pictures = [out / "window-1.png", tmp_path / "window-0.png", tmp_path / "window-3.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    assert main(["plot", str(out / "dataset.h5"), "4"]) == 1
    assert "there is no window 4" in capsys.readouterr().err
