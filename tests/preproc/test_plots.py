from pathlib import Path

import h5py
import numpy as np
import pytest
from matplotlib.image import imread

from preproc.errors import OutputFailed
from preproc.parameters import Parameters
from preproc.pipeline import preprocess
from preproc.plots import LOUDEST_COLOUR, MOST_CHANNELS, contact_sheet, draw_contact_sheet, draw_spectra, write_png
from preproc.progress import silent
from tests.preproc.batches import cut, noise, write_batch

SMALL = Parameters(window=2, stride=2, fmax=80, rows=16, columns=32, fduration=1, psd_fftlength=2)


def make_dataset(folder: Path, channels: int, seconds: float = 20) -> Path:
    segments = [
        segment
        for number in range(channels)
        for segment in cut(noise(seconds, number, 256.0), f"H1:C{number:02d}", rate=256.0)
    ]
    preprocess(write_batch(folder / "batch", segments), folder / "dataset.h5", SMALL, silent)
    return folder / "dataset.h5"


def test_the_sheet_shows_the_loudest_windows_of_each_channel(tmp_path: Path) -> None:
    with h5py.File(make_dataset(tmp_path, 2)) as file:
        figure = contact_sheet(file)
        starts, data = file["gps_start"][:], file["data"][:]
    panels = [axes for axes in figure.axes if axes.get_xlabel()]
    assert len(panels) == 12
    for channel, its_panels in enumerate((panels[:6], panels[6:])):
        loudest = np.argsort(-data[:, channel].max(axis=(1, 2)))[:6]
        assert [panel.get_xlabel() for panel in its_panels] == [
            f"Time [s] from GPS {starts[window]:.1f}" for window in loudest
        ]
        assert its_panels[0].get_ylabel() == f"H1:C{channel:02d}\nFrequency [Hz]"
        assert its_panels[0].get_title(loc="left").startswith(f"peak {data[loudest[0], channel].max():.3g} at GPS ")


def test_axes_and_colours_say_what_they_are(tmp_path: Path) -> None:
    with h5py.File(make_dataset(tmp_path, 1)) as file:
        figure = contact_sheet(file)
        digest = file.attrs["batch_digest"]
    panel, bar = figure.axes[0], figure.axes[-1]
    assert panel.get_yscale() == "log"
    assert panel.get_xlim() == pytest.approx((-1 / 32, 2 - 1 / 32), abs=0.01)
    assert bar.get_ylabel() == "normalised energy"
    assert bar.get_ylim() == (0, LOUDEST_COLOUR)
    title = figure.get_suptitle()
    for part in ("Loudest of 9 windows, 1 channel", "GPS 1126259446 to 1126259466", "256 Hz", digest[:12]):
        assert part in title


def test_a_channel_of_any_name_is_drawn_without_a_warning(tmp_path: Path) -> None:
    names = ["H1:\u4e2d\u6587", "L1:" + "x" * 252, "$a_b$", "_under"]
    segments = [one for name in names for one in cut(noise(9, rate=256.0), name, rate=256.0)]
    preprocess(write_batch(tmp_path / "batch", segments), tmp_path / "dataset.h5", SMALL, silent)
    with h5py.File(tmp_path / "dataset.h5") as file:
        sheet, spectra = contact_sheet(file), draw_spectra(file)
    rows = [axes.get_ylabel().partition("\n")[0].strip() for axes in sheet.axes[::3][:4]]
    shown = [label.strip() for label in spectra.axes[0].get_legend_handles_labels()[1]]
    assert rows == shown == [r"\$a_b\$", r"H1:\u4e2d\u6587", "L1:" + "x" * 28 + "…", "_under"]
    for number, figure in enumerate((sheet, spectra)):
        write_png(figure, tmp_path / f"{number}.png")


def test_more_channels_than_anybody_can_look_at_are_not_all_drawn(tmp_path: Path) -> None:
    with h5py.File(make_dataset(tmp_path, MOST_CHANNELS + 1, seconds=9)) as file:
        figure = contact_sheet(file)
    assert len([axes for axes in figure.axes if axes.get_xlabel()]) == 3 * MOST_CHANNELS
    assert f"{MOST_CHANNELS + 1} channels ({MOST_CHANNELS} of them shown)" in figure.get_suptitle()


def test_the_picture_is_a_png_and_the_same_each_time(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path, 1, seconds=9)
    pictures = [tmp_path / "one.png", tmp_path / "two.png"]
    for picture in pictures:
        draw_contact_sheet(dataset, picture)
    assert pictures[0].read_bytes() == pictures[1].read_bytes()
    pixels = imread(pictures[0])
    assert pixels.shape[1] > 1500
    assert len(np.unique(pixels[..., 1])) > 100


def test_a_picture_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "spectrograms.png").mkdir()
    with pytest.raises(OutputFailed, match=r"cannot write .*spectrograms\.png: Is a directory"):
        draw_contact_sheet(make_dataset(tmp_path, 1, seconds=9), tmp_path / "spectrograms.png")
