import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gwclient.errors import InvalidSource
from gwclient.pieces import cut, left_out
from gwclient.sources import frames
from gwclient.sources.file import FileSource
from gwfiles.stretches import LeftOut, Span

gwframe = pytest.importorskip("gwframe", reason="the extra `frames` is not installed")

T0 = 1126259446
RATE = 64
#: The bits of O1, as the unit of a mask names them.
BITS = "0:DATA 1:CBC_CAT1 2:CBC_CAT2 3:CBC_CAT3 4:BURST_CAT1 5:BURST_CAT2 6:BURST_CAT3"
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
    rates = {STRAIN: RATE, MASK: 1, "L1:AUX_MIC": 16}
    gwframe.write(path, channels, start=float(T0), sample_rate=rates, name="L1", unit={MASK: BITS})
    return path


def test_the_only_series_of_a_file_may_get_its_name(tmp_path: Path, strain: np.ndarray) -> None:
    path = frames_file(tmp_path / "unnamed.gwf", {T0: {"": strain[:RATE]}, T0 + 1: {"": strain[RATE : 2 * RATE]}})
    (run,) = FileSource((path,), channels=("L1:MY-STRAIN",)).runs()
    assert (run.channel, run.t0) == ("L1:MY-STRAIN", T0)
    assert run.strain[:].tobytes() == strain[: 2 * RATE].tobytes()
    for wanted in ((), ("L1:*",)):
        with pytest.raises(InvalidSource, match="does not name its channel; name it with --channel"):
            FileSource((path,), channels=wanted).runs()


def test_a_frame_file_without_strain_says_what_it_has(tmp_path: Path) -> None:
    path = frames_file(tmp_path / "a.gwf", {T0: {"L1:AUX_MIC": np.ones(16), "": np.ones(16)}})
    with pytest.raises(InvalidSource, match=r"no channel of strain; it has L1:AUX_MIC; name .* --channel"):
        FileSource((path,)).runs()


def frames_file(path: Path, frames: dict[int, dict[str, Any]], unit: str = BITS) -> Path:
    """Write one frame of a second for each start; frames need not have the same channels."""
    with gwframe.FrameWriter(str(path)) as writer:
        for start, channels in frames.items():
            writer._channel_names = None  # noqa: SLF001 (else it refuses, but other writers do not)
            rates = {name: len(values) for name, values in channels.items()}
            writer.write(channels, start=float(start), sample_rate=rates, name="L1", unit={MASK: unit})
    return path


