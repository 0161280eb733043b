import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from preproc.cli import main
from preproc.errors import BadParameter, ExtraMissing
from preproc.exports import write_qt
from preproc.parameters import Parameters
from preproc.pipeline import preprocess
from preproc.progress import silent
from tests.preproc.batches import cut, noise, write_batch

SMALL = Parameters(window=2, stride=2, fmax=80, rows=10, columns=32, fduration=1, psd_fftlength=2)
COMMAND = ["--window=2", "--fmax=80", "--rows=10", "--columns=32", "--fduration=1", "--psd-fftlength=2"]


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    segments = [*cut(noise(20, rate=256.0), "H1:A", rate=256.0), *cut(noise(20, 2, 256.0), "L1:A", rate=256.0)]
    return write_batch(tmp_path_factory.mktemp("qt") / "batch", segments)


@pytest.fixture(scope="module")
def dataset(batch: Path) -> Path:
    preprocess(batch, batch.parent / "dataset.h5", SMALL, silent)
    return batch.parent / "dataset.h5"


def test_the_training_code_can_load_it(tmp_path: Path, dataset: Path) -> None:
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    write_qt(dataset, tmp_path / "QT.pt")
    frame = torch.load(tmp_path / "QT.pt", weights_only=True)
    with h5py.File(dataset) as file:
        assert np.array_equal(frame["data"].numpy(), file["data"][:])
        assert frame["gps"] == file["gps_start"][:].tolist()
        assert frame["rows"] == [name.decode() for name in file["event_id"][:]]
        digest = file.attrs["batch_digest"]
    assert frame["data"].dtype == torch.float32
    assert frame["data"].shape == (9, 2, 10, 32)
    assert frame["cols"] == ["H1:A", "L1:A"]
    split = frame["ann"].pop("split")
    assert split == ["train"] * 9
    assert frame["ann"] == {"sample_rate": 256, "id": digest, "tag": "glitchflow-datastore", "chans": [0, 1]}
    assert [path.name for path in tmp_path.iterdir()] == ["QT.pt"]


def test_the_training_codes_own_cutting_works_on_it(tmp_path: Path, dataset: Path) -> None:
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    write_qt(dataset, tmp_path / "QT.pt")
    data = torch.load(tmp_path / "QT.pt", weights_only=True)["data"]
    # As its augmentation does: three squares out of the middle of each window.
    windows, channels, rows, columns = data.shape
    first = (columns - 3 * rows) // 2
    squares = data[..., first : first + 3 * rows].reshape(windows, channels, rows, 3, rows)
    assert squares.permute(0, 3, 1, 2, 4).reshape(3 * windows, channels, rows, rows).isfinite().all()


def test_the_target_comes_first(tmp_path: Path, dataset: Path) -> None:
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    write_qt(dataset, tmp_path / "QT.pt", "L1:A")
    frame = torch.load(tmp_path / "QT.pt", weights_only=True)
    with h5py.File(dataset) as file:
        assert np.array_equal(frame["data"][:, 0].numpy(), file["data"][:, 1])
    assert frame["cols"] == ["L1:A", "H1:A"]
    with pytest.raises(BadParameter, match="the target V1:A is not in the dataset, which has H1:A, L1:A"):
        write_qt(dataset, tmp_path / "QT.pt", "V1:A")


def test_too_few_columns_for_the_training_code_are_reported(tmp_path: Path, batch: Path) -> None:
    pytest.importorskip("torch", reason="the extra torch is not installed")
    preprocess(batch, tmp_path / "dataset.h5", Parameters(**{**SMALL.given(), "rows": 11}), silent)
    with pytest.raises(BadParameter, match="at least 3 times as many columns as rows; the dataset has 32 and 11"):
        write_qt(tmp_path / "dataset.h5", tmp_path / "QT.pt")


def test_without_torch_it_says_so_in_one_line_and_the_dataset_is_whole(
    tmp_path: Path, batch: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    out = tmp_path / "out"
    command = ["run", "--data", str(batch), "--out", str(out), *COMMAND, "--export=qt"]
    assert main(command) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "preproc: QT.pt needs the extra torch: pip install 'glitchflow-datastore[torch]'; dataset.h5 is complete"
    )
    with h5py.File(out / "dataset.h5") as file:
        assert file["data"].shape == (9, 2, 10, 32)
    made = {path.name for path in out.iterdir()}
    assert made == {".products", "dataset.h5", "spectrograms.png", "report.html", "report.json"}
    with pytest.raises(ExtraMissing):
        write_qt(out / "dataset.h5", out / "QT.pt")
