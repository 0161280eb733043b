import math
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from preproc import batch
from preproc.batch import read_batch
from preproc.dataset import findings_of, peaks
from preproc.errors import BadParameter, NoWindow, OutputFailed, UnusableBatch
from preproc.findings import Finding, Reason, tally
from preproc.parameters import Parameters
from preproc.pipeline import preprocess
from preproc.progress import silent
from tests.preproc.batches import EVENT, GPS, RATE, Strain, cut, noise, read_strain, write_batch

#: Small windows of slow data, where the numbers do not matter but the way of the data does.
RATE_SLOW = 256.0
SMALL = Parameters(window=2, stride=2, fmax=80, rows=16, columns=32, fduration=1, psd_fftlength=2)


def slow(seconds: float, channel: str, start: float = 0.0, seed: int = 1) -> list[Strain]:
    return cut(noise(seconds, seed, RATE_SLOW), channel, t0=GPS + start, rate=RATE_SLOW)


def run(tmp_path: Path, segments: list[Strain], parameters: Parameters = SMALL, *, seed: int = 0) -> dict[str, Any]:
    """Preprocess segments; give the arrays of the dataset and the findings."""
    folder = write_batch(tmp_path / f"batch{seed}", segments, seed=seed)
    preprocess(folder, tmp_path / "dataset.h5", parameters, silent)
    with h5py.File(tmp_path / "dataset.h5") as file:
        arrays = {name: file[name][:] for name in ("data", "frequency", "time_offset", "gps_start", "event_id")}
        return arrays | {
            "channels": [name.decode() for name in file["channels"][:]],
            "rejected": findings_of(file, "rejected"),
            "notes": findings_of(file, "notes"),
            "psd": {name: (psd[:], dict(psd.attrs)) for name, psd in file["psd"].items()},
            "sources": [(row["file name"].decode(), row["sha256"].decode()) for row in file["sources"][:]],
            "attributes": dict(file.attrs),
        }


def seconds(findings: list[Finding], reason: Reason, channel: str) -> float:
    return sum(found.seconds for found in findings if (found.reason, found.channel) == (reason, channel))


@pytest.fixture(scope="module")
def event_segments(gw150914_files: dict[str, Path]) -> list[Strain]:
    return [
        segment
        for detector, path in gw150914_files.items()
        for segment in cut(read_strain(path), f"{detector}:GWOSC-4KHZ_R1_STRAIN")
    ]


def test_gw150914_is_the_loudest_pixel_of_both_detectors(tmp_path: Path, event_segments: list[Strain]) -> None:
    preprocess(write_batch(tmp_path / "batch", event_segments), tmp_path / "dataset.h5", Parameters(), silent)
    with h5py.File(tmp_path / "dataset.h5") as file:
        assert file["data"].shape == (5, 2, 64, 256)
        found = list(peaks(file))
    for channel in (0, 1):
        loudest = max((peak for peak in found if peak.channel == channel), key=lambda peak: peak.energy)
        assert abs(loudest.gps - EVENT) < 0.03
        assert 80 < loudest.frequency < 300
        assert loudest.energy > 1.5 * sorted(p.energy for p in found if p.channel == channel)[-2]


def test_the_order_of_arrival_does_not_change_a_bit(tmp_path: Path, event_segments: list[Strain]) -> None:
    one, other = (run(tmp_path, event_segments, Parameters(), seed=seed) for seed in (1, 2))
    assert one["attributes"]["batch_digest"] != other["attributes"]["batch_digest"]
    assert one["data"].tobytes() == other["data"].tobytes()
    assert one["gps_start"].tolist() == other["gps_start"].tolist()
    assert one["rejected"] == other["rejected"]


def test_the_same_batch_gives_the_same_bytes(tmp_path: Path) -> None:
    files = []
    for _ in range(2):
        run(tmp_path, slow(16, "H1:A"))
        files.append((tmp_path / "dataset.h5").read_bytes())
    assert files[0] == files[1]


