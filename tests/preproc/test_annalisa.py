from pathlib import Path

import h5py
import numpy as np
import pytest

from preproc.errors import UnusableBatch
from preproc.exports import export_annalisa
from preproc.parameters import Parameters
from preproc.pipeline import preprocess
from preproc.progress import silent
from tests.preproc.batches import GPS, cut, noise, read_strain, write_batch


def test_each_window_is_a_file_with_the_strain_as_it_was_measured(
    tmp_path: Path, gw150914_files: dict[str, Path]
) -> None:
    strain = {f"{detector}:STRAIN": read_strain(path) for detector, path in gw150914_files.items()}
    batch = write_batch(tmp_path / "batch", [one for name, h in strain.items() for one in cut(h, name)])
    preprocess(batch, tmp_path / "dataset.h5", Parameters(), silent)
    export_annalisa(batch, tmp_path / "dataset.h5", tmp_path / "annalisa", silent)
    with h5py.File(tmp_path / "dataset.h5") as file:
        events = [name.decode() for name in file["event_id"][:]]
    assert sorted(path.name for path in (tmp_path / "annalisa").iterdir()) == [f"{name}.h5" for name in events]
    # Read as the training code reads it.
    with h5py.File(tmp_path / "annalisa" / f"{events[2]}.h5") as file:
        (event,) = file
        assert event == events[2]
        for channel, h in strain.items():
            data = file[event][channel]
            assert (data.attrs["t0"], data.attrs["sample_rate"]) == (GPS + 13, 4096)
            assert data[:].tobytes() == h[13 * 4096 : 19 * 4096].tobytes()


def test_another_batch_than_the_datasets_is_refused(tmp_path: Path) -> None:
    small = Parameters(window=2, stride=2, fmax=80, rows=10, columns=32, fduration=1, psd_fftlength=2)
    batches = [write_batch(tmp_path / str(n), cut(noise(12, n, 256.0), "H1:A", rate=256.0)) for n in (1, 2)]
    preprocess(batches[0], tmp_path / "dataset.h5", small, silent)
    with pytest.raises(UnusableBatch, match=r"is not the batch that .*dataset\.h5 was made of"):
        export_annalisa(batches[1], tmp_path / "dataset.h5", tmp_path / "annalisa", silent)
    assert not np.any([path.exists() for path in (tmp_path / "annalisa").glob("*")])
