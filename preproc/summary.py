"""Summarise a dataset on one screen."""

from collections.abc import Iterable
from pathlib import Path

import h5py

from gwwire.gps import gps_text
from preproc.dataset import Peak, channels_of, findings_of, peaks, runs_of, span_of
from preproc.findings import tally

#: So many lines about channels, and about findings of either kind, fit on a screen; the file has them all.
_MOST_LINES = 8
_MOST_CHARACTERS = 90


def summarise(dataset: Path) -> str:
    """Return what is in a dataset and what is not, in some twenty lines."""
    with h5py.File(dataset) as file:
        loudest = _loudest(file)
        return "\n".join(
            [
                _batch(file),
                _dataset(file),
                "channels",
                *_cut(list(_channels(file, loudest))),
                *_findings("not in the dataset", file, "rejected"),
                *_findings("noted", file, "notes"),
                _peak(max(loudest, key=lambda peak: peak.energy), channels_of(file)),
            ]
        )


def _batch(file: h5py.File) -> str:
    start, stop = span_of(file)
    digest = file.attrs["batch_digest"][:12]
    return f"batch    {len(file['sources'])} files, GPS {gps_text(start)} to {gps_text(stop)}, digest {digest}"


def _dataset(file: h5py.File) -> str:
    windows, channels, rows, columns = file["data"].shape
    return (
        f"dataset  {windows} windows of {file.attrs['window']:g} s from GPS {gps_text(file['gps_start'][0])}, "
        f"{channels} channel{'s' * (channels > 1)}, "
        f"{rows} frequencies from {file.attrs['fmin']:g} to {file.attrs['fmax']:g} Hz, {columns} times"
    )


def _loudest(file: h5py.File) -> list[Peak]:
    """Return the loudest pixel of each channel."""
    loudest: dict[int, Peak] = {}
    for peak in peaks(file):
        if peak.channel not in loudest or peak.energy > loudest[peak.channel].energy:
            loudest[peak.channel] = peak
    return [loudest[channel] for channel in sorted(loudest)]


def _channels(file: h5py.File, loudest: Iterable[Peak]) -> Iterable[str]:
    channels, runs = channels_of(file), runs_of(file)
    width = max(map(len, channels))
    for channel, peak in zip(channels, loudest, strict=True):
        count = len(runs[channel])
        yield (
            f"  {channel:<{width}}  {file.attrs['sample_rate']:.10g} Hz, {count} run{'s' * (count > 1)}, "
            f"{sum(runs[channel]):.10g} s, power spectrum from {file['psd'][channel].attrs['seconds']:.4g} s, "
            f"loudest {peak.energy:.3g} at {peak.frequency:.0f} Hz"
        )


def _findings(title: str, file: h5py.File, table: str) -> Iterable[str]:
    lines = []
    for one in tally(findings_of(file, table)):
        line = f"  {one.channel or 'any channel'}: {one.count} x {one.reason}, {one.seconds:.4g} s"
        lines.append(line + (f" ({_short(one.example)})" if one.example else ""))
    return [title, *_cut(lines)] if lines else []


def _short(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"


def _cut(lines: list[str]) -> list[str]:
    more = len(lines) - _MOST_LINES
    return lines if more <= 0 else [*lines[:_MOST_LINES], f"  and {more} more, all of them in the file"]


def _peak(peak: Peak, channels: list[str]) -> str:
    return (
        f"loudest  {channels[peak.channel]} at GPS {peak.gps:.4f}, {peak.frequency:.1f} Hz, "
        f"normalised energy {peak.energy:.1f}"
    )
