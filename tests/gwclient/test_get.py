"""`gwclient get` of segments that are odd, and `doctor` at the wrong service, against the real trio."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest

from gwclient.cli import main
from gwclient.commands.get import _without_spares
from gwclient.sources.hdf5 import read_hdf5
from gwwire.gps import GPS_EPOCH
from gwwire.public import SegmentRecord
from gwwire.segment import decode_segment
from gwwire.tiering import BatchLocality
from scripts.trio import Trio

#: Two at 1000 s name no channel.
CHANNELS = [
    *(
        "/tmp:EVIL",  # noqa: S108 (what is tested)
        "../x:Y",
        "x" * 255,
        "é" * 200,
        "H1:A-B",
        "H1:A_B",
        "h1:a_b",
        "H1_A_B",
        ".",
        "..",
        "a\0b",
        "#unnamed",
    ),
    *(None, ""),
]
#: The data-quality bits of the segments of some channels.
BITS = {"H1:TWICE": ["A", "DATA", "DATA", "A"], "H1:MANY": [f"BIT{i}" for i in range(34)]}
ABSURD = [(1e18, 0.25), (1e308, 0.25), (-1e308, 0.25), (3000.0, 5e-324), (3000.0, 1e308)]

Outcome = tuple[int, str, str]


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio], tmp_path_factory: pytest.TempPathFactory) -> Trio:
    """The trio over a volume of an earlier version, which accepted all of these segments."""
    home = tmp_path_factory.mktemp("earlier")
    segments = [(channel, 1000.0 + 2 * (channel == ""), 0.25) for channel in CHANNELS]
    segments += [("H1:PIECES", 2000 + start, 0.05) for start in (0, 0.25, 0.5, 0.75)]
    segments += [("H1:RATES", 2000.0, dt) for dt in (0.25, 0.125)]
    segments += [("H1:ABSURD", t0, dt) for t0, dt in ABSURD]
    segments += [("H1:LOST", 4000.0 + second, 0.25) for second in range(3)]
    segments += [("H1:TWO", 5000.0 + second, 0.25) for second in (0, 1, 1, 2)]
    segments += [(name, 6000.0, 0.25) for name in BITS]
    folder = home / "datavar" / "data"
    folder.mkdir(parents=True)
    for i, (channel, t0, dt) in enumerate(segments):
        quality = {"quality": BITS[channel]} if channel in BITS else {}
        meta = {} if channel is None else {"meta": {"channel": channel} | quality}
        body = json.dumps({"h": [1e-21, 2e-21, 3e-21, 4e-21], "t": [t0, dt], **meta}, separators=(",", ":"))
        (folder / f"gwb{GPS_EPOCH * 10**9 + i:019d}.json").write_text(body)
    trio = start_shared_trio(home=home)
    for time in ("4001.0", "5001.0"):
        min(path for path in folder.glob("gwb*.json") if f'"t":[{time}' in path.read_text()).unlink()
    return trio


@pytest.fixture
def gwclient(trio: Trio, capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    def run(*words: str, srv: str = trio.url) -> Outcome:
        with pytest.raises(SystemExit) as stop:
            main([*words, "--srv", srv, "--tries", "1"])
        out, err = capfd.readouterr()
        assert isinstance(stop.value.code, int)
        return stop.value.code, out, err

    return run


def read(path: Path) -> Any:
    with h5py.File(path) as file:
        assert file["strain/Strain"][()].tolist() == [1e-21, 2e-21, 3e-21, 4e-21]
        return file["meta/Channel"][()].decode(), float(file["strain/Strain"].attrs["Xstart"])


def test_every_channel_has_a_file_of_its_own_within_the_folder(
    gwclient: Callable[..., Outcome], tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "out"
    code, seen, _ = gwclient("get", "--start", "1000", "--stop", "1003", "--out", str(out), "--json")
    assert code == 0
    files = [Path(name) for name in json.loads(seen)["files"]]
    assert sorted(out.iterdir()) == sorted(files)
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert len({path.name.casefold() for path in files}) == len(CHANNELS)
    assert sorted(read(path)[0] for path in files) == sorted((name or "").replace("\0", "␀") for name in CHANNELS)


def test_a_file_keeps_the_name_of_its_channel_when_it_is_sent_again(
    gwclient: Callable[..., Outcome], tmp_path: Path
) -> None:
    _, seen, _ = gwclient("get", "--start", "1000", "--stop", "1003", "--out", str(tmp_path), "--json")
    for name in json.loads(seen)["files"]:
        (recording,) = read_hdf5(Path(name), (), print)
        assert (recording.channel, recording.t0) == read(Path(name))


def test_stretches_within_one_second_have_a_file_each(gwclient: Callable[..., Outcome], tmp_path: Path) -> None:
    code, seen, _ = gwclient("get", "--start", "2000", "--stop", "2001", "--out", str(tmp_path), "--json")
    assert code == 0
    files = json.loads(seen)["files"]
    assert sorted(map(read, files)) == [
        *(("H1:PIECES", 2000 + start) for start in (0, 0.25, 0.5, 0.75)), *[("H1:RATES", 2000)] * 2,
    ]  # fmt: skip
    assert {path.name.partition("##")[0] for path in tmp_path.iterdir()} == {
        *("H-H1_PIECES-2000-1.hdf5", "H-H1_PIECES", "H-H1_RATES", "H-H1_RATES-2000-1.hdf5"),
    }


def test_a_folder_in_the_place_of_a_file_is_named_and_the_others_are_written(
    gwclient: Callable[..., Outcome], tmp_path: Path
) -> None:
    words = ("get", "--start", "2000", "--stop", "2001", "--out", str(tmp_path), "--json")
    first, *others = json.loads(gwclient(*words)[1])["files"]
    for name in (first, *others):
        Path(name).unlink()
    Path(first).mkdir()
    code, seen, error = gwclient(*words)
    reason = f"{first} cannot be written: it is a folder"
    assert (code, json.loads(seen)["files"]) == (4, others)
    assert [each["reason"] for each in json.loads(seen)["left_out"]] == [reason]
    assert error.splitlines()[-1] == f"gwclient: not everything could be fetched: H1:PIECES [2000.0, 2000.2): {reason}"
    assert sorted(map(str, tmp_path.iterdir())) == sorted([first, *others])


def test_what_cannot_be_fetched_is_named_and_the_rest_is_fetched(
    gwclient: Callable[..., Outcome], tmp_path: Path
) -> None:
    code, seen, error = gwclient("get", "--channel", "H1:LOST", "--out", str(tmp_path), "--json")
    assert code == 4
    assert sorted(read(name)[1] for name in json.loads(seen)["files"]) == [4000, 4002]
    ((lost,),) = [json.loads(seen)["left_out"]]
    assert (lost["channel"], lost["start"], lost["stop"]) == ("H1:LOST", 4001, 4002)
    assert error.splitlines()[-1].startswith("gwclient: not everything could be fetched: H1:LOST: gwb")
    code, seen, error = gwclient("get", "--channel", "H1:LOST", "--format", "ndjson")
    assert code == 4
    assert [decode_segment(line.encode()).t0 for line in seen.splitlines()] == [4000, 4002]
    assert len(error.splitlines()) == 1


def test_what_is_not_stored_of_the_span_is_named_and_the_rest_is_fetched(
    gwclient: Callable[..., Outcome], tmp_path: Path
) -> None:
    span = "--channel", "H1:TWO", "--start", "4990", "--stop", "5001"
    code, seen, error = gwclient("get", *span, "--out", str(tmp_path))
    assert (code, len(list(tmp_path.iterdir()))) == (4, 1)
    assert seen.splitlines()[-1] == "left out: H1:TWO [4990, 5000)"
    last = "gwclient: not everything could be fetched: H1:TWO [4990.0, 5000.0) is not stored"
    assert error.splitlines()[-1] == last
    code, seen, error = gwclient("get", *span, "--format", "ndjson")
    assert (code, len(seen.splitlines()), error.splitlines()) == (4, 1, [last])
    code, seen, error = gwclient("get", *span, "--format", "ndjson", "--out", str(tmp_path / "file"))
    assert (seen, error.splitlines()) == ("", [f"{tmp_path}/file: 1 segment", last])


@pytest.mark.parametrize("kind", ["hdf5", "ndjson"])
def test_several_channels_are_fetched_and_one_without_strain_is_named(
    gwclient: Callable[..., Outcome], tmp_path: Path, kind: str
) -> None:
    both = "--channel", "H1:RATES", "--channel", "H1:PIECES", "--channel", "H1:RATES", "--format", kind
    out = "--out", str(tmp_path if kind == "hdf5" else tmp_path / "lines")
    code, _, error = gwclient("get", *both, *out)
    assert code == 0, error
    files = list(tmp_path.iterdir())
    fetched = [read_hdf5(path, (), print)[0].channel for path in files] if kind == "hdf5" else [
        decode_segment(line).channel for line in files[0].read_bytes().splitlines()
    ]  # fmt: skip
    assert set(fetched) == {"H1:RATES", "H1:PIECES"}
    code, _, error = gwclient("get", *both, "--channel", "L1:NONE*", *out)
    last = "gwclient: not everything could be fetched: L1:NONE* is not stored"
    assert (code, error.splitlines()[-1]) == (4, last)


def test_several_channels_and_batches_are_listed(gwclient: Callable[..., Outcome]) -> None:
    code, seen, error = gwclient("segments", "--channel", "H1:TWO", "--channel", "H1:RATES", "--json")
    assert code == 0, error
    assert {json.loads(line)["channel"] for line in seen.splitlines()} == {"H1:TWO", "H1:RATES"}
    [batch] = {json.loads(line)["batch"] for line in seen.splitlines()}
    assert gwclient("segments", "--batch", "b1", "--batch", batch, "--channel", "H1:TWO", "--channel", "H1:RATES") == (
        0, gwclient("segments", "--channel", "H1:RATES", "--channel", "H1:TWO")[1], ""
    )  # fmt: skip


def test_a_span_between_two_samples_is_an_error(gwclient: Callable[..., Outcome], tmp_path: Path) -> None:
    span = "--channel", "H1:TWO", "--start", "5000.05", "--stop", "5000.1"
    code, _, error = gwclient("get", *span, "--out", str(tmp_path))
    assert (code, error.splitlines()) == (1, ["gwclient: no sample is stored in GPS [5000.05, 5000.1)"])
    assert not list(tmp_path.iterdir())


def test_what_is_stored_twice_is_whole_if_one_of_both_can_be_fetched(
    gwclient: Callable[..., Outcome], tmp_path: Path
) -> None:
    code, seen, error = gwclient("get", "--channel", "H1:TWO", "--out", str(tmp_path), "--json")
    assert (code, len(json.loads(seen)["files"])) == (0, 1), error
    with h5py.File(json.loads(seen)["files"][0]) as file:
        assert file["strain/Strain"][()].tolist() == [1e-21, 2e-21, 3e-21, 4e-21] * 3
    assert any("is missing" in each["reason"] for each in json.loads(seen)["left_out"])


def test_what_is_on_tape_is_not_recalled_if_it_can_be_read_elsewhere() -> None:
    def record(name: str, sha256: str, locality: BatchLocality) -> SegmentRecord:
        return SegmentRecord(0, name, "b", 1, sha256, "H1:A", 1.0, 1.0, 1, "", locality=locality)

    records = [
        record("spare", "a", BatchLocality.TAPE),
        record("there", "a", BatchLocality.DISK),
        record("needed", "b", BatchLocality.TAPE),
    ]
    assert [each.name for each in _without_spares(records)] == ["there", "needed"]


def test_bits_are_set_once_and_those_beyond_a_mask_are_named(gwclient: Callable[..., Outcome], tmp_path: Path) -> None:
    code, seen, error = gwclient("get", "--start", "6000", "--stop", "6001", "--out", str(tmp_path), "--json")
    many, twice = sorted(json.loads(seen)["files"])
    assert code == 4
    reason = "data-quality bits beyond those of a mask: BIT32, BIT33"
    assert error == f"gwclient: not everything could be fetched: {many}: {reason}\n"
    for name, mask, first in ((twice, 0b11, b"A"), (many, 2**32 - 1, b"BIT0")):
        with h5py.File(name) as file:
            assert file["quality/simple/DQmask"][()].tolist() == [mask]
            assert file["quality/simple/DQShortnames"][0] == first


def test_times_that_no_file_can_describe_are_named_and_the_rest_is_fetched(
    gwclient: Callable[..., Outcome], tmp_path: Path
) -> None:
    _, listed, _ = gwclient("batches", "--json")
    batch = json.loads(listed)["batches"][-1]["id"]
    code, seen, error = gwclient("get", "--batch", batch, "--out", str(tmp_path), "--json")
    assert code == 4
    assert len(json.loads(seen)["files"]) == len(CHANNELS) + 6 + 2 + 1 + len(BITS)
    absurd = [each for each in json.loads(seen)["left_out"] if each["channel"] == "H1:ABSURD"]
    assert sorted(each["start"] for each in absurd) == sorted(t0 for t0, _ in ABSURD)
    assert all("use --format ndjson" in each["reason"] for each in absurd)
    assert error.splitlines()[-1].endswith(f" and {len(ABSURD) + 1} more")
    code, seen, _ = gwclient("get", "--channel", "H1:ABSURD", "--format", "ndjson")
    assert code == 0
    assert sorted(decode_segment(line.encode()).t for line in seen.splitlines()) == sorted(ABSURD)


@pytest.mark.parametrize(("tier", "name"), [(0, "databuffer"), (1, "dslogic")])
def test_a_doctor_names_the_service_that_is_not_the_gateway(
    trio: Trio, gwclient: Callable[..., Outcome], tier: int, name: str
) -> None:
    code, seen, _ = gwclient("doctor", srv=trio.services[tier].url)
    assert code == 3
    assert f"wrong address: {name}, not a gateway, answers at http://127.0.0.1:" in seen
    assert "a gateway answers" not in seen
    code, _, error = gwclient("stats", srv=trio.services[tier].url)
    assert code == 3
    assert error.startswith(f"gwclient: no gateway answers at {trio.services[tier].url}: GET /stats answered 404; `gwc")


def test_a_name_that_cannot_be_one_is_refused_in_plain_words(gwclient: Callable[..., Outcome]) -> None:
    code, _, error = gwclient("batch", "a b")
    assert code == 1
    assert error.endswith(" 422: path.batch: expected letters, digits, '_', '.' and '-', got 'a b'\n")


def test_a_doctor_knows_a_gateway(trio: Trio, gwclient: Callable[..., Outcome]) -> None:
    code, seen, _ = gwclient("doctor")
    assert code == 0
    assert f"ok    address: a gateway answers at {trio.url}" in seen
