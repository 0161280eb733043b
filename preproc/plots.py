"""Pictures of a dataset: the loudest windows of each channel, single windows, and power spectra."""

from functools import cache
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, StrMethodFormatter
from numpy.typing import NDArray

from gwwire.channel_names import channel_of_object
from gwwire.gps import gps_text
from preproc.dataset import Peak, channels_of, opened, peaks, span_of
from preproc.errors import BadParameter
from preproc.publish import Publish, published

#: Upper end of every colour scale, so that sheets can be compared; noise has a mean of 1.4 and rarely exceeds 15.
LOUDEST_COLOUR = 25.0
#: Channels in a sheet; more are not legible.
MOST_CHANNELS = 12

#: Characters of a channel name in a picture; more do not fit beside a panel.
_NAME_CHARACTERS = 32
_COLUMNS = 3
_PANEL_INCHES = (4.6, 2.55)
_DPI = 130
_FREQUENCY_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


def draw_contact_sheet(dataset: Path, picture: Path, publish: Publish = published) -> None:
    """Draw the loudest windows of each channel of a dataset into a PNG, or raise OutputFailed."""
    with h5py.File(dataset) as file:
        figure = contact_sheet(file)
    with publish(picture) as partial:
        write_png(figure, partial)


def draw_window(dataset: Path, window: int, picture: Path, publish: Publish = published) -> None:
    """Draw one window of a dataset, a panel for each channel, into a PNG; raise BadParameter if it does not exist."""
    with opened(dataset) as file:
        count = len(file["data"])
        if not 0 <= window < count:
            raise BadParameter(f"there is no window {window}: {dataset} has {count}, the first is 0")
        channels = channels_of(file)
        width, height = _PANEL_INCHES
        figure = Figure(figsize=(2 * width, height * len(channels) + 0.8), layout="constrained")
        name, part = file["event_id"][window].decode(), file["split"][window].decode()
        figure.suptitle(f"window {window} · from GPS {name} · {part}", fontsize=11)
        found = [peak for peak in peaks(file) if peak.window == window]
        for (panel,), peak in zip(figure.subplots(len(channels), 1, squeeze=False), found, strict=True):
            colours = _draw_panel(panel, file, peak)
            _label_row(panel, channels[peak.channel])
            figure.colorbar(colours, ax=panel, extend="max", label="normalised energy")
    with publish(picture) as partial:
        write_png(figure, partial)


def write_png(figure: Figure, picture: Path | BinaryIO, dpi: float = _DPI) -> None:
    """Write a figure; `savefig` would draw it twice, once only to lay it out."""
    figure.set_dpi(dpi)
    # Without the program's version, so that the same dataset makes the same bytes.
    FigureCanvasAgg(figure).print_png(picture, metadata={"Software": None})  # type: ignore[no-untyped-call]