def test_the_record_says_all_there_is_to_know(tmp_path: Path) -> None:
    result = run(tmp_path, [*slow(20, "L1:A", seed=2), *slow(20, "H1:A")])
    assert result["data"].dtype == np.float32
    assert result["data"].shape == (9, 2, 16, 32)
    assert result["channels"] == ["H1:A", "L1:A"]
    assert result["frequency"][[0, -1]].tolist() == pytest.approx([8, 80])
    assert result["time_offset"].tolist() == [column * 2 / 32 for column in range(32)]
    assert result["gps_start"].tolist() == [GPS + 0.5 + 2 * n for n in range(9)]
    assert result["event_id"][0] == b"1126259446.500000"
    assert len(set(result["event_id"])) == 9
    read = read_batch(tmp_path / "batch0", silent)
    assert result["sources"] == sorted(read.sources.items())
    attributes = result["attributes"]
    assert attributes["batch_digest"] == read.digest
    assert attributes["sample_rate"] == RATE_SLOW
    assert {name: attributes[name] for name in SMALL.given()} == SMALL.given()
    assert attributes["version_numpy"] == np.__version__
    with h5py.File(tmp_path / "dataset.h5") as file:
        density = file["psd/H1:A"]
        assert density.shape == density.dims[0][0].shape == (257,)
        assert density.dims[0][0][:].tolist() == np.arange(0, 128.5, 0.5).tolist()
        assert density.attrs["seconds"] == 20
        assert np.mean(density[1:-1]) == pytest.approx(2e-44 / RATE_SLOW, rel=0.1)
        assert file["data"].dims[2][0].name == "/frequency"


def test_every_second_of_a_channel_is_in_a_window_or_rejected_with_a_reason(tmp_path: Path) -> None:
    h1 = [s for s in slow(40, "H1:A") if s.t0 not in {GPS + 13, GPS + 15, GPS + 30}]
    result = run(tmp_path, [*h1, *slow(33, "L1:A", start=4, seed=2)])
    assert len(result["data"]) > 5
    for channel, read in (("H1:A", 37), ("L1:A", 33)):
        lost = sum(found.seconds for found in result["rejected"] if found.channel == channel)
        assert lost + 2 * len(result["data"]) == pytest.approx(read)
    assert seconds(result["rejected"], Reason.SHORT_RUN, "H1:A") == 1
    assert seconds(result["rejected"], Reason.FILTER_EDGE, "H1:A") == 3
    assert seconds(result["rejected"], Reason.NOT_COMMON, "L1:A") > 3
    assert [note.reason for note in result["notes"] if note.channel] == [Reason.GAP] * 3


def test_a_window_never_holds_samples_from_both_sides_of_a_gap(tmp_path: Path) -> None:
    segments = [s for s in slow(30, "H1:A") if s.t0 != GPS + 14]
    starts = run(tmp_path, segments)["gps_start"] - GPS
    assert starts.tolist() == [0.5, 2.5, 4.5, 6.5, 8.5, 10.5, 15.5, 17.5, 19.5, 21.5, 23.5, 25.5, 27.5]


def test_windows_of_a_run_are_the_same_whatever_else_is_in_the_batch(tmp_path: Path) -> None:
    alone = run(tmp_path, slow(20, "H1:A"), seed=1)
    both = run(tmp_path, [*slow(20, "H1:A"), *slow(20, "L1:A", seed=2)], seed=2)
    assert np.array_equal(both["data"][:, [0]], alone["data"])


def test_a_stride_makes_overlapping_windows(tmp_path: Path) -> None:
    result = run(tmp_path, slow(12, "H1:A"), replace(SMALL, stride=0.5))
    assert np.diff(result["gps_start"]).tolist() == [0.5] * 18


def test_a_channel_apart_from_the_others_is_left_out_and_reported(tmp_path: Path) -> None:
    result = run(tmp_path, [*slow(20, "H1:A"), *slow(10, "V1:A", start=30, seed=2), *slow(18, "L1:A", seed=3)])
    assert result["channels"] == ["H1:A", "L1:A"]
    assert seconds(result["rejected"], Reason.NO_COMMON_WINDOW, "V1:A") == 9
    (detail,) = {found.detail for found in result["rejected"] if found.reason is Reason.NO_COMMON_WINDOW}
    assert detail == (
        "its data are in GPS 1126259476.5 to 1126259485.5 (2015-09-14), "
        "those of H1:A, L1:A in GPS 1126259446.5 to 1126259465.5 (2015-09-14)"
    )


