"""Strain in other layouts than GWOSC's: gwpy's HDF5, arrays, text, and segments as the client writes them."""

import json
import os
import re
import tracemalloc
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from gwclient.errors import InvalidSource
from gwclient.folder import write_batch
from gwclient.pieces import cut, left_out, without
from gwclient.sources.arrays import Grid
from gwclient.sources.file import FileSource, strain_files
from gwclient.sources.simulate import SimulatedSource
from gwclient.strain import Run
from gwwire.segment import decode_segment

T0 = 1126259446.5
STRAIN = np.random.default_rng(1).normal(0, 1e-21, 64)


def runs_of(*paths: Path, grid: Grid | None = None, channels: Sequence[str] = ()) -> list[Run]:
    return list(FileSource(paths, channels=tuple(channels), grid=grid or Grid()).runs())


def gwpy_series(channel: str | None, name: str) -> Any:
    with warnings.catch_warnings(action="ignore"):
        from gwpy.timeseries import TimeSeries  # noqa: PLC0415 (takes seconds)

        return TimeSeries(STRAIN, t0=T0, dt=1 / 16, channel=channel, name=name)


def test_what_gwpy_writes_is_read_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "one.h5"
    gwpy_series("L1:FOO-BAR", "mine").write(str(path), format="hdf5")
    (run,) = runs_of(path)
    assert (run.channel, run.t0, run.dt, run.meta["detector"]) == ("L1:FOO-BAR", T0, 1 / 16, "L1")
    assert run.strain[:].tobytes() == STRAIN.tobytes()


def test_each_series_in_a_file_of_gwpy_is_a_channel(tmp_path: Path) -> None:
    path = tmp_path / "many.h5"
    for place in ("H1:A", "L1:B"):
        gwpy_series("L1:FOO-BAR", "mine").write(str(path), format="hdf5", path=place, append=True)
    assert sorted(run.channel for run in runs_of(path)) == ["H1:A", "L1:B"]
    assert [run.channel for run in runs_of(path, channels=["H1:*"])] == ["H1:A"]
    with pytest.raises(InvalidSource, match="has none of the requested channels; it has H1:A, L1:B"):
        runs_of(path, channels=["V1:*"])


def test_a_series_that_cannot_be_used_is_named_and_the_others_are_sent(tmp_path: Path) -> None:
    path, index = tmp_path / "many.h5", [T0 + k / 16 for k in range(64)]
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file["half"] = STRAIN[:32]
    layout = h5py.VirtualLayout((64,), "<f8")
    layout[:32] = h5py.VirtualSource(tmp_path / "part.h5", "half", (32,))
    with h5py.File(path, "w") as file:
        for name, value in {
            "L1:A": STRAIN, "L1:SCALAR": 1.0, "L1:TABLE": np.zeros((2, 2)), "L1:COMPLEX": STRAIN * 1j,
            "L1:EMPTY": np.zeros(0), "L1:LATE": STRAIN, "copy": STRAIN, "other": STRAIN * 2, "L1:INDEX": STRAIN[:9],
            "unnamed": STRAIN, "L1:LARGE": np.array([2**60 + 1, 1]), "L1:WORDS": STRAIN,
        }.items():  # fmt: skip
            file[name] = value
        file.create_dataset("L1:CHUNKS", (64,), "<f8", chunks=(16,))[:48] = STRAIN[:48]
        file.create_dataset("L1:NEVER", (64,), "<f8")
        file.create_virtual_dataset("L1:VIRTUAL", layout)
        for each in file.values():
            each.attrs.update(x0=T0, dx=1 / 16)
        file["L1:LATE"].attrs["x0"] = 1e300
        file["L1:INDEX"].attrs["xindex"] = index
        file["L1:WORDS"].attrs["xindex"] = ["a"] * 64
        for name in ("copy", "other"):
            file[name].attrs["channel"] = "L1:A"
    source = FileSource((path,))
    (run,) = source.runs()
    assert (run.channel, run.strain[:].tobytes()) == ("L1:A", STRAIN.tobytes())
    failures = "\n".join(source.failures)
    assert len(source.failures) == 13
    for words in (
        "SCALAR has the shape ()", "TABLE has the shape (2, 2)", "COMPLEX is of type", "EMPTY has the shape (0,)",
        "LATE: x0 is 1e+300", "INDEX has 9 samples, but xindex has the shape (64,)", "unnamed does not name its",
        "other and L1:A are both L1:A, with different", "CHUNKS has samples that were never", "NEVER has samples that",
        "VIRTUAL has samples that were never", "WORDS is damaged", "LARGE: sample 0 is 1152921504606846977",
    ):  # fmt: skip
        assert words in failures
    source = FileSource((path,), channels=("L1:A",))
    assert (len(list(source.runs())), len(source.failures)) == (1, 1)  # "other" has the same channel


