import errno
import hashlib
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwclient.errors import InvalidSource
from gwclient.pieces import cut, left_out
from gwclient.sources.file import FileSource, span_of_name, vetoes
from gwclient.sources.hdf5 import gwosc_channel
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
    assert np.array_equal(run.strain[:], np.arange(first, last) * 1e-21)
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
        with pytest.raises(
            InvalidSource,
            match=f"{path.name} (is not a strain file: it is not an HDF5|.*; it has no dataset)",
        ):
            FileSource((path,)).runs()


def attribute(name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file["strain/Strain"].attrs[name] = value

    return change


def without_attribute(name: str) -> Callable[[h5py.File], None]:
    return lambda file: file["strain/Strain"].attrs.__delitem__(name)


def bits(names: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file["quality/simple/DQmask"] = np.full(4, 3, dtype=np.uint32)
        file["quality/simple/DQmask"].attrs.update(Xstart=[T0], Xspacing=1.0)
        file["quality/simple/DQShortnames"] = names

    return change


def dataset(name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        kept = dict(file[name].attrs) if name in file else {}
        if name in file:
            del file[name]
        file[name] = value
        file[name].attrs.update(kept)

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (attribute("Xspacing", 0.0), "strain/Strain: Xspacing is 0.0; a sample spacing in s is from 1e-09 to 1e.06"),
        (attribute("Xspacing", -1 / 16), "strain/Strain: Xspacing is -0.0625; "),
        (attribute("Xspacing", 1e-310), "strain/Strain: Xspacing is 1e-310; "),
        (attribute("Xspacing", 5e-324), "strain/Strain: Xspacing is 5e-324; "),
        (attribute("Xspacing", 1e300), "strain/Strain: Xspacing is 1e.300; "),
        (attribute("Xspacing", math.nan), "strain/Strain: Xspacing is nan; "),
        (attribute("Xspacing", "1/16"), "strain/Strain: Xspacing is '1/16'; it has to be one number"),
        (attribute("Xspacing", np.bytes_("0.0625")), "strain/Strain: Xspacing is b'0.0625'; it has to be one number"),
        (attribute("Xspacing", [1.0, 2.0]), r"strain/Strain: Xspacing is \[1.0, 2.0\]; it has to be one number"),
        (attribute("Xspacing", 1j), "strain/Strain: Xspacing is 1j; it has to be one number"),
        (attribute("Xspacing", h5py.Empty("f8")), r"strain/Strain: Xspacing is \[\]; it has to be one number"),
        (without_attribute("Xspacing"), "strain/Strain has no attribute Xspacing"),
        (without_attribute("Xstart"), "strain/Strain has no attribute Xstart"),
        (attribute("Xstart", 1126259446 * 10**9), "strain/Strain: Xstart is 1.126259446e.18; a GPS time in s is betw"),
        (attribute("Xstart", math.inf), r"Xstart is inf; a GPS time in s is between -1e\+10 and 1e\+10"),
        (dataset("strain/Strain", np.zeros((4, 4))), r"strain/Strain has the shape \(4, 4\); .* list of samples"),
        (dataset("strain/Strain", np.zeros(0)), r"strain/Strain has the shape \(0,\); .* list of samples"),
        (dataset("strain/Strain", 1.0), r"strain/Strain has the shape \(\); .* list of samples"),
        (dataset("strain/Strain", h5py.Empty("f8")), "strain/Strain has the shape None; .* list of samples"),
        (dataset("strain/Strain", np.zeros(4, complex)), "strain/Strain is of type complex128; .* real numbers"),
        (dataset("strain/Strain", [b"a", b"b"]), "strain/Strain is of type |S1; .* real numbers"),
        (
            lambda file: file.__delitem__("strain/Strain"),
            r"no known layout of strain; it has meta/Detector ",
        ),
        (lambda file: file.__delitem__("meta/Detector"), "layout of GWOSC: meta/Detector is missing"),
        (dataset("meta/Detector", 7.5), "meta/Detector is 7.5; it has to be one text"),
        (dataset("meta/Detector", h5py.Empty("S10")), "meta/Detector is ''; a detector is named like H1"),
        (dataset("meta/Channel", 5), "meta/Channel is 5; it has to be one text"),
        (dataset("meta/Channel", np.zeros(0)), r"meta/Channel is \[\]; it has to be one text"),
        (dataset("meta/Channel", [b"H1:A", b"H1:B"]), r"meta/Channel is \[b'H1:A', b'H1:B'\]; it has to be one text"),
        (dataset("meta/Detector", b"\xff\xfe"), r"meta/Detector is b'\\xff\\xfe', which is not UTF-8"),
        (dataset("meta/Detector", "a b"), "meta/Detector is 'a b'; a detector is named like H1"),
        (bits([1.5, 2.5]), r"DQShortnames is of type float64 and shape \(2,\); it has to be a list of names"),
        (bits(np.array([[b"DATA", b"A"]])), r"DQShortnames is of type [|]S4 and shape \(1, 2\); .* list of names"),
        (bits([b"DATA", b"\xff"]), r"DQShortnames has b'\\xff', which is not UTF-8"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_line_with_its_name_and_value(
    tmp_path: Path, change: Callable[[h5py.File], None], words: str
) -> None:
    path = gwosc_file(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(InvalidSource, match=f"a.hdf5.*{words}") as error:
        FileSource((path,)).runs()
    assert "\n" not in str(error.value)


def test_arrays_of_one_and_strings_of_any_kind_are_taken(tmp_path: Path) -> None:
    path = gwosc_file(tmp_path / "a")
    with h5py.File(path, "a") as file:
        for change in (
            attribute("Xspacing", [1 / 16]),
            attribute("Xstart", np.array([[T0]])),
            dataset("meta/Detector", np.array([b"V1"])),
            dataset("strain/GWOSCmeta", np.array(["Strain"], dtype=h5py.string_dtype())),
            dataset("strain/Strain", np.arange(32, dtype=np.int16)),
        ):
            change(file)
    (run,) = FileSource((path,)).runs()
    assert (run.t0, run.dt, run.channel, len(run.strain)) == (T0, 1 / 16, "V1:GWOSC-16HZ_R1_STRAIN", 32)
    with h5py.File(path, "a") as file:
        file["meta/Channel"] = h5py.Empty("S10")
    (run,) = FileSource((path,)).runs()
    assert run.channel == ""


@pytest.mark.parametrize(
    ("rate", "name"),
    [(4096, "4KHZ"), (16384, "16KHZ"), (100, "100HZ"), (2000, "2000HZ"), (512, "512HZ"), (0.5, "0.5HZ"), (49, "49HZ")],
)
def test_the_name_of_a_channel_has_its_rate(tmp_path: Path, rate: float, name: str) -> None:
    path = gwosc_file(tmp_path / "a")
    with h5py.File(path, "a") as file:
        file["strain/Strain"].attrs["Xspacing"] = 1 / rate
    (run,) = FileSource((path,)).runs()
    assert run.channel == f"L1:GWOSC-{name}_R1_STRAIN"


# ---- files that cannot be read, or not all of them


def test_a_file_that_its_writer_locks_is_said_to_be_locked(tmp_path: Path) -> None:
    path = gwosc_file(tmp_path / "a")
    writer = (
        "import h5py, sys; file = h5py.File(sys.argv[1], 'a', locking=True);"
        "file['strain/Strain'][0] = 0; print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", writer, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(
            InvalidSource, match="a is locked by the program that writes it; push it when that has ended"
        ):
            FileSource((path,)).runs()
        process.communicate(timeout=60)
    assert list(FileSource((path,)).runs())


@pytest.mark.parametrize(
    ("number", "failure", "reason"),
    [
        (errno.ENOLCK, "unable to lock file", "No locks available; set HDF5_USE_FILE_LOCKING=FALSE"),
        (errno.EIO, "file read failed", "Input/output error"),
    ],
)
def test_a_failure_of_the_file_system_is_not_said_to_be_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, failure: str, reason: str
) -> None:
    path = gwosc_file(tmp_path / "a")

    def fail(*_: object) -> None:
        words = f"Unable to synchronously open file ({failure}, errno = {number}, error message = '…')"
        raise OSError(number, words)  # as h5py does

    monkeypatch.setattr(h5py, "File", fail)
    with pytest.raises(InvalidSource, match=f"a cannot be read: {reason}$"):
        FileSource((path,)).runs()


def test_a_file_that_is_written_for_readers_meanwhile_is_said_to_be_open(tmp_path: Path) -> None:
    path, meanwhile = tmp_path / "a", tmp_path / "b"
    with h5py.File(path, "w", libver="latest") as file:
        file["meta/Detector"] = "L1"
        strain = file.create_dataset("strain/Strain", data=np.zeros(16), maxshape=(None,))
        strain.attrs.update(Xstart=T0, Xspacing=1 / 16, Xunits=h5py.Empty("S1"))
        file.swmr_mode = True
        shutil.copy(path, meanwhile)  # HDF5 shares what one process opens twice
    with pytest.raises(InvalidSource, match="b is not a strain file: it is open in the program that writes it, or"):
        FileSource((meanwhile,)).runs()
    assert list(FileSource((path,)).runs())


def test_a_file_that_is_gone_or_truncated_is_named_and_the_others_are_sent(tmp_path: Path) -> None:
    good = gwosc_file(tmp_path / f"L-L1_A-{T0}-4.hdf5")
    cut_off = tmp_path / f"L-L1_A-{T0 + 4}-4.hdf5"
    cut_off.write_bytes(good.read_bytes()[:-100])
    gone, loop = tmp_path / "gone.hdf5", tmp_path / "loop.hdf5"
    loop.symlink_to(loop)
    vast = gwosc_file(tmp_path / "vast.hdf5", t0=T0 + 8)
    with h5py.File(vast, "a") as file:
        kept = dict(file["strain/Strain"].attrs)
        del file["strain/Strain"]
        file.create_dataset("strain/Strain", (2**40,), "<f8", chunks=(4096,)).attrs.update(kept)
    source, span = FileSource((gone, cut_off, good, loop, vast)), f"[{T0 + 4}, {T0 + 8})"
    assert [run.t0 for run in source.runs()] == [T0]
    assert list(source.failures) == [
        f"{gone} cannot be read: No such file or directory",
        f"{cut_off} is not a strain file: it is truncated, or still being written (GPS {span})",
        f"{loop} cannot be read: Too many levels of symbolic links",
        f"{vast}: strain/Strain has samples that were never written, or whose file is missing",
    ]
    with pytest.raises(InvalidSource, match=r"gone\.hdf5 cannot be read: No such file or directory; and 1 more"):
        FileSource((gone, cut_off)).runs()


def test_a_pipe_is_named_and_the_others_are_sent(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.hdf5")
    source = FileSource((gwosc_file(tmp_path / "a.hdf5"), tmp_path / "pipe.hdf5"))
    assert len(list(source.runs())) == 1
    assert list(source.failures) == [f"{tmp_path / 'pipe.hdf5'} is not a regular file"]


def test_a_file_whose_name_is_no_utf8_is_sent(tmp_path: Path) -> None:
    (run,) = FileSource((gwosc_file(tmp_path / "\udcff.hdf5"),)).runs()
    (piece,) = cut(run, 4.0)
    assert b'"source":"\\\\udcff.hdf5"' in piece.body()


def test_a_file_that_changes_while_it_is_read_is_not_sent(tmp_path: Path) -> None:
    path, other = gwosc_file(tmp_path / "a"), gwosc_file(tmp_path / "b", detector="H1")
    source = FileSource((path, other))
    runs = source.runs()
    with h5py.File(path, "a") as file:
        file["strain/Strain"][0] = 1.0
    assert [run.channel[:2] for run in runs] == ["H1"]
    (line,) = source.failures
    assert line.startswith(f"{path} changed while it was read; push it again when it is complete (L1:")


def test_a_file_that_lacks_a_bit_does_not_stop_the_others(tmp_path: Path) -> None:
    paths = gwosc_file(tmp_path / "a"), gwosc_file(tmp_path / "b", detector="H1")
    with h5py.File(paths[0], "a") as file:
        bits([b"DATA", b"CBCHIGH_CAT1"])(file)
    source = FileSource(paths, bits=("CBCHIGH_CAT1",))
    assert [run.channel[:2] for run in source.runs()] == ["L1"]
    assert "b has no data-quality bits to choose from (H1:" in next(iter(source.failures))


def test_a_mask_whose_bits_the_file_does_not_name_is_not_used(tmp_path: Path) -> None:
    path = gwosc_file(tmp_path / "a")
    with h5py.File(path, "a") as file:
        file["quality/simple/DQmask"] = np.zeros(4, dtype=np.uint32)
    (run,) = FileSource((path,)).runs()
    assert run.quality is None


def test_a_mask_that_cannot_be_used_is_named_if_a_bit_has_to_be_set(tmp_path: Path) -> None:
    path = gwosc_file(tmp_path / "a")
    with h5py.File(path, "a") as file:
        bits([1, 2])(file)
    with pytest.raises(InvalidSource, match="it has to be a list of names"):
        FileSource((path,)).runs()
    (run,) = FileSource((path,), bits=()).runs()  # as by --dq none
    assert run.quality is None


def test_a_file_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    path = gwosc_file(tmp_path / "a")
    again = tmp_path / ".." / tmp_path.name / "a"
    source = FileSource((path, again, path))
    assert len(list(source.runs())) == 1
    assert source.identity == FileSource((path,)).identity


def test_where_files_of_a_channel_overlap_each_sample_is_sent_once_and_it_is_reported(tmp_path: Path) -> None:
    paths = [
        gwosc_file(tmp_path / "a", t0=T0, seconds=4),
        gwosc_file(tmp_path / "b", t0=T0 + 2, seconds=4),
        gwosc_file(tmp_path / "c", t0=T0 + 1, seconds=2),
        gwosc_file(tmp_path / "d", t0=T0, seconds=2, detector="H1"),
    ]
    source = FileSource(tuple(paths))
    runs = list(source.runs())
    sent = [(run.channel, run.gps(k)) for run in runs for piece in cut(run, 1) for k in range(piece.first, piece.last)]
    assert len(sent) == len(set(sent)) == (6 + 2) * RATE
    seen = [(each.span.start - T0, each.span.stop - T0, each.reason) for run in runs for each in left_out(run)]
    assert seen == [(2, 4, "in another file too")]
    assert [(each.span.start - T0, each.span.stop - T0, each.reason) for each in source.left_out] == [
        (1, 3, "in another file too")
    ]
    windowed = FileSource(tuple(paths), T0 + 3, T0 + 9)
    assert [run.t0 - T0 for run in windowed.runs()] == [3, 3]
    assert windowed.left_out == []


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
        ("H-H1_X--6-2.hdf5", (-6, -4)),
        ("l-x-1-2.gwf", None),
        ("strain.hdf5", None),
        ("L-L1_X-100.hdf5", None),
    ],
)
def test_a_name_after_t050017_has_the_span(name: str, span: tuple[int, int] | None) -> None:
    assert span_of_name(name) == span