@pytest.mark.parametrize("h", [np.zeros(5120), np.full(5120, 1e-21)])
def test_a_dead_channel_does_not_harm_the_others(tmp_path: Path, h: NDArray[np.float64]) -> None:
    result = run(tmp_path, [*slow(20, "H1:A"), *cut(h, "L1:DEAD", rate=RATE_SLOW)])
    assert result["channels"] == ["H1:A"]
    assert seconds(result["rejected"], Reason.CONSTANT, "L1:DEAD") == 20
    assert np.isfinite(result["data"]).all()


def test_a_channel_too_short_for_a_spectrum_is_rejected_with_what_it_had(tmp_path: Path) -> None:
    result = run(tmp_path, [*slow(20, "H1:A"), *slow(7, "L1:A", seed=2)])
    assert result["channels"] == ["H1:A"]
    (found,) = [found for found in result["rejected"] if found.channel == "L1:A"]
    assert str(found) == ("no power spectrum: 7 s in runs of at least 2 s; a power spectrum needs 8 s")


def test_a_short_spectrum_is_noted(tmp_path: Path) -> None:
    result = run(tmp_path, slow(10, "H1:A"))
    assert result["psd"]["H1:A"][1]["seconds"] == 10
    assert [str(note) for note in result["notes"] if note.channel] == [
        "short power spectrum: estimated from 10 s; at least 16 s are recommended"
    ]


def test_the_note_about_a_short_spectrum_is_as_long_as_its_strain(tmp_path: Path) -> None:
    result = run(tmp_path, [*slow(4, "H1:A"), *slow(6, "H1:A", start=1e6)])
    (of_kind,) = [one for one in tally(result["notes"]) if one.reason is Reason.SHORT_SPECTRUM]
    assert (of_kind.count, of_kind.seconds) == (2, 10)


def test_another_rate_and_an_unreadable_file_are_reported(tmp_path: Path) -> None:
    folder = write_batch(tmp_path / "batch0", [*slow(20, "H1:A"), *cut(noise(2, rate=64.0), "H1:SLOW", rate=64.0)])
    (folder / "gwb0.json").write_bytes(b'{"h":[1.0,')
    result = run(tmp_path, [])
    assert result["channels"] == ["H1:A"]
    assert seconds(result["rejected"], Reason.OTHER_RATE, "H1:SLOW") == 2
    (unreadable,) = [found for found in result["rejected"] if found.reason is Reason.UNREADABLE]
    assert unreadable.channel == ""
    assert math.isnan(unreadable.start)
    assert unreadable.detail.startswith("gwb0.json: the body is not JSON")
    assert "gwb0.json" in [name for name, _ in result["sources"]]


@pytest.mark.parametrize("tick", [1e-220, 1e300])
def test_a_window_without_any_signal_is_rejected_and_the_others_stay(tmp_path: Path, tick: float) -> None:
    # Ticks every 0.09 s are no constant strain, but squared they are nothing, or infinite.
    h = noise(30, rate=RATE_SLOW)
    h[10 * 256 : 20 * 256] = 0
    h[10 * 256 : 20 * 256 : 23] = tick
    result = run(tmp_path, cut(h, "H1:A", rate=RATE_SLOW))
    silent_windows = [found for found in result["rejected"] if found.reason is Reason.SILENT]
    # Infinite strain spoils the windows that are whitened with it, or have it in their padding, too.
    assert 0 < len(silent_windows) < 8
    assert all(GPS + 7 < found.start < found.stop < GPS + 23 for found in silent_windows)
    assert len(result["data"]) == 14 - len(silent_windows)
    assert np.isfinite(result["data"]).all()


def test_windows_in_runs_too_short_for_padding_are_reported(tmp_path: Path) -> None:
    result = run(tmp_path, [*slow(20, "H1:A"), *slow(3, "H1:A", start=24)])
    (note,) = [note for note in result["notes"] if note.reason is Reason.NO_PADDING]
    assert (note.start, note.stop) == (GPS + 24.5, GPS + 26.5)


def test_memory_is_bounded_however_large_the_batch_is(tmp_path: Path) -> None:
    def most_memory(seconds: int) -> int:
        segments = cut(noise(seconds, rate=RATE_SLOW), "H1:A", rate=RATE_SLOW, seconds=20)
        folder = write_batch(tmp_path / f"batch{seconds}", segments)
        tracemalloc.start()
        preprocess(folder, tmp_path / f"{seconds}.h5", SMALL, silent)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "_CACHED_BYTES", 50_000)
        most_memory(50)  # what is imported and cached once
        small, large = most_memory(100), most_memory(400)
    strain = 400 * 256 * 8
    assert large - small < strain / 3