def test_a_last_chunk_that_is_partly_outside_of_a_series_is_no_missing_one(tmp_path: Path) -> None:
    path = tmp_path / "chunks.h5"
    with h5py.File(path, "w") as file:
        series = file.create_dataset("L1:A", (64,), "<f8", chunks=(48,), maxshape=(None,), compression="gzip")
        series[:] = STRAIN
        series.attrs.update(x0=T0, dx=1 / 16)
    (run,) = FileSource((path,)).runs()
    assert run.strain[:].tobytes() == STRAIN.tobytes()


def virtual_series(path: Path, *parts: tuple[slice, Any]) -> Path:
    layout = h5py.VirtualLayout((64,), "<f8")
    for where, source in parts:
        layout[where] = source
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("L1:V", layout).attrs.update(x0=T0, dx=1 / 16)
    return path


@pytest.fixture
def halves(tmp_path: Path) -> Path:
    """A file whose datasets are whole, of which no sample was written, or which refer to others."""
    with h5py.File(tmp_path / "halves.h5", "w") as file:
        file["whole"], file["table"] = STRAIN, STRAIN.reshape(2, 32)
        file.create_dataset("chunks", (64,), "<f8", chunks=(16,))[:48] = STRAIN[:48]
        file.create_dataset("unwritten", (64,), "<f8")
        for name, source in (("again", "whole"), ("nothing", "unwritten"), ("circle", "circle")):
            layout = h5py.VirtualLayout((64,), "<f8")
            layout[:] = h5py.VirtualSource(".", source, (64,))
            file.create_virtual_dataset(name, layout)
    return tmp_path / "halves.h5"


def test_the_samples_of_a_virtual_series_are_sent_if_all_of_them_are_in_its_files(tmp_path: Path, halves: Path) -> None:
    whole, again = (h5py.VirtualSource(halves.name, name, (64,)) for name in ("whole", "again"))
    table = h5py.VirtualSource(halves.name, "table", (2, 32))
    parts = (slice(0, 40), again[:40]), (slice(40, 64), whole[40:]), (slice(32, 64), table[1])
    (run,) = FileSource((virtual_series(tmp_path / "virtual.h5", *parts),)).runs()
    assert run.strain[:].tobytes() == STRAIN.tobytes()


@pytest.mark.parametrize("name", ["missing", "chunks", "unwritten", "nothing", "circle", "short", "hole", "gone"])
def test_a_virtual_series_without_all_of_its_samples_is_refused(tmp_path: Path, halves: Path, name: str) -> None:
    source, size = h5py.VirtualSource(halves.name, name, (64,)), slice(0, 64)
    whole = h5py.VirtualSource(halves.name, "whole", (64,))
    parts = {
        "short": [(size, h5py.VirtualSource(halves.name, "whole", (128,))[64:])],
        "hole": [(slice(0, 32), whole[:32]), (slice(0, 32), whole[32:])],
        "gone": [(size, h5py.VirtualSource("gone.h5", "whole", (64,)))],
    }.get(name, [(size, source)])
    path = virtual_series(tmp_path / "virtual.h5", *parts)
    with pytest.raises(InvalidSource, match="L1:V has samples that were never written, or whose file is missing"):
        FileSource((path,)).runs()


