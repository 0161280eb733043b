import hashlib
import math
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwclient.errors import InvalidSource
from gwclient.pieces import cut, left_out
from gwclient.sources.file import FileSource, span_of_name, vetoes
from gwclient.sources.recording import gwosc_channel
from gwclient.strain import Quality

T0 = 1126259446
RATE = 16


def gwosc_file(path: Path, *, t0: int = T0, seconds: int = 4, detector: str = "L1", name: str | None = None) -> Path:
    with h5py.File(path, "w") as file:
        strain = file.create_dataset("strain/Strain", data=np.arange(seconds * RATE) * 1e-21)
        strain.attrs["Xstart"], strain.attrs["Xspacing"] = t0, 1 / RATE
        file["meta/Detector"] = detector
        if name:
            file["strain/GWOSCmeta"] = name
    return path


def test_the_runs_of_many_files_come_ordered_by_t0(tmp_path: Path) -> None:
    late, early = gwosc_file(tmp_path / "a", t0=T0 + 4), gwosc_file(tmp_path / "b")
    source = FileSource((late, early))
    assert [run.t0 for run in source.runs()] == [T0, T0 + 4]
    assert source.seconds == 8


@pytest.mark.parametrize(
    ("start", "stop", "first", "last"),
    [(T0 + 1, T0 + 2, 16, 32), (T0 + 0.99, T0 + 1.01, 16, 17), (T0 - 9, T0 + 99, 0, 64), (T0 + 1.03, math.inf, 17, 64)],
)
def test_a_window_is_half_open_and_exact_to_the_sample(
    tmp_path: Path, start: float, stop: float, first: int, last: int
) -> None:
    (run,) = FileSource((gwosc_file(tmp_path / "a"),), start, stop).runs()
    assert np.array_equal(run.strain, np.arange(first, last) * 1e-21)
    assert run.t0 == T0 + first / RATE


def test_a_window_without_samples_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidSource, match="no file has strain in GPS"):
        FileSource((gwosc_file(tmp_path / "a"),), 1.0, 2.0).runs()


def test_the_channel_is_the_one_the_file_names_else_the_one_of_gwosc(tmp_path: Path) -> None:
    named = gwosc_file(tmp_path / "a", name="GWOSC-16KHZ_R1_STRAIN", detector="V1")
    (run,) = FileSource((named,)).runs()
    assert run.channel == "V1:GWOSC-16KHZ_R1_STRAIN"
    digest = hashlib.sha256(named.read_bytes()).hexdigest()
    assert run.meta == {"detector": "V1", "source": "a", "source_sha256": digest}
    assert gwosc_channel("V1:Hrec_hoft_16384Hz", "V1", 16384.0) == "V1:Hrec_hoft_16384Hz"
    assert gwosc_channel("L1:", "L1", 4096.0) == "L1:GWOSC-4KHZ_R1_STRAIN"
    assert gwosc_channel("Strain", "H1", 16384.0) == "H1:GWOSC-16KHZ_R1_STRAIN"


def test_what_is_no_strain_file_is_named(tmp_path: Path) -> None:
    text, other = tmp_path / "text.hdf5", tmp_path / "other.hdf5"
    text.write_text("hello")
    h5py.File(other, "w").close()
    for path in (text, other):
        with pytest.raises(InvalidSource, match=f"{path.name} is not a strain file in the layout of GWOSC"):
            FileSource((path,)).runs()


def test_a_file_without_a_sample_grid_is_refused(tmp_path: Path) -> None:
    path = gwosc_file(tmp_path / "a")
    with h5py.File(path, "a") as file:
        file["strain/Strain"].attrs["Xspacing"] = 0.0
    with pytest.raises(InvalidSource, match="no sample grid"):
        FileSource((path,)).runs()


def test_where_files_of_a_channel_overlap_each_sample_is_sent_once_and_it_is_told(tmp_path: Path) -> None:
    paths = [
        gwosc_file(tmp_path / "a", t0=T0, seconds=4),
        gwosc_file(tmp_path / "b", t0=T0 + 2, seconds=4),
        gwosc_file(tmp_path / "c", t0=T0 + 1, seconds=2),
        gwosc_file(tmp_path / "d", t0=T0, seconds=2, detector="H1"),
    ]
    runs = list(FileSource(tuple(paths)).runs())
    sent = [(run.channel, run.gps(k)) for run in runs for piece in cut(run, 1) for k in range(piece.first, piece.last)]
    assert len(sent) == len(set(sent)) == (6 + 2) * RATE
    told = [(each.span.start - T0, each.span.stop - T0, each.reason) for run in runs for each in left_out(run)]
    assert told == [(2, 4, "in another file too")]


@given(
    mask=st.lists(st.integers(0, 7), min_size=1, max_size=8),
    offset=st.integers(-20, 20),
    count=st.integers(1, 100),
    bits=st.sets(st.sampled_from(["A", "B", "C"])),
)
def test_a_sample_is_vetoed_exactly_where_a_wanted_bit_is_not_known_to_be_set(
    mask: list[int], offset: int, count: int, bits: set[str]
) -> None:
    quality = Quality(("A", "B", "C"), np.array(mask, dtype=np.uint32), float(T0), 1.0)
    t0 = T0 + offset / RATE
    found = vetoes(quality, sorted(bits), t0, 1 / RATE, count)
    vetoed = {k for each in found for k in range(each.first, each.last)}
    wanted = sum(1 << "ABC".index(bit) for bit in bits)
    for k in range(count):
        second = (offset + k) // RATE
        known = mask[second] if 0 <= second < len(mask) else None
        assert (k in vetoed) == (bool(bits) and (known is None or known & wanted != wanted))


def test_bits_cannot_be_chosen_where_a_file_has_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidSource, match="has no data-quality bits to choose from"):
        list(FileSource((gwosc_file(tmp_path / "a"),), bits=("DATA",)).runs())


@pytest.mark.parametrize(
    ("name", "span"),
    [
        ("L-L1_LOSC_4_V2-1126259446-32.hdf5", (1126259446, 1126259478)),
        ("HLV-HLV_TEST-100-7.gwf", (100, 107)),
        ("L-L1-LOSC-100-7.gwf", None),
        ("l-x-1-2.gwf", None),
        ("strain.hdf5", None),
        ("L-L1_X-100.hdf5", None),
    ],
)
def test_a_name_after_t050017_tells_the_span(name: str, span: tuple[int, int] | None) -> None:
    assert span_of_name(name) == span