@pytest.mark.parametrize("t0", [0.0, -1000.25])
def test_times_at_and_below_zero_are_times(tmp_path: Path, t0: float) -> None:
    segments = cut(noise(12, rate=RATE_SLOW), "H1:A", t0=t0, rate=RATE_SLOW)
    assert run(tmp_path, segments)["gps_start"].tolist() == [t0 + 0.5 + 2 * n for n in range(5)]


def test_too_little_data_says_what_there_is_and_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(NoWindow, match=r"the longest of 1 run without a gap is 5 s \(H1:A\), 8 s are needed"):
        run(tmp_path, cut(noise(5), "H1:A"), Parameters())
    assert not (tmp_path / "dataset.h5").exists()


def test_what_is_needed_is_more_than_what_there_is_as_printed(tmp_path: Path) -> None:
    parameters = Parameters(window=2, stride=2, fduration=2, psd_fftlength=2)
    with pytest.raises(NoWindow, match=r" is 3\.9998 s \(H1:A\), 4 s are needed; .* needs 8 s"):
        run(tmp_path, cut(noise(4)[:-1], "H1:A"), parameters)
    with pytest.raises(NoWindow, match=r"^no window could be made: 1 x no power spectrum \(4 s in .* needs 8 s\)$"):
        run(tmp_path, cut(noise(4), "H1:A"), parameters, seed=1)


def test_a_batch_of_dead_channels_says_so(tmp_path: Path) -> None:
    with pytest.raises(NoWindow, match=r"there is no usable strain in the batch: 1 x constant strain \(0 throughout\)"):
        run(tmp_path, cut(np.zeros(8192), "H1:A"))


def test_a_rate_that_cannot_carry_the_frequencies_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="fmax 500 Hz is too high for data at 256 Hz"):
        run(tmp_path, slow(20, "H1:A"), Parameters())


def test_samples_that_are_days_apart_are_reported_as_too_slow(tmp_path: Path) -> None:
    with pytest.raises(BadParameter, match="fmax 500 Hz is too high for data at 1e-06 Hz"):
        run(tmp_path, cut(noise(2e7, rate=1e-6), "H1:A", rate=1e-6, seconds=5e6), Parameters())


def test_the_original_systems_files_are_too_short_and_it_says_so(tmp_path: Path, original_segments: list[Path]) -> None:
    with pytest.raises(NoWindow, match=r"the longest of 2 runs without a gap is 0\.2197 s \(#unnamed\)"):
        preprocess(original_segments[0].parent, tmp_path / "dataset.h5", Parameters(), silent)


def test_a_failure_leaves_the_earlier_dataset_untouched(tmp_path: Path) -> None:
    run(tmp_path, slow(20, "H1:A"), seed=1)
    before = (tmp_path / "dataset.h5").read_bytes()
    with pytest.raises(NoWindow):
        run(tmp_path, slow(2, "H1:A"), seed=2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnusableBatch):
        preprocess(tmp_path / "empty", tmp_path / "dataset.h5", SMALL, silent)
    assert (tmp_path / "dataset.h5").read_bytes() == before


def test_an_output_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "dataset.h5").mkdir()
    with pytest.raises(OutputFailed, match=r"cannot write .*dataset\.h5: Is a directory"):
        run(tmp_path, slow(20, "H1:A"))
    assert not list(tmp_path.glob(".*.part"))


def test_sixteen_kilohertz_are_as_good_as_four(tmp_path: Path) -> None:
    h = noise(20, rate=4 * RATE)
    t = np.arange(len(h)) / (4 * RATE) - 11.25
    h += 1e-21 * np.exp(-((150 * t) ** 2)) * np.sin(2 * np.pi * 200 * t)
    run(tmp_path, cut(h, "V1:Hrec_hoft_16384Hz", rate=4 * RATE), Parameters())
    with h5py.File(tmp_path / "dataset.h5") as file:
        loudest = max(peaks(file), key=lambda peak: peak.energy)
    assert loudest.gps == pytest.approx(GPS + 11.25, abs=0.03)
    assert loudest.frequency == pytest.approx(200, rel=0.15)
