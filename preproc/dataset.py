"""The dataset of a batch, `dataset.h5`: the spectrograms, and how they were made.

| path | what it is |
|---|---|
| `/data` | float32 [N, C, F, T]: normalised energy; 1.0 is a typical noise pixel |
| `/frequency` | float64 [F], Hz, row 0 is the lowest |
| `/time_offset` | float64 [T], s since the start of the window |
| `/gps_start` | float64 [N], GPS s of the first sample of each window |
| `/split` | string [N]: train, validation, test, or guard if a window is too near to another part |
| `/channels` | string [C], the names |
| `/event_id` | string [N], unique in the file: the GPS start with microseconds |
| `/psd/<channel>` | float64 [K], 1/Hz; attribute `seconds`: the data it comes from; its scale is `/psd_frequency`, Hz |
| `/psd_spans` | (span [2], channel): the data that each power spectrum was estimated from |
| `/runs` | (span [2], channel): the data without a gap that was read |
| `/rejected` | (span [2], channel, reason): data that are not in `/data`; NaN and "" if unknown |
| `/notes` | (span [2], channel, reason): gaps, duplicates, and suspicious data in `/data` |
| `/sources` | (file name, sha256) of every file of the batch |

In the path of a power spectrum, `%XX` stands for `/` and `%` in the channel name, and for a name of dots only.

The attributes of the file are every parameter by its name, `channels`, `start` and `stop` if they were chosen,
`sample_rate` in Hz, `batch_digest` (defined in `gwwire.manifest.batch_digest`), `batch_id` and `manifest_digest` if the
batch is sealed, `job` (a SHA-256 of batch, parameters and versions) and `version_<package>`. The file does not say when
or where it was made: the same batch, parameters and versions give the same bytes.
"""

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from gwservice.regular_file import open_regular
from gwwire.channel_names import object_of_channel
from preproc.batch import Batch
from preproc.errors import UnusableDataset
from preproc.findings import Finding, Reason
from preproc.job import versions
from preproc.parameters import Parameters
from preproc.qtransform import QTransform
from preproc.runs import Grid, Runs
from preproc.selection import Selection
from preproc.split import Part
from preproc.whiten import Spectrum
from preproc.windows import Span

_TEXT = h5py.string_dtype()
_RUN = [("span", np.float64, (2,)), ("channel", _TEXT)]
_SOURCE = [("file name", _TEXT), ("sha256", _TEXT)]


@dataclass(frozen=True)
class Peak:
    """The loudest pixel of one window of one channel (their indices), in GPS seconds and Hz."""

    energy: float
    gps: float
    frequency: float
    window: int
    channel: int


class DatasetWriter:
    """Writes a dataset: first `write_axes`, then `append` for the windows, then the rest."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        #: GPS seconds at which the windows written so far start.
        self.starts: list[float] = []

    def write_axes(self, channels: Sequence[str], transform: QTransform) -> None:
        """Write the axes of the windows."""
        shape = (len(channels), len(transform.frequency), len(transform.time_offset))
        data = self._file.create_dataset("data", (0, *shape), np.float32, maxshape=(None, *shape), chunks=(1, *shape))
        data.attrs["unit"] = "normalised energy"
        self._write_scale("frequency", transform.frequency, "Hz")
        self._write_scale("time_offset", transform.time_offset, "s")
        self._file["channels"] = np.array(channels, dtype=_TEXT)
        for axis, name in enumerate(("gps_start", "channels", "frequency", "time_offset")):
            data.dims[axis].label = name
        data.dims[2].attach_scale(self._file["frequency"])
        data.dims[3].attach_scale(self._file["time_offset"])

    def append(self, gps_starts: Sequence[float], energy: NDArray[np.float32]) -> None:
        """Add windows, shape [W, C, F, T]."""
        data = self._file["data"]
        data.resize(len(self.starts) + len(gps_starts), axis=0)
        data[len(self.starts) :] = energy
        self.starts.extend(gps_starts)

    def write_spectra(self, spectra: Mapping[str, Spectrum], grid: Grid) -> None:
        """Write the power spectrum of each channel, and the spans it was estimated from."""
        for channel, spectrum in spectra.items():
            if "psd_frequency" not in self._file:
                self._write_scale("psd_frequency", spectrum.frequency, "Hz")
            density = self._file.create_dataset(f"psd/{object_of_channel(channel)}", data=spectrum.density)
            density.attrs["unit"] = "1/Hz"
            density.attrs["seconds"] = spectrum.seconds
            density.dims[0].attach_scale(self._file["psd_frequency"])
        spans = [(span, channel) for channel, one in spectra.items() for span in one.spans]
        self._write_spans("psd_spans", spans, grid)

    def write_parameters(self, parameters: Parameters, job: str, split: Sequence[Part]) -> None:
        """Write the parameters, the versions of the software, and the part of each window."""
        self._file["split"] = np.array([part.value for part in split], dtype=_TEXT)
        named = {f"version_{name}": text for name, text in versions().items()}
        self._file.attrs.update(parameters.given() | named | {"job": job})

    def write_record(self, batch: Batch, runs: Runs, rejected: Sequence[Finding], notes: Sequence[Finding]) -> None:
        """Write the sources of the windows, and the findings."""
        self._file["gps_start"] = np.array(self.starts, dtype=np.float64)
        self._file["event_id"] = np.array([f"{start:.6f}" for start in self.starts], dtype=_TEXT)
        self._write_spans("runs", [((run.start, run.stop), run.channel) for run in runs.all], runs.grid)
        for name, findings in (("rejected", rejected), ("notes", notes)):
            rows = [((found.start, found.stop), found.channel, str(found)) for found in sorted(findings, key=_order)]
            self._file[name] = np.array(rows, dtype=[*_RUN, ("reason", _TEXT)])
        self._file["sources"] = np.array(sorted(batch.sources.items()), dtype=_SOURCE)
        self._file.attrs["sample_rate"] = runs.grid.sample_rate
        self._file.attrs["batch_digest"] = batch.digest
        if batch.manifest is not None:
            self._file.attrs["batch_id"] = batch.manifest.batch
            self._file.attrs["manifest_digest"] = batch.manifest.digest

    def _write_spans(self, name: str, spans: Iterable[tuple[Span, str]], grid: Grid) -> None:
        rows = [((grid.gps(start), grid.gps(stop)), channel) for (start, stop), channel in spans]
        self._file[name] = np.array(rows, dtype=_RUN)

    def _write_scale(self, name: str, values: NDArray[np.float64], unit: str) -> None:
        scale = self._file.create_dataset(name, data=values)
        scale.attrs["unit"] = unit
        scale.make_scale(name)


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a dataset, or raise UnusableDataset if the file cannot be read, or has another layout."""
    try:
        open_regular(path, follow=True).close()  # HDF5 would wait for the writer of a pipe
        with h5py.File(path) as file:
            if not file.keys() >= {"data", "channels", "split", "psd"}:
                raise UnusableDataset(f"{path} is not a dataset of preproc run")
            yield file
    except OSError as error:
        reason = error.strerror or (os.strerror(error.errno) if error.errno else "it is not HDF5, or is truncated")
        raise UnusableDataset(f"cannot read {path}: {reason}") from error


