"""Export strain for ANNALISA, the training code's own preprocessing: an HDF5 file for each window ("Stage A").

`<event id>.h5` holds `/<event id>/<channel>`, float64 [samples]: strain as it was measured, not whitened, with the
attributes `t0` in GPS seconds and `sample_rate` in Hz.
"""

from pathlib import Path

import h5py

from preproc.batch import read_batch
from preproc.dataset import channels_of
from preproc.errors import UnusableBatch
from preproc.progress import Progress
from preproc.publish import published
from preproc.runs import StrainReader, find_runs, most_sampled_rate


def export_annalisa(data: Path, dataset: Path, folder: Path, progress: Progress) -> None:
    """Write the strain of each window of a dataset into a folder; files that are there already stay.

    Raises:
        UnusableBatch: `data` holds other segments than the dataset was made of.
        OutputFailed: a file could not be written.

    """
    batch = read_batch(data, progress)
    segments, _ = most_sampled_rate(batch.pieces)
    runs = find_runs(segments, batch.load)
    reader = StrainReader(runs.pieces, batch.load)
    with h5py.File(dataset) as file:
        if file.attrs["batch_digest"] != batch.digest:
            raise UnusableBatch(f"{data} is not the batch that {dataset} was made of")
        channels = channels_of(file)
        windows = [(name.decode(), float(gps)) for name, gps in zip(file["event_id"], file["gps_start"], strict=True)]
        samples = round(float(file.attrs["window"]) * runs.grid.sample_rate)
    files = [(folder / f"{name}.h5", name, start) for name, start in windows]
    for path, name, start in progress([one for one in files if not one[0].exists()], "exporting"):
        first = round((start - runs.grid.origin) / runs.grid.dt)
        with published(path) as partial, h5py.File(partial, "w") as event:
            for channel in channels:
                strain = event.create_dataset(f"{name}/{channel}", data=reader.read(channel, first, first + samples))
                strain.attrs.update({"t0": start, "sample_rate": runs.grid.sample_rate})
