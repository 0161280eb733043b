"""Write `QT.pt`, the dataset as the training code loads it: a dictionary of plain types and one tensor.

| key | what it is |
|---|---|
| `data` | float32 tensor [N, C, F, T], row 0 the lowest frequency, channel 0 the target |
| `rows` | [str], the event ids |
| `cols` | [str], the channels |
| `gps` | [float], GPS s of the first sample of each window |
| `ann` | `sample_rate` in Hz, `id`, `tag`, `chans`, and `split`: the part of each window |

`torch.load(path, weights_only=True)` takes it, because nothing in it is of another type.
"""

import importlib
import importlib.util
from pathlib import Path

import h5py
import numpy as np

from preproc.dataset import channels_of, split_of
from preproc.errors import BadParameter, ExtraMissing
from preproc.publish import published

#: The training code cuts each window into three squares.
_SQUARES = 3
_WINDOWS_AT_A_TIME = 256


def torch_is_installed() -> bool:
    """Return whether `write_qt` can do its work, without importing torch."""
    return importlib.util.find_spec("torch") is not None


def write_qt(dataset: Path, output: Path, target: str | None = None) -> None:
    """Write the windows of a dataset for the training code, the channel `target` first (by default the first one).

    Raises:
        ExtraMissing: torch is not installed.
        BadParameter: there is no such channel, or the spectrograms have a shape that cannot be trained with.
        OutputFailed: the file could not be written.

    """
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        raise ExtraMissing(
            f"{output.name} needs the extra torch: pip install 'glitchflow-datastore[torch]'; {dataset.name} is whole"
        ) from error
    with h5py.File(dataset) as file, published(output) as partial:
        order = _order(channels_of(file), target)
        rows, columns = file["data"].shape[2:]
        if columns < _SQUARES * rows:
            need = f"at least {_SQUARES} times as many columns as rows"
            raise BadParameter(f"the training code needs {need}, here are {columns} and {rows}")
        # Backed by a file, the tensor may be larger than the memory.
        spill = partial.with_name(f"{partial.name}.array")
        try:
            data = np.lib.format.open_memmap(spill, "w+", np.float32, file["data"].shape)
            for at in range(0, len(data), _WINDOWS_AT_A_TIME):
                data[at : at + _WINDOWS_AT_A_TIME] = file["data"][at : at + _WINDOWS_AT_A_TIME][:, order]
            torch.save({"data": torch.from_numpy(data)} | _about(file, order), partial)
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
