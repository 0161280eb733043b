"""`gwclient push`, `replay` and `simulate`: repetitions, cursors, and failures while sending."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from gwwire.problems import ProblemCode
from gwwire.segment import decode_segment
from scripts.trio import draw_ports
from tests.support.command import (
    H1_FILE,
    L1_FILE,
    SIMULATE,
    received,
    same_bits,
    strain_in,
    with_open_data,
)
from tests.support.gateway import Answering, Slow, StandInGateway

# ---- folders


@with_open_data
def test_a_folders_files_are_chosen_by_their_names_and_new_ones_are_sent_the_next_time(
    gateway: StandInGateway, gwclient: Any, tmp_path: Path
) -> None:
    (tmp_path / "deeper").mkdir()
    shutil.copy(H1_FILE, tmp_path / "deeper")
    (tmp_path / "notes.txt").write_text("not strain")
    (tmp_path / "strain.hdf5").write_text("no span in its name, and never opened")
    (tmp_path / "L-L1_LOSC_4_V2-1000000000-32.hdf5").write_text("outside of the window, and never opened")
    window = ("--start", "1126259450", "--stop", "1126259454")
    done = gwclient("push", "--folder", str(tmp_path), *window)
    assert done.code == 0
    assert "left out, not named as OBS-TYPE-GPSSTART-DURATION: strain.hdf5" in done.err
    shutil.copy(L1_FILE, tmp_path)
    some = gwclient("push", str(tmp_path), *window, "--channel", "H1:*STRAIN")
    assert (some.code, some.err.splitlines()[-1]) == (
        0, f"left out, without a requested channel: {tmp_path / L1_FILE.name}"
    )  # fmt: skip
    again = gwclient("push", "--folder", str(tmp_path), *window, "--json")
    assert (again.json["acknowledged"], again.json["before"]) == (4, 4)
    for detector, path in (("H1", H1_FILE), ("L1", L1_FILE)):
        _, samples = received(gateway, detector)
        assert same_bits(samples, strain_in(path)[4 * 4096 : 8 * 4096])
    nothing = gwclient("push", "--folder", str(tmp_path), "--start", "5", "--stop", "6")
    assert nothing.code == 2
    assert f"name the files themselves: gwclient push {tmp_path}/*.hdf5" in nothing.err


@pytest.mark.parametrize("command", ["push", "replay"])
def test_files_whose_paths_are_not_utf_8_are_sent_once_with_the_others(
    gateway: StandInGateway, gwclient: Any, tmp_path: Path, command: str
) -> None:
    folder = tmp_path / "b\udcff"
    folder.mkdir()
    segments = [
        json.dumps({"h": [number] * 16, "t": [1400000000 + number, 1 / 16], "meta": {"channel": "H1:X"}})
        for number in range(3)
    ]
    files = [tmp_path / "a.json", tmp_path / "a\udcff.json", folder / "a.json"]
    for path, segment in zip(files, segments, strict=True):
        path.write_text(segment)
    words = (command, *map(str, files), "--json", *(("--rate", "100") if command == "replay" else ()))
    for acknowledged, before in ((3, 0), (0, 3)):
        done = gwclient(*words)
        assert (done.code, done.json["acknowledged"], done.json["before"]) == (0, acknowledged, before), done.err
    assert len(received(gateway, "H1")[1]) == 48


@pytest.mark.parametrize(
    ("command", "kind"),
    [("push", "npy"), ("push", "csv"), ("push", "ndjson"), ("push", "json"), ("replay", "csv"), ("replay", "json")],
)
def test_a_file_that_was_written_anew_is_sent_and_the_others_are_not(
    gateway: StandInGateway, gwclient: Any, tmp_path: Path, command: str, kind: str
) -> None:
    path, other = tmp_path / f"a.{kind}", tmp_path / "other.json"

    def write(value: float) -> None:
        times = [1400000000 + k / 16 for k in range(64)]
        segment = {"h": [value] * 64, "t": [times[0], 1 / 16], "meta": {"channel": "H1:X"}}
        if kind == "npy":
            np.save(path, np.full(64, value))
        else:
            text = "".join(f"{t!r},{value}\n" for t in times) if kind == "csv" else json.dumps(segment)
            path.write_text(text)

    write(1.0)
    other.write_text(json.dumps({"h": [5.0] * 16, "t": [1400000100, 1 / 16], "meta": {"channel": "H1:X"}}))
    named = {"npy": ("--rate", "16", "--t0", "1400000000", "--channel", "H1:X"), "csv": ("--channel", "H1:X")}
    pace = ("--rate", "1000") if command == "replay" else ()
    words = (command, str(path), *([str(other)] if kind in {"json", "ndjson"} else []), *named.get(kind, ()), *pace)
    first = gwclient(*words, "--json").json["acknowledged"]
    assert gwclient(*words, "--json").json["acknowledged"] == 0
    write(2.0)
    again = gwclient(*words, "--json")
    assert (again.code, again.json["acknowledged"]) == (0, first - (kind in {"json", "ndjson"}))
    assert again.err == f"{path} changed since the last push; all of it is sent\n"
    assert gwclient(*words, "--json").json["acknowledged"] == 0
    assert {segment.h[0] for segment in gateway.segments} >= {1.0, 2.0}


@pytest.mark.parametrize("command", ["push", "replay"])
def test_what_was_sent_in_segments_of_another_length_is_not_sent_again(
    gateway: StandInGateway, gwclient: Any, tmp_path: Path, command: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("".join(f"{1400000000 + k / 16!r},{k}\n" for k in range(64)))
    words = (command, str(path), "--channel", "H1:X", *(("--rate", "1000") if command == "replay" else ()), "--json")
    assert gwclient(*words).json["acknowledged"] == 4
    assert gwclient(*words, "--segment-seconds", "2").json["acknowledged"] == 0
    assert len(gateway.segments) == 4


@with_open_data
def test_a_file_of_a_folder_that_was_written_anew_is_sent(
    gateway: StandInGateway, gwclient: Any, tmp_path: Path
) -> None:
    for path in (H1_FILE, L1_FILE):
        shutil.copy(path, tmp_path)
    push = ("push", str(tmp_path), "--json")
    assert gwclient(*push).json["acknowledged"] == 64
    with h5py.File(tmp_path / H1_FILE.name, "r+") as file:
        file["strain/Strain"][5000] = 7
    again = gwclient(*push)
    assert again.json["acknowledged"] == 32
    assert len(gateway.segments) == 96
    assert again.err == f"{tmp_path / H1_FILE.name} changed since the last push; all of it is sent\n"


def test_an_array_with_another_start_is_another_source(gateway: StandInGateway, gwclient: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(64.0))
    for start in ("1400000000", "1400000001"):
        done = gwclient("push", str(path), "--rate", "16", "--t0", start, "--channel", "H1:X", "--json")
        assert done.json["acknowledged"] == 4
    assert len(gateway.segments) == 8


def test_what_of_an_array_was_not_sent_when_it_changed_is_named(
    gateway: StandInGateway, gwclient: Any, tmp_path: Path
) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.ones(64))
    gateway.on_stored = lambda _: os.utime(path, ns=(1, 1))
    sampling = ("--rate", "16", "--t0", "1400000000", "--channel", "H1:X")
    done = gwclient("push", str(path), *sampling, "--concurrency", "1", "--json")
    assert (done.code, done.json["ending"], done.json["acknowledged"]) == (1, "partly", 1), done.err
    line = f"{path} changed while it was read; push it again when it is complete"
    assert done.json["unread"] == [f"{line} (H1:X in GPS [1400000001, 1400000004))"]
    assert len(gateway.segments) == 1


@with_open_data
def test_what_of_a_folder_can_be_read_is_sent_and_the_rest_is_named(
    gateway: StandInGateway, gwclient: Any, tmp_path: Path
) -> None:
    shutil.copy(H1_FILE, tmp_path)
    damaged = tmp_path / L1_FILE.name
    damaged.write_bytes(L1_FILE.read_bytes()[:500_000])
    line = f"{damaged} is not a strain file: it is truncated, or still being written"
    push = ("push", "--folder", str(tmp_path))
    done = gwclient(*push)
    assert done.code == 1
    assert done.out.splitlines()[-1] == f"not read: {line} (GPS [1126259446, 1126259478))"
    assert done.err == "gwclient: not everything could be read; 32 of 32 segments acknowledged\n"
    assert same_bits(received(gateway, "H1")[1], strain_in(H1_FILE))
    again = gwclient(*push, "--json")
    assert (again.code, again.json["ending"], again.json["before"]) == (1, "partly", 32)
    assert again.json["unread"] == [f"{line} (GPS [1126259446, 1126259478))"]
    shutil.copy(L1_FILE, tmp_path)
    assert gwclient(*push, "--json").json["acknowledged"] == 32


@with_open_data
def test_a_damaged_file_in_the_spool_stops_no_replay(gateway: StandInGateway, gwclient: Any, tmp_path: Path) -> None:
    (tmp_path / "000000000000.json").write_bytes(b"\0" * 100)
    replay = ("replay", str(H1_FILE), "--rate", "1000", "--spool", str(tmp_path), "--json")
    done = gwclient(*replay)
    assert (done.code, done.json["ending"], done.json["acknowledged"]) == (1, "partly", 32)
    assert done.json["unread"][0].startswith(f"{tmp_path}/000000000000.json in the spool is not a segment: ")
    assert (tmp_path / "000000000000.json.unusable").read_bytes() == b"\0" * 100
    assert gwclient(*replay).code == 0
    assert len(gateway.bodies) == 32


# ---- the same strain in other company


@with_open_data
def test_a_file_and_then_a_folder_with_it_store_each_segment_once(
    gateway: StandInGateway, gwclient: Any, tmp_path: Path
) -> None:
    for path in (H1_FILE, L1_FILE):
        shutil.copy(path, tmp_path)
    assert gwclient("push", "--file", str(tmp_path / H1_FILE.name)).code == 0
    assert gwclient("push", "--folder", str(tmp_path), "--json").json["acknowledged"] == 64
    both = (str(tmp_path / H1_FILE.name), str(tmp_path / L1_FILE.name))
    assert gwclient("replay", *both, "--rate", "1000", "--json").json["acknowledged"] == 64
    assert gwclient("push", "--file", both[1], "--concurrency", "3", "--json").json["acknowledged"] == 32
    assert len(gateway.bodies) == 64


def test_a_detector_that_is_simulated_beside_others_is_stored_once(gateway: StandInGateway, gwclient: Any) -> None:
    simulate = ("simulate", "--seconds", "11", "--rate", "1024", "--detectors")
    for detectors in ("H1", "H1,L1", "V1,L1,H1"):
        assert gwclient(*simulate, detectors, "--json").json["acknowledged"] == 11 * len(detectors.split(","))
    assert len(gateway.bodies) == 33


@with_open_data
@pytest.mark.parametrize("command", [("push", "--file"), ("replay", "--rate", "1000")], ids=["push", "replay"])
def test_restart_stores_the_same_strain_anew(gateway: StandInGateway, gwclient: Any, command: tuple[str, ...]) -> None:
    for stored in (32, 64, 96):
        restart = ("--restart",) if stored > 32 else ()
        assert gwclient(*command, str(H1_FILE), *restart).code == 0
        assert len(gateway.bodies) == stored


# ---- cursors


def test_another_datastore_at_the_same_address_gets_everything(gateway: StandInGateway, gwclient: Any) -> None:
    assert gwclient(*SIMULATE, "--json").json["acknowledged"] == 16
    assert gwclient(*SIMULATE, "--json").json["before"] == 16
    gateway.batch = "b2"
    gateway.bodies.clear()
    gateway.forget_keys()
    done = gwclient(*SIMULATE, "--json")
    assert "is not the datastore that acknowledged before" in done.err
    assert done.json["acknowledged"] == len(gateway.bodies) == 16


def test_in_segments_of_another_length_only_what_is_missing_is_sent(gateway: StandInGateway, gwclient: Any) -> None:
    gateway.freeze_at = 6
    assert gwclient(*SIMULATE, "--concurrency", "1").code == 1
    gateway.holder = ""
    done = gwclient(*SIMULATE, "--segment-samples", "3000", "--json")
    assert done.code == 0
    places = [(s.channel, s.t0 + k / 1024) for s in gateway.segments for k in range(len(s.h))]
    assert len(places) == len(set(places)) == 2 * 8 * 1024


def test_a_cursor_that_cannot_be_read_says_how_to_go_on(
    gateway: StandInGateway, gwclient: Any, fresh_home: Path
) -> None:
    assert gwclient(*SIMULATE).code == 0
    sent = len(gateway.requests)
    (cursor,) = (fresh_home / "state" / "gwclient").glob("*.json")
    cursor.write_text("{")
    broken = gwclient(*SIMULATE)
    assert broken.code == 2
    assert broken.err.count("\n") == 1
    assert "--restart forgets it" in broken.err
    assert len(gateway.requests) == sent
    assert gwclient(*SIMULATE, "--restart").code == 0


def test_without_a_place_for_cursors_it_says_so_and_sends(
    gateway: StandInGateway, gwclient: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", __file__)
    done = gwclient(*SIMULATE)
    assert done.code == 0
    assert "cannot be kept in" in done.err
    assert len(gateway.bodies) == 16


# ---- simulation


def test_a_simulation_is_sent_with_the_truth_in_its_segments(
    gateway: StandInGateway, gwclient: Any, tmp_path: Path
) -> None:
    done = gwclient(*SIMULATE, "--glitch-rate", "1", "--truth", str(tmp_path / "truth.json"), "--json")
    assert done.code == 0
    assert done.json["acknowledged"] == 16
    truth = json.loads((tmp_path / "truth.json").read_text())["glitches"]
    told = [glitch for body in gateway.bodies for glitch in decode_segment(body).meta.get("glitches", [])]  # type: ignore[union-attr]
    assert truth
    assert all(glitch in told for glitch in truth)
    assert all(glitch in truth for glitch in told)


def test_a_simulation_can_be_written_as_a_batch_folder(gateway: StandInGateway, gwclient: Any, tmp_path: Path) -> None:
    assert gwclient(*SIMULATE).code == 0
    assert gwclient(*SIMULATE, "--out", str(tmp_path / "batch")).code == 0
    files = sorted((tmp_path / "batch").glob("gwb*.json"))
    assert sorted(file.read_bytes() for file in files) == sorted(gateway.bodies)
    assert json.loads((tmp_path / "batch" / "glitches.json").read_text())["seed"] == 1
    again = gwclient(*SIMULATE, "--out", str(tmp_path / "batch"))
    assert again.code == 2
    assert "already holds a batch" in again.err


# ---- what can go wrong while sending


def test_a_frozen_datastore_is_exit_code_1_and_says_what_was_not_sent(gateway: StandInGateway, gwclient: Any) -> None:
    gateway.freeze_at = 6
    done = gwclient(*SIMULATE, "--concurrency", "1")
    assert done.code == 1
    assert done.out.startswith("6 segments (")
    assert done.err == (
        "gwclient: the datastore is frozen; 6 of 16 segments acknowledged; "
        "not acknowledged: H1:SIM-STRAIN [1400000003, 1400000008), L1:SIM-STRAIN [1400000003, 1400000008)\n"
    )


def test_a_frozen_datastore_is_waited_for_when_asked(gateway: StandInGateway, gwclient: Any) -> None:
    gateway.freeze_at, gateway.thaw_after_asked = 6, 2
    done = gwclient(*SIMULATE, "--wait", "--poll", "0.05")
    assert done.code == 0
    assert len(gateway.bodies) == 16
    assert "the datastore is frozen; waiting" in done.err
    assert "open again" in done.err


def test_a_refused_segment_is_exit_code_1(gateway: StandInGateway, gwclient: Any) -> None:
    gateway.faults.append(Answering(ProblemCode.TOO_LARGE, lines=(1,)))
    done = gwclient(*SIMULATE, "--json")
    assert done.code == 1
    assert (done.json["ending"], done.json["acknowledged"], len(done.json["refused"])) == ("refused", 15, 1)
    assert "answered 413" in done.json["refused"][0]["reason"]


@pytest.mark.parametrize("command", [SIMULATE, ("stats",), ("clean",)])
def test_a_gateway_that_does_not_answer_is_exit_code_3(gwclient: Any, command: tuple[str, ...]) -> None:
    done = gwclient(*command, "--srv", f"127.0.0.1:{draw_ports(1)[0]}", "--tries", "2")
    assert done.code == 3
    last = done.err.splitlines()[-1]
    assert last.startswith("gwclient: no gateway at http://127.0.0.1:")
    assert last.endswith("; --srv or SRV names another gateway")


def test_ctrl_c_ends_the_push_with_a_true_account(gateway: StandInGateway) -> None:
    gateway.faults.extend([Slow(0.1)] * 1000)
    process = subprocess.Popen(
        [sys.executable, "-m", "gwclient", "simulate", "--seconds", "512", "--rate", "1024", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    gateway.on_stored = lambda count: process.send_signal(signal.SIGINT) if count == 20 else None
    out, err = process.communicate(timeout=60)
    account = json.loads(out)
    assert process.returncode == 130
    assert account["ending"] == "interrupted"
    assert account["acknowledged"] == len(gateway.bodies) >= 20
    assert account["acknowledged"] + account["unsent"] == 1024
    assert err.splitlines()[-1].startswith("gwclient: interrupted; ")