def test_strain_in_frames_comes_bit_for_bit_with_its_quality(frame: Path, strain: np.ndarray) -> None:
    (run,) = FileSource((frame,), bits=()).runs()
    assert run.strain[:].tobytes() == strain.tobytes()
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
    assert run.strain[:].tobytes() == strain[RATE // 2 : RATE * 5 // 4].tobytes()


def test_any_channel_of_a_frame_can_be_asked_for(frame: Path) -> None:
    aux, strain = FileSource((frame,), channels=("L1:AUX_*", STRAIN)).runs()
    assert (aux.channel, aux.dt, len(aux.strain)) == ("L1:AUX_MIC", 1 / 16, 64)
    assert strain.channel == STRAIN
    odd = frames_file(frame.with_name("a.gwf"), {T0: {"L1:A\nB\x1b": np.zeros(4)}})
    with pytest.raises(InvalidSource, match=r"it has L1:A\\nB\\x1b$"):
        FileSource((odd,), channels=("V1:*",)).runs()
    with pytest.raises(InvalidSource, match="has none of the requested channels; it has L1:AUX_MIC"):
        FileSource((frame,), channels=("V1:*",)).runs()


def test_many_frames_in_a_file_are_one_run(tmp_path: Path, strain: np.ndarray) -> None:
    path = tmp_path / "many.gwf"
    with gwframe.FrameWriter(str(path)) as writer:
        for k in range(4):
            one = {"V1:Hrec_hoft_16384Hz": strain[k * RATE : (k + 1) * RATE]}
            writer.write(one, start=float(T0 + k), sample_rate=RATE, name="V1")
    (run,) = FileSource((path,)).runs()
    assert run.channel == "V1:Hrec_hoft_16384Hz"
    assert run.strain[:].tobytes() == strain.tobytes()


def test_what_is_no_frame_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.gwf").write_text("hello")
    with pytest.raises(InvalidSource, match=r"text\.gwf is not a frame file") as error:
        FileSource((tmp_path / "text.gwf",)).runs()
    assert "\n" not in str(error.value)


def test_without_a_reader_of_frames_the_extra_is_named(frame: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "find_spec", lambda _: None)
    with pytest.raises(InvalidSource, match=r"requires gwframe; install the extra glitchflow-datastore\[frames\]"):
        FileSource((frame,)).runs()


# ---- data-quality bits


def second_of(bits: int, *, mask: bool = True) -> dict[str, Any]:
    strain = {STRAIN: np.full(RATE, 1e-21)}
    return strain | ({MASK: np.array([bits], dtype=np.uint32)} if mask else {})


@pytest.mark.parametrize(
    ("unit", "names"),
    [
        ("0:DATA 1:CBCHIGH_CAT1 2:CBCHIGH_CAT2 3:CBCHIGH_CAT3 4:CBCHIGH_CAT4", ["DATA", "CBCHIGH_CAT4"]),
        ("4:CBCHIGH_CAT4, 0:DATA", ["DATA", "CBCHIGH_CAT4"]),
        ("0:DATA 1:CBC_CAT1", ["DATA"]),
        ("0: DATA 1: CBC_CAT1 4: CBC_CAT4", ["DATA", "CBC_CAT4"]),
        (BITS, ["DATA", "BURST_CAT1"]),
    ],
)
def test_bits_have_the_names_that_the_frame_gives(tmp_path: Path, unit: str, names: list[str]) -> None:
    path = frames_file(tmp_path / "a.gwf", {T0: second_of(0b10001)}, unit)
    (run,) = FileSource((path,)).runs()
    (piece,) = cut(run, 1)
    assert piece.segment().meta["quality"] == names  # type: ignore[index]
    (run,) = FileSource((path,), bits=(names[-1],)).runs()
    assert left_out(run) == []


@pytest.mark.parametrize("unit", ["", "strain", "bitmask 7"])
def test_bits_that_a_frame_does_not_name_have_no_names(tmp_path: Path, unit: str) -> None:
    path = frames_file(tmp_path / "a.gwf", {T0: second_of(0)}, unit)
    (run,) = FileSource((path,)).runs()
    (piece,) = cut(run, 1)
    assert "quality" not in piece.segment().meta  # type: ignore[operator]
    with pytest.raises(InvalidSource, match="has no data-quality bits to choose from"):
        list(FileSource((path,), bits=("CBC_CAT1",)).runs())


@pytest.mark.parametrize(
    ("mask", "unit", "words"),
    [
        (np.array([1.0]), "0:DATA", f"{MASK} is of type float64; it has to be whole numbers"),
        (np.array([1]), "0:DATA 0:FOO", f"{MASK} has two names for a bit in its unit: 0:DATA 0:FOO"),
    ],
)
def test_a_mask_that_cannot_be_used_is_named_if_a_bit_has_to_be_set(
    tmp_path: Path, mask: np.ndarray, unit: str, words: str
) -> None:
    path = frames_file(tmp_path / "a.gwf", {T0: second_of(1) | {MASK: mask}}, unit)
    with pytest.raises(InvalidSource, match=words):
        FileSource((path,)).runs()
    source = FileSource((path,), bits=())  # as by --dq none
    (run,) = source.runs()
    assert (run.t0, len(run.strain), run.quality, source.failures) == (T0, RATE, None, {})


def test_no_sample_passes_where_the_frame_marks_its_mask_as_invalid(tmp_path: Path) -> None:
    frame = gwframe.Frame(T0, 2.0, name="L1")
    frame.add_channel(STRAIN, np.zeros(2 * RATE), RATE)
    mask = np.ma.masked_array(np.array([1, 1], np.int32), mask=[False, True])
    frame.add_channel(MASK, mask, 1, unit="0:DATA", channel_type="adc", aux_mask=True)
    frame.write(tmp_path / "a.gwf")
    (run,) = FileSource((tmp_path / "a.gwf",)).runs()
    assert left_out(run) == [LeftOut(Span(STRAIN, T0 + 1, T0 + 2), "DATA not set")]


# ---- frames that are missing, or lack a channel


def test_strain_on_both_sides_of_a_gap_is_sent_and_the_gap_is_reported(tmp_path: Path) -> None:
    path = frames_file(tmp_path / "a.gwf", {T0: second_of(1), T0 + 1: second_of(1), T0 + 5: second_of(1)})
    source = FileSource((path,))
    assert [(run.t0, len(run.strain)) for run in source.runs()] == [(T0, 2 * RATE), (T0 + 5, RATE)]
    assert source.left_out == [LeftOut(Span(STRAIN, T0 + 2, T0 + 5), "missing in a.gwf")]
    assert not source.failures
    assert FileSource((path,), stop=T0 + 3).left_out == [LeftOut(Span(STRAIN, T0 + 2, T0 + 3), "missing in a.gwf")]


def test_a_second_frame_of_the_same_time_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.gwf"
    with gwframe.FrameWriter(path) as writer:
        for value in (1.0, 2.0):
            writer.write({STRAIN: np.full(RATE, value)}, start=float(T0), sample_rate=RATE, name="L1")
    source = FileSource((path,))
    (run,) = source.runs()
    assert (run.t0, set(run.strain[:])) == (T0, {1.0})
    assert source.left_out == [LeftOut(Span(STRAIN, T0, T0 + 1), "in the same file too")]


def test_frames_that_are_not_in_the_order_of_time_are_sent_in_it(tmp_path: Path) -> None:
    path = frames_file(tmp_path / "a.gwf", {T0 + second: second_of(1) for second in (2, 0, 1)})
    assert [(run.t0, len(run.strain)) for run in FileSource((path,)).runs()] == [(T0, 3 * RATE)]


@pytest.mark.parametrize("auxiliary", [True, False])
def test_samples_that_a_frame_marks_as_invalid_are_left_out_and_reported(tmp_path: Path, *, auxiliary: bool) -> None:
    path = tmp_path / "a.gwf"
    second = np.arange(4 * RATE) // RATE
    with gwframe.FrameWriter(path) as writer:
        for start in (T0, T0 + 4):
            each = gwframe.Frame(start, 4.0, name="L1")
            invalid = (second == 2) if auxiliary else np.full(4 * RATE, start == T0)
            strain = np.ma.masked_array(second * 1.0, mask=invalid)
            each.add_channel("L1:CAL_STRAIN", strain, RATE, channel_type="adc", aux_mask=auxiliary)
            writer.write_frame(each)
    (run,) = FileSource((path,)).runs()
    spans = [(T0 + 2, T0 + 3), (T0 + 6, T0 + 7)] if auxiliary else [(T0, T0 + 4)]
    assert left_out(run) == [LeftOut(Span("L1:CAL_STRAIN", *span), "marked as invalid in the file") for span in spans]
    assert sum(piece.samples for piece in cut(run, 1)) == 8 * RATE - sum(stop - start for start, stop in spans) * RATE


@pytest.mark.parametrize("lacking", [0, 1, 2])
def test_a_frame_without_the_channel_is_named_with_its_span_and_the_others_are_sent(
    tmp_path: Path, lacking: int
) -> None:
    aux = {"L1:AUX": np.arange(4.0)}
    frames = {T0 + i: aux | ({} if i == lacking else second_of(1)) for i in range(3)}
    source = FileSource((frames_file(tmp_path / "a.gwf", frames),))
    sent = [run.gps(k) for run in source.runs() for k in range(len(run.strain))]
    assert {int(gps) - T0 for gps in sent} == {0, 1, 2} - {lacking}
    (line,) = source.failures
    assert line.endswith(f"a.gwf: {STRAIN} in GPS [{T0 + lacking}, {T0 + lacking + 1}) is missing or damaged")


def test_no_sample_passes_for_good_where_a_frame_lacks_the_mask(tmp_path: Path) -> None:
    path = frames_file(tmp_path / "a.gwf", {T0: second_of(1, mask=False), T0 + 1: second_of(1)})
    runs = list(FileSource((path,)).runs())
    assert [each for run in runs for each in left_out(run)] == [
        LeftOut(Span(STRAIN, T0, T0 + 1), "no data quality is known")
    ]
    assert [run.t0 for run in FileSource((path,), bits=()).runs()] == [T0, T0 + 1]


def test_a_truncated_file_is_named_with_its_span_and_the_others_of_a_folder_are_sent(
    tmp_path: Path, frame: Path
) -> None:
    cut_off = tmp_path / f"L-L1_GWOSC_4KHZ_R1-{T0 + 4}-4.gwf"
    cut_off.write_bytes(frame.read_bytes()[:-1000])
    empty = tmp_path / f"L-L1_GWOSC_4KHZ_R1-{T0 + 8}-4.gwf"
    empty.touch()
    source = FileSource((frame, cut_off, empty))
    assert [run.t0 for run in source.runs()] == [T0]
    assert list(source.failures) == [
        f"{cut_off} is a frame file, but truncated or damaged (GPS [{T0 + 4}, {T0 + 8}))",
        f"{empty} is empty (GPS [{T0 + 8}, {T0 + 12}))",
    ]


@pytest.mark.parametrize("junk", [b"\0" * 400, bytes(range(1, 202)), b"IGWD\0" * 100, b"x"], ids=len)
def test_whole_frames_before_other_bytes_are_sent_and_those_are_named(
    frame: Path, strain: np.ndarray, junk: bytes
) -> None:
    with frame.open("ab") as file:
        file.write(junk)
    source = FileSource((frame,), T0 + 1, bits=())
    (run,) = source.runs()
    assert run.strain[:].tobytes() == strain[RATE:].tobytes()
    assert [piece.segment().meta["quality"][0] for piece in cut(run, 1)] == ["DATA", "CBC_CAT1", "DATA"]  # type: ignore[index]
    assert list(source.failures) == [f"{frame}: {len(junk)} bytes after the last frame are no frame"]


def test_frames_that_cannot_be_copied_are_named_and_the_other_files_are_sent(
    frame: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = frames_file(tmp_path / "other.gwf", {T0 + 100: second_of(1)})
    with frame.open("ab") as file:
        file.write(b"junk")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    source = FileSource((frame, other))
    assert [run.t0 for run in source.runs()] == [T0 + 100]
    (failure,) = source.failures
    assert failure.startswith(f"{frame}: 4 bytes after the last frame are no frame; the frames before them cannot be")


def test_a_channel_that_is_not_real_numbers_is_named(tmp_path: Path) -> None:
    path = frames_file(tmp_path / "a.gwf", {T0: {STRAIN: np.full(4, 1j)}})
    with pytest.raises(InvalidSource, match=r"a\.gwf: .* is of type complex128; it has to be real numbers"):
        list(FileSource((path,)).runs())


def test_a_path_that_is_not_utf_8_is_named_as_the_reason(frame: Path) -> None:
    odd = frame.rename(frame.with_name("L-\udcff-1126259446-4.gwf"))
    with pytest.raises(InvalidSource, match="cannot be read: its path is not UTF-8, which gwframe requires; rename it"):
        FileSource((odd,)).runs()
