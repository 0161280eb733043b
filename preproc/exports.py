"""Exports for the training code.

`QT.pt` is the dataset as a dictionary of plain types and one tensor, for `torch.load(path, weights_only=True)`:

| key | what it is |
|---|---|
| `data` | float32 tensor [N, C, F, T], row 0 the lowest frequency, channel 0 the target |
| `rows` | [str], the event ids |
| `cols` | [str], the channels |
| `gps` | [float], GPS s of the first sample of each window |
| `ann` | `sample_rate` in Hz, `id`, `tag`, `chans`, and `split`: the part of each window |

`<event id>.h5` is a window for ANNALISA, the training code's own preprocessing ("Stage A"). It holds
`/<event id>/<channel>`, float64 [samples]: strain that is not whitened, with the attributes `t0` in GPS
seconds and `sample_rate` in Hz; the channel is written as in the path of its power spectrum in the dataset.
"""

import importlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from gwfiles.hdf5 import created
from gwwire.channel_names import object_of_channel
from preproc.batch import read_batch
from preproc.dataset import channels_of, selection_of, split_of
from preproc.errors import BadParameter, ExtraMissing, UnusableBatch
from preproc.progress import Progress
from preproc.publish import Publish, published
from preproc.runs import StrainReader, find_runs, most_sampled_rate

#: The training code cuts each window into three squares.
_SQUARES = 3
_WINDOWS_AT_A_TIME = 256


def torch_is_installed() -> bool:
    """Return whether torch is installed, without importing it."""
    return importlib.util.find_spec("torch") is not None


def write_qt(dataset: Path, output: Path, target: str | None = None, publish: Publish = published) -> None:
    """Write the windows of a dataset for the training code, the channel `target` first (by default the first one).

    Raises ExtraMissing without torch, and BadParameter if the channel is unknown or the shape cannot be trained with.
    """
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        install = "pip install 'glitchflow-datastore[torch]'"
        raise ExtraMissing(f"{output.name} needs the extra torch: {install}; {dataset.name} is complete") from error
    with h5py.File(dataset) as file, publish(output) as partial:
        order = _order(channels_of(file), target)
        rows, columns = file["data"].shape[2:]
        if columns < _SQUARES * rows:
            need = f"at least {_SQUARES} times as many columns as rows"
            raise BadParameter(f"the training code needs {need}; the dataset has {columns} and {rows}")
        # The tensor is backed by a file, because it may be larger than the memory.
        spill = partial.with_name(f"{partial.name}.array")
        try:
            data = np.lib.format.open_memmap(spill, "w+", np.float32, file["data"].shape)
            with spill.open("r+b") as file_of_array:  # a full disk would end the process when the array is filled
                os.posix_fallocate(file_of_array.fileno(), 0, spill.stat().st_size)
            for at in range(0, len(data), _WINDOWS_AT_A_TIME):
                data[at : at + _WINDOWS_AT_A_TIME] = file["data"][at : at + _WINDOWS_AT_A_TIME][:, order]
            try:
                torch.save({"data": torch.from_numpy(data)} | _about(file, order), partial)
            except RuntimeError as error:  # torch raises no OSError on a full disk
                raise OSError(str(error)) from error
        finally:
            spill.unlink(missing_ok=True)


def _about(file: h5py.File, order: list[int]) -> dict[str, object]:
    channels = channels_of(file)
    return {
        "rows": [name.decode() for name in file["event_id"][:]],
        "cols": [channels[index] for index in order],
        "gps": file["gps_start"][:].tolist(),
        "ann": {
            "sample_rate": round(float(file.attrs["sample_rate"])),
            "id": str(file.attrs.get("batch_id", file.attrs["batch_digest"])),
            "tag": "glitchflow-datastore",
            "chans": list(range(len(channels))),
            "split": [part.value for part in split_of(file)],
        },
    }


def _order(channels: list[str], target: str | None) -> list[int]:
    if target is not None and target not in channels:
        raise BadParameter(f"the target {target} is not in the dataset, which has {', '.join(channels)}")
    return sorted(range(len(channels)), key=lambda index: channels[index] != target)


def export_annalisa(  # noqa: PLR0913, PLR0917 (input, output, and how to write it)
    data: Path,
    dataset: Path,
    folder: Path,
    progress: Progress,
    publish: Publish = published,
    is_there: Callable[[Path], bool] = lambda _: False,
) -> None:
    """Write the strain of each window of a dataset into a folder; files that are there are kept.

    Raises UnusableBatch if `data` holds other segments than the dataset was made of.
    """
    batch = read_batch(data, progress)
    with h5py.File(dataset) as file:
        segments, _ = most_sampled_rate(selection_of(file).pieces(batch.pieces))
        runs = find_runs(segments, batch.load)
        if file.attrs["batch_digest"] != batch.digest:
            raise UnusableBatch(f"{data} is not the batch that {dataset} was made of")
        channels = channels_of(file)
        windows = [(name.decode(), float(gps)) for name, gps in zip(file["event_id"], file["gps_start"], strict=True)]
        samples = round(float(file.attrs["window"]) * runs.grid.sample_rate)
    reader = StrainReader(runs.pieces, batch.load)
    files = [(folder / f"{name}.h5", name, start) for name, start in windows]
    for path, name, start in progress([one for one in files if not is_there(one[0])], "exporting"):
        first = round((start - runs.grid.origin) / runs.grid.dt)
        with publish(path) as partial, created(partial) as (event, _):
            for channel in channels:
                strain = event.create_dataset(
                    f"{name}/{object_of_channel(channel)}", data=reader.read(channel, first, first + samples)
                )
                strain.attrs.update({"t0": start, "sample_rate": runs.grid.sample_rate})