@pytest.mark.parametrize(("there", "sent"), [(64, True), (63, False), (0, False), (None, False)])
def test_samples_in_an_external_file_are_sent_if_it_has_all_of_them(
    tmp_path: Path, there: int | None, *, sent: bool
) -> None:
    raw, path = tmp_path / "raw.bin", tmp_path / "external.h5"
    with h5py.File(path, "w") as file:
        series = file.create_dataset("L1:E", (64,), "<f8", external=[(raw, 16, 64 * 8)])
        series.attrs.update(x0=T0, dx=1 / 16)
    if there is not None:
        raw.write_bytes(bytes(16) + STRAIN[:there].tobytes())
    if sent:
        (run,) = FileSource((path,)).runs()
        assert run.strain[:].tobytes() == STRAIN.tobytes()
    else:
        with pytest.raises(InvalidSource, match="L1:E has samples that were never written"):
            FileSource((path,)).runs()


def test_a_filter_that_is_not_installed_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lz4.h5"
    with h5py.File(path, "w") as file:
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((64,))
        plan.set_filter(32004, h5py.h5z.FLAG_OPTIONAL)
        space = h5py.h5s.create_simple((64,))
        dataset = h5py.h5d.create(file.id, b"L1:A", h5py.h5t.IEEE_F64LE, space, plan)
        dataset.write_direct_chunk((0,), STRAIN.tobytes())
        file["L1:A"].attrs.update(x0=T0, dx=1 / 16)
    with pytest.raises(InvalidSource, match="L1:A is compressed by the HDF5 filter 32004, which is not installed here"):
        FileSource((path,)).runs()


@pytest.mark.parametrize(("unit", "sent"), [("second", True), (["s"], True), ("", True), ("ms", False), (b"Hz", False)])
def test_strain_is_sampled_over_seconds(tmp_path: Path, unit: Any, *, sent: bool) -> None:
    path = tmp_path / "units.hdf5"
    with h5py.File(path, "w") as file:
        file["strain/Strain"], file["meta/Detector"] = STRAIN, "L1"
        file["strain/Strain"].attrs.update(Xstart=T0, Xspacing=1 / 16, Xunits=unit)
    if sent:
        assert len(list(FileSource((path,)).runs())) == 1
    else:
        with pytest.raises(InvalidSource, match=r"strain/Strain is sampled over '(ms|Hz)'; strain is sampled over tim"):
            FileSource((path,)).runs()


def test_a_series_larger_than_the_memory_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "vast.h5"
    gwpy_series("L1:A", "a").write(str(tmp_path / "small.h5"), path="a", format="hdf5")
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)  # all of its bytes are in the file, which is sparse
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(path, "w") as file, h5py.File(tmp_path / "small.h5") as small:
        h5py.h5d.create(file.id, b"a", h5py.h5t.NATIVE_DOUBLE, h5py.h5s.create_simple((10**12,)), layout)
        file["a"].attrs.update(small["a"].attrs)
    with pytest.raises(InvalidSource, match="is larger than the memory"):
        runs_of(path)


@pytest.mark.parametrize("kind", [np.int64, np.uint64, np.longdouble])
def test_numbers_that_float64_may_not_hold_are_compared_and_stay_in_their_file(tmp_path: Path, kind: type) -> None:
    path, count = tmp_path / "whole.npy", 6 * 10**6
    array = np.lib.format.open_memmap(path, "w+", kind, (count,))
    array[-1] = 2**53 - 1
    array.flush()
    tracemalloc.start()
    (run,) = runs_of(path, grid=Grid(16384, 1e9), channels=["L1:A"])
    pieces = list(cut(run, 300))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 35e6 < array.nbytes
    assert pieces[-1].segment().h[-1] == 2.0**53 - 1
    array[-2] = array.dtype.type(2**53) + array.dtype.type(1)
    array.flush()
    with pytest.raises(InvalidSource, match=f"sample {count - 2} is 9007199254740993.* cannot hold exactly"):
        runs_of(path, grid=Grid(16384, 1e9), channels=["L1:A"])


