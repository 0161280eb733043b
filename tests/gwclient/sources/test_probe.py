"""A damaged file that crashes a library, or makes it loop, stops neither the client nor the other files."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import h5py
import numpy as np
import pytest

from gwclient.errors import InvalidSource
from gwclient.sources import file
from gwclient.sources.file import FileSource
from gwclient.sources.probe import Probe
from gwfiles import gwf
from gwfiles.stretches import Stretch

T0, COUNT = 1126259446.0, 64


@pytest.fixture
def probe() -> Iterator[Probe]:
    with closing(Probe(seconds=0.5)) as probe:
        yield probe


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """Return an HDF5 file for whose texts HDF5 looks for ever."""
    path = tmp_path / "H-H1_ENDLESS-1126259446-1.hdf5"
    with h5py.File(path, "w") as out:
        out["meta/Detector"] = "H1"
        strain = out.create_dataset("strain/Strain", data=np.arange(float(COUNT)))
        strain.attrs.update(Xstart=T0, Xspacing=1 / COUNT)
    content = bytearray(path.read_bytes())
    size = content.index(b"GCOL") + 24  # that of the first text
    content[size : size + 8] = bytes(8)
    path.write_bytes(content)
    return path


@pytest.fixture
def frame(tmp_path: Path) -> Path:
    """Return a whole frame file."""
    path = tmp_path / "H-H1_FRAME-1126259446-1.gwf"
    with gwf.writing(path, Stretch("H1:STRAIN", T0, Fraction(1, COUNT), COUNT)) as append:
        append(np.arange(float(COUNT)))
    return path


def test_a_file_that_is_read_without_end_is_named(probe: Probe, endless: Path, frame: Path) -> None:
    probe.check(frame, [])
    with pytest.raises(InvalidSource, match=rf"{endless} is damaged: reading it does not end"):
        probe.check(endless, [])
    probe.check(frame, [])


def test_a_file_that_crashes_the_library_is_named_and_the_others_are_read(
    probe: Probe, endless: Path, frame: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gwframe")
    monkeypatch.setattr(file, "PROBE", probe)
    crashing = Path(shutil.copy(frame, frame.with_name("H-H1_CRASH-1126259446-1.gwf")))
    content = bytearray(frame.read_bytes())
    length = content.index(b"FrVect\0") - 5  # of a name among the descriptions of structures
    content[length : length + 8] = b"\xff" * 8
    crashing.write_bytes(content)
    source = FileSource((crashing, endless, frame))
    [run] = source.runs()
    assert run.strain[:].tolist() == list(range(COUNT))
    span = "(GPS [1126259446, 1126259447))"
    assert list(source.failures) == [
        f"{crashing} is damaged: reading it ends the process (SIGSEGV) {span}",
        f"{endless} is damaged: reading it does not end {span}",
    ]


def test_what_a_reader_reports_is_left_to_it(probe: Probe, tmp_path: Path) -> None:
    path = tmp_path / "not.hdf5"
    path.write_bytes(b"not HDF5")
    probe.check(path, [])
    probe.check(tmp_path / "missing.gwf", [])