def draw_spectra(file: h5py.File) -> Figure:
    """Draw the noise that each channel of an open dataset was whitened with."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    panel = figure.subplots()
    frequency = file["psd_frequency"][:]
    for name, density in file["psd"].items():
        panel.loglog(frequency[1:], np.sqrt(density[1:]), linewidth=0.8, label=_shown(channel_of_object(name)))
    panel.set_xlim(file.attrs["fmin"] / 2, frequency[-1])
    panel.set_xlabel("Frequency [Hz]")
    panel.set_ylabel("Amplitude spectral density [1/√Hz]")
    panel.legend(fontsize=8)
    panel.grid(visible=True, alpha=0.3)
    return figure


def contact_sheet(file: h5py.File) -> Figure:
    """Draw the loudest windows of each channel of an open dataset."""
    channels = channels_of(file)[:MOST_CHANNELS]
    rows = _loudest_windows(file, len(channels))
    width, height = _PANEL_INCHES
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08, wspace=0.03, hspace=0.04)
    figure = Figure(figsize=(width * _COLUMNS + 0.6, height * len(rows) + 1.1), layout=layout)
    figure.suptitle(_title(file, len(channels)), fontsize=13, linespacing=1.5)
    panels = figure.subplots(len(rows), _COLUMNS, squeeze=False, sharey=True)
    for line, row in zip(panels, rows, strict=True):
        for panel, peak in zip(line, row, strict=False):
            colours = _draw_panel(panel, file, peak)
        for panel in line[len(row) :]:
            panel.set_axis_off()
        _label_row(line[0], channels[row[0].channel])
    label = "normalised energy"
    figure.colorbar(colours, ax=panels, label=label, extend="max", fraction=0.02, pad=0.01, aspect=30)
    return figure


@cache
def _characters() -> frozenset[int]:
    """Return the characters that the font has."""
    return frozenset(get_font(findfont(FontProperties())).get_charmap())


def _shown(channel: str) -> str:
    """Return a channel name for a picture: shortened, and with escapes for what the font lacks."""
    text = "".join(each if ord(each) in _characters() else ascii(each)[1:-1] for each in channel[:_NAME_CHARACTERS])
    if max(len(channel), len(text)) > _NAME_CHARACTERS:
        text = f"{text[: _NAME_CHARACTERS - 1]}…"
    # A dollar begins a formula, and a legend leaves out what begins with `_`.
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def _label_row(panel: Axes, channel: str) -> None:
    panel.set_ylabel(f"{_shown(channel)}\nFrequency [Hz]", fontsize=9)


def _title(file: h5py.File, shown: int) -> str:
    first, (start, stop) = file["gps_start"][0], span_of(file)
    windows, channels = file["data"].shape[:2]
    names = _count(channels, "channel") + (f" ({shown} of them shown)" if shown < channels else "")
    span = f"GPS {gps_text(start)} to {gps_text(stop)}"
    return (
        f"Loudest of {_count(windows, 'window')}, {names} · {span}\n"
        f"windows of {file.attrs['window']:g} s from GPS {gps_text(first)}, {file.attrs['sample_rate']:.10g} Hz, "
        f"Q = {file.attrs['q']:g} · batch {file.attrs['batch_digest'][:12]}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number > 1)}"


def _loudest_windows(file: h5py.File, channels: int) -> list[list[Peak]]:
    loudest = sorted(peaks(file), key=lambda peak: -peak.energy)
    panels = 2 * _COLUMNS if channels <= 2 else _COLUMNS  # noqa: PLR2004 (few channels have a second row each)
    found = [[peak for peak in loudest if peak.channel == channel][:panels] for channel in range(channels)]
    return [one[at : at + _COLUMNS] for one in found for at in range(0, len(one), _COLUMNS)]


def _draw_panel(panel: Axes, file: h5py.File, peak: Peak) -> QuadMesh:
    start = float(file["gps_start"][peak.window])
    times, frequencies = _edges(file["time_offset"][:]), np.exp(_edges(np.log(file["frequency"][:])))
    energy = file["data"][peak.window, peak.channel]
    colours = panel.pcolormesh(times, frequencies, energy, vmin=0, vmax=LOUDEST_COLOUR, cmap="viridis", rasterized=True)
    panel.set_yscale("log")
    panel.set_ylim(frequencies[0], frequencies[-1])
    panel.yaxis.set_major_locator(FixedLocator(_FREQUENCY_TICKS))
    panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.tick_params(labelsize=8)
    panel.set_xlabel(f"Time [s] from GPS {gps_text(start)}", fontsize=9)
    title = f"peak {peak.energy:.3g} at GPS {peak.gps:.3f}, {peak.frequency:.0f} Hz"
    panel.set_title(title, fontsize=9, loc="left", pad=11)
    # The pixel is marked by pointers outside the plot, which hide nothing.
    for marker, at, transform in (
        ("v", (peak.gps - start, 1.03), panel.get_xaxis_transform()),
        ("<", (1.012, peak.frequency), panel.get_yaxis_transform()),
    ):
        panel.plot(*at, marker, color="crimson", markersize=6, clip_on=False, transform=transform)
    return colours


def _edges(centres: NDArray[np.float64]) -> NDArray[np.float64]:
    step = centres[1] - centres[0]
    return np.append(centres - step / 2, centres[-1] + step / 2)
