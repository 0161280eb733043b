from pathlib import Path

import numpy as np
import pytest

from gwclient.errors import InvalidSource
from gwclient.pieces import cut, left_out
from gwclient.sources import frames
from gwclient.sources.file import FileSource
from gwclient.strain import LeftOut, Span

gwframe = pytest.importorskip("gwframe", reason="the extra `frames` is not installed")

T0 = 1126259446
RATE = 64
STRAIN, MASK = "L1:GWOSC-4KHZ_R1_STRAIN", "L1:GWOSC-4KHZ_R1_DQMASK"


@pytest.fixture
def strain() -> np.ndarray:
    return np.random.default_rng(1).normal(0, 1e-21, 4 * RATE)


@pytest.fixture
def frame(tmp_path: Path, strain: np.ndarray) -> Path:
    path = tmp_path / f"L-L1_GWOSC_4KHZ_R1-{T0}-4.gwf"
    channels = {
        STRAIN: strain,
        MASK: np.array([127, 127, 126, 3], dtype=np.uint32),
        "L1:AUX_MIC": np.arange(4.0 * 16),
    }
    gwframe.write(path, channels, start=float(T0), sample_rate={STRAIN: RATE, MASK: 1, "L1:AUX_MIC": 16}, name="L1")
    return path


def test_strain_in_frames_comes_bit_for_bit_with_its_quality(frame: Path, strain: np.ndarray) -> None:
    (run,) = FileSource((frame,), bits=()).runs()
    assert run.strain.tobytes() == strain.tobytes()
    assert (run.t0, run.dt, run.channel) == (T0, 1 / RATE, STRAIN)
    metas = [piece.segment().meta for piece in cut(run, 1)]
    assert [meta["quality"] for meta in metas][2:] == [  # type: ignore[index]
        ["CBC_CAT1", "CBC_CAT2", "CBC_CAT3", "BURST_CAT1", "BURST_CAT2", "BURST_CAT3"], ["DATA", "CBC_CAT1"],
    ]  # fmt: skip


def test_bits_that_are_not_set_in_a_frame_are_left_out(frame: Path) -> None:
    (run,) = FileSource((frame,), bits=("DATA", "CBC_CAT2")).runs()
    assert left_out(run) == [
        LeftOut(Span(STRAIN, T0 + 2, T0 + 3), "DATA not set"),
        LeftOut(Span(STRAIN, T0 + 3, T0 + 4), "CBC_CAT2 not set"),
    ]


def test_a_window_of_a_frame_is_exact_to_the_sample(frame: Path, strain: np.ndarray) -> None:
    (run,) = FileSource((frame,), T0 + 0.5, T0 + 1.25).runs()
    assert run.t0 == T0 + 0.5
    assert run.strain.tobytes() == strain[RATE // 2 : RATE * 5 // 4].tobytes()


def test_any_channel_of_a_frame_can_be_asked_for(frame: Path) -> None:
    aux, strain = FileSource((frame,), channels=("L1:AUX_*", STRAIN)).runs()
    assert (aux.channel, aux.dt, len(aux.strain)) == ("L1:AUX_MIC", 1 / 16, 64)
    assert strain.channel == STRAIN
    with pytest.raises(InvalidSource, match="has none of the channels wanted; it has 3, as L1:AUX_MIC"):
        FileSource((frame,), channels=("V1:*",)).runs()


def test_many_frames_in_a_file_are_one_run(tmp_path: Path, strain: np.ndarray) -> None:
    path = tmp_path / "many.gwf"
    with gwframe.FrameWriter(str(path)) as writer:
        for k in range(4):
            one = {"V1:Hrec_hoft_16384Hz": strain[k * RATE : (k + 1) * RATE]}
            writer.write(one, start=float(T0 + k), sample_rate=RATE, name="V1")
    (run,) = FileSource((path,)).runs()
    assert run.channel == "V1:Hrec_hoft_16384Hz"
    assert run.strain.tobytes() == strain.tobytes()


def test_what_is_no_frame_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.gwf").write_text("hello")
    with pytest.raises(InvalidSource, match=r"text\.gwf is not a frame file") as error:
        FileSource((tmp_path / "text.gwf",)).runs()
    assert "\n" not in str(error.value)


def test_without_a_reader_of_frames_the_extra_is_named(frame: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "find_spec", lambda _: None)
    monkeypatch.setitem(__import__("sys").modules, "gwpy.io.gwf", None)
    with pytest.raises(InvalidSource, match=r"takes gwframe, which the extra glitchflow-datastore\[frames\] has"):
        FileSource((frame,)).runs()