def test_an_array_stays_in_its_file_until_a_piece_is_sent(tmp_path: Path) -> None:
    path, count = tmp_path / "large.npy", 3 * 10**7
    array = np.lib.format.open_memmap(path, "w+", np.float32, (count,))
    array[-3:] = 1e-21, np.nan, 3e-21
    array.flush()
    tracemalloc.start()
    (run,) = runs_of(path, grid=Grid(16384, 1e9), channels=["L1:A"])
    excluded = without(run, [(1e9 + 100, 1e9 + 1000)], "sent before")
    assert [each.reason for each in left_out(excluded)] == ["sent before", "no finite samples"]
    pieces = list(cut(excluded, 300))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6 < array.nbytes
    assert [pieces[0].span, pieces[1].span] == [("L1:A", 1e9, 1e9 + 100), ("L1:A", 1e9 + 1000, 1e9 + 1300)]
    assert sum(each.samples for each in pieces) == count - 900 * 16384 - 1
    assert pieces[-1].segment().h == [float(np.float32(3e-21))]


@pytest.mark.parametrize("kind", [np.int64, np.uint64])
def test_large_whole_numbers_that_float64_holds_are_sent(tmp_path: Path, kind: type) -> None:
    path, whole = tmp_path / "whole.npy", [0, 2**53, 2**54, 2**63 - 2**10, 10**18]
    np.save(path, np.array(whole + ([-(2**63)] if kind is np.int64 else [2**63]), kind))
    (run,) = runs_of(path, grid=Grid(16, 1e9), channels=["L1:A"])
    [piece] = cut(run, 1)
    assert piece.segment().h[:5] == whole
    assert abs(piece.segment().h[5]) == 2.0**63
    np.save(path, np.array([2**60 + 1], kind))
    with pytest.raises(InvalidSource, match="sample 0 is 1152921504606846977"):
        runs_of(path, grid=Grid(16, 1e9), channels=["L1:A"])


@pytest.mark.parametrize("change", ["rewritten", "shortened", "removed"])
def test_an_array_that_changes_while_it_is_sent_is_refused_from_then_on(tmp_path: Path, change: str) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.ones(10**6))
    (run,) = runs_of(path, grid=Grid(16, 1e9), channels=["L1:A"])
    pieces = cut(run, 10)
    assert decode_segment(next(pieces).body()).h == [1.0] * 160
    if change == "rewritten":
        np.lib.format.open_memmap(path, "r+")[:] = 2
        os.utime(path, ns=(1, 1))
    elif change == "shortened":
        os.truncate(path, 1000)
    else:
        path.unlink()
    words = "cannot be read: No such file" if change == "removed" else "changed while it was read; push it again"
    for _ in range(3):
        with pytest.raises(InvalidSource, match=words):
            next(pieces).body()


def test_the_numbers_of_a_text_file_take_little_more_memory_than_their_bytes(tmp_path: Path) -> None:
    path, count = tmp_path / "a.csv", 50_000
    path.write_text("\n".join(f"{T0 + k / 16!r},{k}e-21" for k in range(count)))
    tracemalloc.start()
    (run,) = runs_of(path, channels=["L1:A"])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert run.strain[:][-1] == float(f"{count - 1}e-21")
    assert peak < 40 * count


def test_a_series_without_a_channel_takes_the_name_that_is_given(tmp_path: Path) -> None:
    path = tmp_path / "unnamed.h5"
    gwpy_series(None, "mine").write(str(path), format="hdf5")
    assert [run.channel for run in runs_of(path, channels=["L1:MY-STRAIN"])] == ["L1:MY-STRAIN"]
    with pytest.raises(InvalidSource, match=r"unnamed.h5 does not name its channel; name it with --channel"):
        runs_of(path)


def test_an_unknown_layout_is_described_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["some/data"] = np.zeros((2, 3))
    with pytest.raises(
        InvalidSource,
        match=r"it has some/data \(float64, shape \(2, 3\)\)\. gwpy writes a layout that can be read: TimeSer",
    ):
        runs_of(path)
    readme = tmp_path / "notes.rst"
    readme.write_text("hello")
    with pytest.raises(InvalidSource, match=r"it is not an HDF5 file\. Supported: HDF5, frames \(.gwf\), segments"):
        runs_of(readme)


