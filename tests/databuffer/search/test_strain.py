"""Files in GWOSC's layout from stored segments; unmodified gwpy reads them."""

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from databuffer.search.strain import FORMATS, write_files
from databuffer.storage.catalog import CataloguedSegment
from gwfiles.stretches import LeftOut, Span
from gwwire.bundles import BundleFormat
from gwwire.segment import Segment, decode_segment

HDF5, GWF = FORMATS[BundleFormat.HDF5], FORMATS[BundleFormat.GWF]
GPS, RATE = 1126259446, 64
WIDE = (-math.inf, math.inf)


class Stored:
    """Segments of one second, each with its own random samples."""

    def __init__(self) -> None:
        self.rows: list[CataloguedSegment] = []
        self.bodies: dict[str, bytes] = {}
        self.random = np.random.default_rng(1)

    def add(self, t0: float, channel: str = "H1:GWOSC-4KHZ", n: int = RATE, **meta: object) -> np.ndarray:
        h = self.random.normal(scale=1e-21, size=n)
        body = {"h": h.tolist(), "t": [t0, 1 / RATE], "meta": {"channel": channel, **meta}}
        seq = len(self.rows) + 1
        row = CataloguedSegment(seq, "b1", f"gwb{seq}.json", 0, str(seq), channel, t0, 1 / RATE, n, 0)
        self.rows.append(row)
        self.bodies[row.name] = json.dumps(body).encode()
        return h

    def read(self, name: str) -> Segment:
        return decode_segment(self.bodies[name])


def test_consecutive_segments_are_one_file_that_gwpy_reads_bit_for_bit(tmp_path: Path) -> None:
    stored = Stored()
    late, early = stored.add(GPS + 1), stored.add(GPS)
    after_gap = stored.add(GPS + 3)
    other = stored.add(GPS, "L1:GWOSC-4KHZ")
    written = write_files(stored.rows, WIDE, tmp_path, stored.read, HDF5)
    assert [member.name for member in written.files] == [
        f"H-H1_GWOSC_4KHZ-{GPS}-2.hdf5",
        f"H-H1_GWOSC_4KHZ-{GPS + 3}-1.hdf5",
        f"L-L1_GWOSC_4KHZ-{GPS}-1.hdf5",
    ]
    assert not written.left_out
    with warnings.catch_warnings(action="ignore"):
        from gwpy.timeseries import TimeSeries  # noqa: PLC0415 (takes seconds)
    for member, samples in zip(written.files, [np.concatenate([early, late]), after_gap, other], strict=True):
        series = TimeSeries.read(tmp_path / member.name, format="hdf5.gwosc")
        assert np.array_equal(series.value, samples)
        assert (series.t0.value, series.dt.value) == (int(member.name.split("-")[-2]), 1 / RATE)


def test_the_same_segments_make_the_same_bytes(tmp_path: Path) -> None:
    stored = Stored()
    for second in range(3):
        stored.add(GPS + second, quality=["DATA"])
    digests = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        digests.append(write_files(stored.rows, WIDE, folder, stored.read, HDF5).files)
    assert digests[0] == digests[1]


def test_data_quality_and_only_the_samples_of_the_span_are_in_the_file(tmp_path: Path) -> None:
    stored = Stored()
    samples = np.concatenate([stored.add(GPS, quality=["DATA", "CBC"]), stored.add(GPS + 1, quality=["DATA"])])
    (member,) = write_files(stored.rows, (GPS + 0.5, GPS + 1.5), tmp_path, stored.read, HDF5).files
    with h5py.File(tmp_path / member.name) as file:
        assert np.array_equal(file["strain/Strain"], samples[RATE // 2 : RATE // 2 + RATE])
        assert file["quality/simple/DQmask"][:].tolist() == [0b11, 0b01]
        assert file["quality/simple/DQShortnames"][:].tolist() == [b"DATA", b"CBC"]


def test_what_no_file_holds_is_named(tmp_path: Path) -> None:
    stored = Stored()
    stored.add(GPS)
    stored.add(GPS)
    stored.add(1e11, "H1:LATE")
    written = write_files(stored.rows, WIDE, tmp_path, stored.read, HDF5)
    assert len(written.files) == 1
    assert written.left_out == [
        LeftOut(Span("H1:GWOSC-4KHZ", GPS, GPS + 1), "overlaps another segment"),
        LeftOut(Span("H1:LATE", 1e11, 1e11 + 1), "GPS 100000000000.0 is not within [-1e+10, 1e+10) s"),
    ]


def test_frames_are_the_same_stretches_that_gwpy_reads_bit_for_bit(tmp_path: Path) -> None:
    stored = Stored()
    samples = np.concatenate([stored.add(GPS), stored.add(GPS + 1)])
    stored.add(GPS + 3)
    written = write_files(stored.rows, (GPS + 0.25, math.inf), tmp_path, stored.read, GWF)
    assert [each.name for each in written.files] == [f"H-H1_GWOSC_4KHZ-{GPS}-2.gwf", f"H-H1_GWOSC_4KHZ-{GPS + 3}-1.gwf"]
    assert not written.left_out
    with warnings.catch_warnings(action="ignore"):
        from gwpy.timeseries import TimeSeries  # noqa: PLC0415 (takes seconds)

        series = TimeSeries.read(tmp_path / written.files[0].name, "H1:GWOSC-4KHZ")
    assert np.array_equal(series.value, samples[RATE // 4 :])
    assert (series.t0.value, series.dt.value, series.name) == (GPS + 0.25, 1 / RATE, "H1:GWOSC-4KHZ")


def test_frames_name_what_they_do_not_hold(tmp_path: Path) -> None:
    stored = Stored()
    stored.add(-5.0)
    stored.add(GPS, quality=["DATA"])
    stored.add(GPS + 1, quality=["DATA", "CBC"])
    written = write_files(stored.rows, WIDE, tmp_path, stored.read, GWF)
    assert len(written.files) == 1
    assert written.left_out == [
        LeftOut(Span("H1:GWOSC-4KHZ", -5.0, -4.0), "GPS -5.0 is not within [0, 4.29497e+09) s"),
        LeftOut(Span("H1:GWOSC-4KHZ", GPS, GPS + 2), "data-quality bits, which only HDF5 has: DATA, CBC"),
    ]


def test_an_error_of_reading_ends_the_work(tmp_path: Path) -> None:
    stored = Stored()
    stored.add(GPS)

    def fail(name: str) -> Segment:
        raise InterruptedError(name)

    reader: Callable[[str], Segment] = fail
    with pytest.raises(InterruptedError, match=r"gwb1\.json"):
        write_files(stored.rows, WIDE, tmp_path, reader, HDF5)
