"""Files in GWOSC's layout from stored segments; unmodified gwpy reads them."""

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from databuffer.search.hdf5 import write_files
from databuffer.storage.catalog import CataloguedSegment
from gwfiles.stretches import LeftOut, Span
from gwwire.segment import Segment, decode_segment

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
    written = write_files(stored.rows, WIDE, tmp_path, stored.read)
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
        digests.append(write_files(stored.rows, WIDE, folder, stored.read).files)
    assert digests[0] == digests[1]


def test_data_quality_and_only_the_samples_of_the_span_are_in_the_file(tmp_path: Path) -> None:
    stored = Stored()
    samples = np.concatenate([stored.add(GPS, quality=["DATA", "CBC"]), stored.add(GPS + 1, quality=["DATA"])])
    (member,) = write_files(stored.rows, (GPS + 0.5, GPS + 1.5), tmp_path, stored.read).files
    with h5py.File(tmp_path / member.name) as file:
        assert np.array_equal(file["strain/Strain"], samples[RATE // 2 : RATE // 2 + RATE])
        assert file["quality/simple/DQmask"][:].tolist() == [0b11, 0b01]
        assert file["quality/simple/DQShortnames"][:].tolist() == [b"DATA", b"CBC"]


def test_what_no_file_holds_is_named(tmp_path: Path) -> None:
    stored = Stored()
    stored.add(GPS)
    stored.add(GPS)
    stored.add(1e11, "H1:LATE")
    written = write_files(stored.rows, WIDE, tmp_path, stored.read)
    assert len(written.files) == 1
    assert written.left_out == [
        LeftOut(Span("H1:GWOSC-4KHZ", GPS, GPS + 1), "overlaps another segment"),
        LeftOut(Span("H1:LATE", 1e11, 1e11 + 1), "GPS 100000000000.0 is not within 1e+10 s"),
    ]


def test_an_error_of_reading_ends_the_work(tmp_path: Path) -> None:
    stored = Stored()
    stored.add(GPS)

    def fail(name: str) -> Segment:
        raise InterruptedError(name)

    reader: Callable[[str], Segment] = fail
    with pytest.raises(InterruptedError, match=r"gwb1\.json"):
        write_files(stored.rows, WIDE, tmp_path, reader)