def test_samples_alone_take_rate_start_and_channel_from_the_command(tmp_path: Path) -> None:
    array, column = tmp_path / "a.npy", tmp_path / "a.csv"
    np.save(array, STRAIN)
    numbers = "\n".join(map(repr, STRAIN.tolist()))
    column.write_text("strain\n" + numbers)
    marked = tmp_path / "marked.csv"  # as spreadsheets write it
    marked.write_text(numbers, encoding="utf-8-sig")
    for path in (array, column, marked):
        (run,) = runs_of(path, grid=Grid(16, T0), channels=["L1:MY-STRAIN"])
        assert (run.channel, run.t0, run.dt) == ("L1:MY-STRAIN", T0, 1 / 16)
        assert run.strain[:].tobytes() == STRAIN.tobytes()
        with pytest.raises(InvalidSource, match="has no times; gwclient push sends it with --rate HZ and --t0 GPS"):
            runs_of(path, channels=["L1:MY-STRAIN"])


@pytest.mark.parametrize(("suffix", "title", "between"), [("csv", "time,strain\n", ","), ("txt", "# gwpy\n", " ")])
def test_times_in_a_text_file_give_rate_and_start(tmp_path: Path, suffix: str, title: str, between: str) -> None:
    path = tmp_path / f"a.{suffix}"
    times = [round(T0 + k / 16, 4) for k in range(64)]
    lines = [f"{time!r}{between}{value!r}" for time, value in zip(times, STRAIN.tolist(), strict=True)]
    path.write_text(title + "\n".join(lines))
    (run,) = runs_of(path, channels=["L1:MY-STRAIN"])
    assert (run.t0, run.dt) == (T0, 1 / 16)
    assert run.strain[:].tobytes() == STRAIN.tobytes()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1"])
@pytest.mark.parametrize(
    ("title", "separator", "point", "quote", "newline"),
    [
        ("Zeit;Dehnung (Länge)", ";", ",", "", "\r\n"),
        ("sep=;\nZeit;Dehnung", ";", ",", '"', "\n"),
        ("time\tstrain", "\t", ",", "", "\r"),
        ("time\tstrain", "\t", ".", "", "\n"),
        ('"time","strain"', ",", ".", '"', "\n"),
        ("time; strain", " ; ", ".", "", "\n"),
    ],
    ids=["semicolons", "sep", "tabs", "tabs and points", "quotes", "spaces"],
)
def test_the_texts_of_spreadsheets_are_read(  # noqa: PLR0913, PLR0917 (what a text varies in)
    tmp_path: Path, encoding: str, title: str, separator: str, point: str, quote: str, newline: str
) -> None:
    rows = [[repr(T0 + k / 16), repr(value)] for k, value in enumerate(STRAIN.tolist())]
    cells = [[f"{quote}{cell.replace('.', point)}{quote}" for cell in row] for row in rows]
    text = newline.join([title.replace("\n", newline), *(separator.join(row) for row in cells), ""])
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    (run,) = runs_of(tmp_path / "a.csv", channels=["L1:A"])
    assert (run.t0, run.dt) == (T0, 1 / 16)
    assert run.strain[:].tobytes() == STRAIN.tobytes()


def test_a_file_may_have_its_extension_in_capitals(tmp_path: Path) -> None:
    numbers = ", ".join(map(repr, STRAIN.tolist()))
    segment = f'{{"h": [{numbers}],\n"t": [{T0}, 0.0625], "meta": {{"channel": "L1:A"}}}}'
    (tmp_path / "A.CSV").write_text("\n".join(f"{T0 + k / 16!r},{value!r}" for k, value in enumerate(STRAIN.tolist())))
    (tmp_path / "A.JSON").write_text(segment)
    (tmp_path / "A.NDJSON").write_text(segment.replace("\n", ""))
    with (tmp_path / "A.NPY").open("wb") as file:
        np.save(file, STRAIN)
    for path in tmp_path.iterdir():
        (run,) = runs_of(path, grid=Grid(16, T0) if path.suffix == ".NPY" else None, channels=["L1:A"])
        assert (run.channel, run.t0, run.dt) == ("L1:A", T0, 1 / 16)
        assert run.strain[:].tobytes() == STRAIN.tobytes()