def job_of(path: Path) -> str | None:
    """Return the key of the job that a dataset is the result of, or None if the dataset cannot be read."""
    return _attribute(path, "job")


def batch_of(path: Path) -> tuple[str | None, str | None]:
    """Return the id and the digest of the batch that a dataset was made of, each None if unknown."""
    return _attribute(path, "batch_id"), _attribute(path, "batch_digest")


def _attribute(path: Path, name: str) -> str | None:
    with suppress(OSError):
        open_regular(path, follow=True).close()
        with h5py.File(path) as file:
            value = file.attrs.get(name)
            return value if isinstance(value, str) else None
    return None


def peaks(file: h5py.File) -> Iterator[Peak]:
    """Return the loudest pixel of every window of every channel; one window at a time is in memory."""
    frequency, time_offset, starts = file["frequency"][:], file["time_offset"][:], file["gps_start"][:]
    for window, start in enumerate(starts):
        for channel, energy in enumerate(file["data"][window]):
            row, column = np.unravel_index(int(np.argmax(energy)), energy.shape)
            gps = float(start + time_offset[column])
            yield Peak(float(energy[row, column]), gps, float(frequency[row]), window, channel)


def loudest_of(file: h5py.File) -> list[Peak]:
    """Return the loudest pixel of each channel."""
    loudest: dict[int, Peak] = {}
    for peak in peaks(file):
        if peak.channel not in loudest or peak.energy > loudest[peak.channel].energy:
            loudest[peak.channel] = peak
    return [loudest[channel] for channel in sorted(loudest)]


def channels_of(file: h5py.File) -> list[str]:
    """Return the names of the channels, in the order of the second axis of the data."""
    return [name.decode() for name in file["channels"][:]]


def psd_seconds(file: h5py.File, channel: str) -> float:
    """Return the s of data that the power spectrum of a channel comes from."""
    return float(file["psd"][object_of_channel(channel)].attrs["seconds"])


def selection_of(file: h5py.File) -> Selection:
    """Return which channels and which time of the batch were used."""
    chosen = file.attrs
    return Selection(tuple(chosen.get("channels", ())), chosen.get("start", -math.inf), chosen.get("stop", math.inf))


def split_of(file: h5py.File) -> list[Part]:
    """Return the part that each window belongs to."""
    return [Part(name.decode()) for name in file["split"][:]]


def span_of(file: h5py.File) -> tuple[float, float]:
    """Return the GPS seconds at which the first run starts and the last one stops."""
    spans = file["runs"]["span"]
    return float(spans[:, 0].min()), float(spans[:, 1].max())


def runs_of(file: h5py.File) -> dict[str, list[list[float]]]:
    """Return the runs of each channel, as GPS seconds [start, stop]."""
    runs: dict[str, list[list[float]]] = {}
    for row in file["runs"][:]:
        runs.setdefault(row["channel"].decode(), []).append(row["span"].tolist())
    return runs


def findings_of(file: h5py.File, table: str) -> list[Finding]:
    """Return the findings in one of the tables "rejected" and "notes"."""
    found = []
    for row in file[table][:]:
        reason, _, detail = row["reason"].decode().partition(": ")
        start, stop = row["span"]
        found.append(Finding(row["channel"].decode(), float(start), float(stop), Reason(reason), detail))
    return found


def _order(found: Finding) -> tuple[str, bool, float, str]:
    unknown = math.isnan(found.start)
    return found.channel, unknown, 0.0 if unknown else found.start, str(found)