def test_strain_on_both_sides_of_gaps_between_times_is_sent_and_the_gaps_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    kept = [*range(20), 25, *range(30, 64)]
    lines = [f"{T0 + k / 16!r},{float(STRAIN[k])!r}" for k in kept]
    path.write_text("\n".join(lines))
    source = FileSource((path,), channels=("L1:MY-STRAIN",))
    runs = list(source.runs())
    assert [(run.t0, run.dt) for run in runs] == [(T0 + k / 16, 1 / 16) for k in (0, 25, 30)]
    assert np.concatenate([run.strain for run in runs]).tobytes() == STRAIN[kept].tobytes()
    assert [(left.span.start, left.span.stop) for left in source.left_out] == [
        (T0 + 20 / 16, T0 + 25 / 16),
        (T0 + 26 / 16, T0 + 30 / 16),
    ]


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ([1.0, 2.0, 5.3, 9.1, 10.4], "is not on a grid of"),
        ([1.0, 2.0, 2.0, 3.0], r"time 2.0 \(number 2\) is not after 2.0 before it"),
        ([1.0, 2.0, 3.0, 2.5, 4.0], r"time 2.5 \(number 3\) is not after 3.0 before it"),
        ([*range(64), *range(64)], r"time 0.0 \(number 64\) is not after 63.0 before it"),
        ([*range(30), *range(40, 60), *range(50, 70)], r"time 50.0 \(number 50\) is not after 59.0 before it"),
        ([3.0, 2.0, 1.0], r"time 2.0 \(number 1\) is not after 3.0 before it"),
        ([1.0, 2.0, 1.0], r"time 1.0 \(number 2\) is not after 2.0 before it"),
    ],
)
def test_times_that_are_not_even_between_gaps_are_refused(tmp_path: Path, times: list[float], words: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("\n".join(f"{time},0" for time in times))
    with pytest.raises(InvalidSource, match=words):
        runs_of(path, channels=["L1:MY-STRAIN"])


def test_one_time_gives_no_sample_spacing(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("1000,1")
    with pytest.raises(InvalidSource, match="has one time; the sample spacing cannot be computed"):
        runs_of(path, channels=["L1:A"])


HEADER = b"{'descr': '<f8', 'fortran_order': False, 'shape': (9,)}\n"


def npy(header: bytes) -> bytes:
    """Return the beginning of an NPY file."""
    return b"\x93NUMPY\x01\0" + len(header).to_bytes(2, "little") + header


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"1,2,3\n4,5,6", r"has the shape \(2, 3\)"),
        ("a.csv", b"1,2\n\n3", r"line 3 of \S+ has another number of values \(1\) than the lines before \(2\)"),
        ("a.csv", b"1.5x\n2\n", r"line 1 of \S+: '1.5x' is not a number"),
        ("a.csv", b"1\0\n2\n", r"line 1 of \S+: '1\\x00' is not a number"),
        ("a.csv", b"time;strain\n1.000,5;2\n", r"line 2 of \S+: '1.000.5' is not a number"),
        ("a.csv", b"time;strain\n1;\n2;\n;3", r"line 4 of \S+ has another number of values \(2\)"),
        ("a.csv", b"time,strain\n1,2\nM\xfc,3", r"line 3 of \S+: 'M\\udcfc' is not a number"),
        ("a.csv", b"1000,1\n1001,-9007199254740993", r"line 2 of \S+ is -9007199254740993, which float64 cannot hold"),
        ("a.csv", b"1\n" + b"9" * 5000, r"line 2 of \S+ is 9{40}, which float64 cannot hold exactly"),
        ("a.csv", b"title\n", r"has the shape \(0,\)"),
        ("a.csv", b"\xff\xfe\x00", "cannot be read: it is not text"),
        ("a.npy", b"hello", "is not an array in NumPy's format NPY: it does not begin as one$"),
        ("a.npy", npy(b"{'descr': '<f8'")[:20], "NPY: it is truncated, or still being written"),
        ("a.npy", npy(HEADER) + bytes(71), "NPY: it is truncated, or still being written"),
        ("a.npy", npy(HEADER) + bytes(73), "has 1 bytes after its array; write one array with numpy.save"),
        ("a.npy", b"", "is empty"),
        (
            "a.npy",
            npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (9,)}\n"),
            r"npy is of type object; it has to",
        ),
        ("a.npy", npy(b"{'descr': ("), "is not an array in NumPy's format NPY: its header is damaged"),
        (
            "a.npy",
            npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (9" + b"0" * 30 + b",)}"),
            "its header is damaged",
        ),
        ("a.npy", npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (-9,)}"), "its header is damaged"),
        ("a.npy", b"PK\x05\x06" + b"\0" * 18, r"is a file of many arrays \(NPZ\)"),
        ("a.npz", b"PK\x05\x06" + b"\0" * 18, r"is a file of many arrays \(NPZ\)"),
        ("a.json", b'{"h":[1.0]}', "is not a segment"),
        ("a.json", b'{"h":[0, 9007199254740993],"t":[1e9,1]}', r"h\[1\] is 9007199254740993, which float64"),
        ("a.ndjson", b"hello\nworld\n", "line 1 of .* is not a segment"),
    ],
)
def test_what_is_wrong_in_an_array_or_a_segment_is_said(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InvalidSource, match=words) as error:
        runs_of(path, grid=Grid(16, None), channels=["L1:MY-STRAIN"])
    assert str(path) in str(error.value)


@pytest.mark.parametrize("t0", [T0, None])
@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("0,5\n-1,25\n3,0", "0,5 in line 1"),
        ("0,5\n1,5\n2,5\n2,75", "0,5 in line 1"),
        ("strain\n1,5E-21\n-2E-21", "1,5E-21 in line 2"),
        ("1\n0,5", "0,5 in line 2"),
        ('"0,5"\n"1,5"', '"0,5" in line 1'),
        ("1126259446,0 0,5\n1126259446,5 1,5", "1126259446,0 0,5 in line 1"),
    ],
)
def test_an_error_names_decimal_commas_where_they_are_read_as_the_ends_of_columns(
    tmp_path: Path, text: str, line: str, t0: float | None
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(InvalidSource, match=f"{re.escape(line)} is written with decimal commas, write points"):
        runs_of(path, grid=Grid(None if t0 is None else 16, t0), channels=["L1:A"])


def test_whole_numbers_after_whole_times_are_no_decimals(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("1126259446,5\n1126259447,6\n")
    (run,) = runs_of(path, channels=["L1:A"])
    assert (run.t0, run.strain[:].tolist()) == (1126259446, [5, 6])
    path.write_text("1,2,3\n4,5,6")
    with pytest.raises(InvalidSource, match=r"one column of samples, or time and value$"):
        runs_of(path, channels=["L1:A"])


def test_a_simulated_batch_is_pushed_as_the_same_segments_from_its_folder_and_as_lines(tmp_path: Path) -> None:
    source = SimulatedSource(("H1", "L1"), 4, 1024, 1, 1400000000, 0.5)
    pieces = [piece for run in source.runs() for piece in cut(run, 1)]
    bodies = sorted(piece.body() for piece in pieces)
    folder, lines = tmp_path / "batch", tmp_path / "batch.ndjson"
    folder.mkdir()
    write_batch(folder, pieces, lambda *_: None)
    lines.write_bytes(b"\n".join(bodies))
    found, unnamed = strain_files(folder, 0, 1)
    assert (len(found), unnamed) == (8, [])
    for paths in (found, [lines]):
        assert sorted(piece.body() for run in runs_of(*paths) for piece in cut(run, 1)) == bodies


def test_large_numbers_that_float64_holds_are_read(tmp_path: Path) -> None:
    texts = ["9007199254740992", "-9007199254740994", "9007199254740993.0", "1e300"]
    (tmp_path / "a.csv").write_text("\n".join(texts))
    (tmp_path / "a.json").write_text(f'{{"h":[{",".join(texts)}],"t":[1e9,1]}}')
    for path in tmp_path.iterdir():
        (run,) = runs_of(path, grid=Grid(16, T0), channels=["L1:A"] if path.suffix == ".csv" else [])
        assert run.strain[:].tolist() == [float(text) for text in texts]


def test_a_line_that_is_no_segment_is_reported_and_the_others_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson"
    good = json.dumps({"h": [1e-21, 2e-21], "t": [100.0, 0.25], "meta": {"channel": "L1:A"}})
    path.write_text(f"hello\n\n{good}\n")
    source = FileSource((path,))
    (run,) = source.runs()
    assert (run.t0, run.channel) == (100.0, "L1:A")
    assert [line.partition(":")[0] for line in source.failures] == [f"line 1 of {path} is not a segment"]
