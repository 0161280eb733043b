import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from gwclient.cli import gwclient as cli
from gwclient.cli import main
from gwwire.gps import gps_of_unix
from gwwire.problems import ProblemCode
from gwwire.segment import decode_segment
from tests.support.forked import run_forked
from tests.support.gateway import Answering, Slow, StandInGateway
from tests.support.gwosc_server import GW150914_GPS, GwoscServer

OPEN_DATA = Path(__file__).parents[2] / ".." / "shared" / "data" / "gwosc"
H1_FILE, L1_FILE = (OPEN_DATA / f"{name}_LOSC_4_V2-1126259446-32.hdf5" for name in ("H-H1", "L-L1"))

with_open_data = pytest.mark.skipif(not L1_FILE.exists(), reason=f"the GW150914 files are not in {OPEN_DATA}")

SIMULATE = ("simulate", "--detectors", "H1,L1", "--seconds", "8", "--rate", "1024")


class Outcome:
    """What a command answered."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInGateway]:
    for name in ("GWID", "DTCID", "INF", "SUP"):
        monkeypatch.delenv(name, raising=False)
    with StandInGateway() as gateway:
        monkeypatch.setenv("SRV", gateway.url)
        yield gateway


@pytest.fixture
def gwclient(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> Outcome:
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        captured = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return Outcome(stop.value.code, captured.out, captured.err)

    return run


def in_a_process(*arguments: str, **environment: str) -> Outcome:
    done = run_forked(["gwclient", *arguments], os.environ | environment)
    return Outcome(done.returncode, done.stdout, done.stderr)


def strain_in(path: Path) -> Any:
    with h5py.File(path) as file:
        return file["strain/Strain"][()]


def received(gateway: StandInGateway, detector: str) -> tuple[list[float], list[float]]:
    """Return (t0 of each segment, samples) of one detector."""
    segments = [s for s in gateway.segments if str(s.channel).startswith(detector)]
    return [s.t0 for s in segments], [h for s in segments for h in s.h]


def same_bits(samples: list[float], expected: Any) -> bool:
    return np.asarray(samples).tobytes() == np.ascontiguousarray(expected).tobytes()


# ---- open data, by the unmodified gwosc and gwpy


@with_open_data
def test_an_events_name_is_enough_for_all_its_detectors_to_arrive_bit_for_bit(gateway: StandInGateway) -> None:
    with GwoscServer(OPEN_DATA) as gwosc:
        done = in_a_process("push", "--event", "GW150914", "--json", GWOSC_SERVER_URL=gwosc.url)
    assert done.code == 0, done.err
    first = int(np.ceil((GW150914_GPS - 16 - 1126259446) * 4096))
    for detector, path in (("H1", H1_FILE), ("L1", L1_FILE)):
        t0s, samples = received(gateway, detector)
        assert t0s == [1126259446 + first / 4096 + second for second in range(31)]
        assert same_bits(samples, strain_in(path)[first : first + 31 * 4096])
    assert done.json["acknowledged"] == 62
    assert set(done.json["spans"]) == {"H1:GWOSC-4KHZ_R1_STRAIN", "L1:GWOSC-4KHZ_R1_STRAIN"}
    segment = decode_segment(gateway.bodies[0])
    path = {"H1": H1_FILE, "L1": L1_FILE}[str(segment.channel)[:2]]
    assert segment.meta == {
        "channel": segment.channel,
        "detector": str(segment.channel)[:2],
        "event": "GW150914",
        "source": path.name,
        "source_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "quality": ["DATA", "CBC_CAT1", "CBC_CAT2", "CBC_CAT3", "BURST_CAT1", "BURST_CAT2", "BURST_CAT3"],
    }


def test_a_live_simulation_sends_at_the_detectors_pace_until_it_is_stopped(gateway: StandInGateway) -> None:
    command = [sys.executable, "-m", "gwclient", "simulate", "--live", "--detectors", "H1,L1", "--rate", "1024"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while len(gateway.bodies) < 4 and process.poll() is None:
            time.sleep(0.05)
        now = gps_of_unix(time.time())
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert process.returncode in {0, 130}, err
    for detector in ("H1", "L1"):
        t0s, samples = received(gateway, detector)
        assert np.diff(t0s).tolist() == [1.0] * (len(t0s) - 1)
        assert len(samples) == 1024 * len(t0s)
        assert now - 4 < t0s[1] < now
    assert f"{len(gateway.bodies)} segments" in out


@pytest.mark.parametrize(
    "option", [("--seconds", "4"), ("--t0", "0"), ("--out", "x"), ("--truth", "x"), ("--restart",)]
)
def test_what_a_live_simulation_cannot_do_is_refused(
    gateway: StandInGateway, gwclient: Any, option: tuple[str, ...]
) -> None:
    done = gwclient("simulate", "--live", *option)
    assert (done.code, done.err.startswith(f"gwclient: {option[0]} does not apply")) == (2, True)
    assert not gateway.bodies


def test_files_folders_and_patterns_are_named_without_an_option(
    gateway: StandInGateway, gwclient: Any, tmp_path: Path
) -> None:
    assert gwclient(*SIMULATE, "--out", str(tmp_path / "batch")).code == 0
    assert gwclient("push", str(tmp_path / "batch"), "--json").json["acknowledged"] == 16
    assert gwclient("push", str(tmp_path / "b*" / "*.json"), "--json").json["acknowledged"] == 16
    assert len(gateway.bodies) == 16  # the same segments, stored once
    missing = gwclient("push", str(tmp_path / "x*.hdf5"))
    assert (missing.code, missing.err) == (2, f"gwclient: '{tmp_path}/x*.hdf5': no such file or folder\n")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("batch", "--rate", "4096"), "--rate and --t0 apply to NPY and CSV files; .*gwb.*json has its own times"),
        (("batch", "--detector", "H1"), "--detector applies to --event and --gps"),
        (("a.npy",), "a.npy has only samples; it needs --rate HZ, --t0 GPS, --channel L1:MY-STRAIN"),
        (("a.npy", "--rate", "16", "--t0", "3"), "a.npy has only samples; it needs --channel L1:MY-STRAIN"),
        (
            ("a.npy", "--rate", "16", "--t0", "3", "--channel", "MY"),
            "'MY' is not a channel name: it needs a detector, such as L1:MY",
        ),
        (
            ("a.npy", "--rate", "16", "--t0", "3", "--channel", "L1:A", "--channel", "L1:B"),
            "name it with --channel once, not as a pattern, such as L1:MY-STRAIN",
        ),
        (("a.npy", "b.npy", "--channel", "L1:A"), "push NPY and CSV files one by one"),
        (("a.npy", "batch", "--channel", "L1:A"), "a.npy does not name its channel; push it alone"),
        (("--event", "GW150914", "--channel", "L1:A"), "--channel applies to files only"),
        (("--event", "GW150914", "--t0", "3"), "--t0 applies to files only"),
        (("--stdin", "--rate", "3"), "--rate applies to files and open data only"),
        (("batch", "--stdin"), "name files or folders, or one of --event, --gps and --stdin"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("gateway")
def test_options_that_do_not_fit_the_source_are_refused(
    gwclient: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.npy", "b.npy"):
        np.save(name, np.zeros(16))
    assert gwclient("simulate", "--seconds", "1", "--rate", "1024", "--out", "batch").code == 0
    done = gwclient("push", *words)
    assert done.code == 2
    assert re.search(reason, done.err)


@with_open_data
def test_without_arguments_the_window_comes_from_the_environment(gateway: StandInGateway) -> None:
    with GwoscServer(OPEN_DATA) as gwosc:
        window = {"GWID": "GW150914", "DTCID": "L1", "INF": "-1", "SUP": "1", "MAX_SIZE": "2000"}
        done = in_a_process(**window, SRV=gateway.url, GWOSC_SERVER_URL=gwosc.url)
    assert done.code == 0, done.err
    _, samples = received(gateway, "L1")
    assert len(samples) == 2 * 4096
    assert done.out.startswith("2 segments (")
    assert "acknowledged: L1:GWOSC-4KHZ_R1_STRAIN [1126259461.400" in done.out


@with_open_data
@pytest.mark.parametrize("form", ["{}", "'{}'", ' "{}" '], ids=["plain", "quoted", "in double quotes"])
def test_the_settings_of_the_original_start_the_client_whatever_their_form(gateway: StandInGateway, form: str) -> None:
    window = {"GWID": "GW150914", "DTCID": "L1", "INF": "-1", "SUP": "1", "SRV": f"{gateway.url}/"}
    given = {name: form.format(value) for name, value in window.items()}
    with GwoscServer(OPEN_DATA) as gwosc:
        done = in_a_process(**given, MAX_SIZE="100", GWOSC_SERVER_URL=gwosc.url)
    assert done.code == 0, done.err
    assert len(received(gateway, "L1")[1]) == 2 * 4096


@with_open_data
def test_data_that_gwosc_does_not_have_are_a_usage_error(gateway: StandInGateway) -> None:
    window = ("--start", "-4", "--stop", "4")
    with GwoscServer(OPEN_DATA) as gwosc:
        unknown = in_a_process("push", "--event", "GW999999", "--detector", "L1", *window, GWOSC_SERVER_URL=gwosc.url)
        not_there = in_a_process("push", "--event", "GW150914", "--detector", "V1", *window, GWOSC_SERVER_URL=gwosc.url)
    assert unknown.code == not_there.code == 2
    assert unknown.err.splitlines()[-1] == "gwclient: GWOSC has no event 'GW999999'"
    assert not_there.err.splitlines()[-1].startswith(
        "gwclient: GWOSC has no strain of V1 at 4096 Hz in GPS [1126259458.4,"
    )
    assert not gateway.requests


@pytest.mark.parametrize(
    ("setting", "value", "code", "words"),
    [
        ("GWOSC_SERVER_URL", "http://127.0.0.1:1", 3, "GWOSC at {} does not answer: Connection refused"),
        ("http_proxy", "http://127.0.0.1:1", 3, "GWOSC at http://o does not answer: the proxy: Connection refused"),
        ("GWOSC_SERVER_URL", "xx", 2, "GWOSC_SERVER_URL is 'xx'; it has to be an address like https://gwosc.org"),
    ],
)
def test_an_archive_that_does_not_answer_is_exit_code_3_and_a_wrong_address_2(
    gateway: StandInGateway, setting: str, value: str, code: int, words: str
) -> None:
    environment = {"GWOSC_SERVER_URL": "http://o", setting: value}
    done = in_a_process("push", "--event", "GW150914", "--detector", "L1", **environment)
    assert (done.code, done.err.splitlines()[-1]) == (code, f"gwclient: {words.format(value)}")
    assert not gateway.requests


# ---- files


@with_open_data
def test_files_arrive_bit_for_bit_each_on_its_channel(gateway: StandInGateway, gwclient: Any) -> None:
    done = gwclient("push", "--file", str(H1_FILE), "--file", str(L1_FILE))
    assert done.code == 0
    for detector, path in (("H1", H1_FILE), ("L1", L1_FILE)):
        t0s, samples = received(gateway, detector)
        assert t0s == [1126259446 + second for second in range(32)]
        assert same_bits(samples, strain_in(path))
    whole = "[1126259446, 1126259478)"
    spans = f"H1:GWOSC-4KHZ_R1_STRAIN {whole}, L1:GWOSC-4KHZ_R1_STRAIN {whole}"
    size = sum(map(len, gateway.bodies))
    assert done.out == f"64 segments ({size} bytes) acknowledged: {spans}\n"
    assert {decode_segment(body).meta["source"] for body in gateway.bodies} == {H1_FILE.name, L1_FILE.name}  # type: ignore[index]


@with_open_data
def test_a_window_of_a_file_is_given_in_gps_seconds(gateway: StandInGateway, gwclient: Any) -> None:
    done = gwclient(
        "push", "--file", str(L1_FILE), "--start", "1126259450", "--stop", "1126259452.5", "--segment-seconds", "2"
    )
    assert done.code == 0
    t0s, samples = received(gateway, "L1")
    assert t0s == [1126259450, 1126259452]
    assert same_bits(samples, strain_in(L1_FILE)[4 * 4096 : 13 * 2048])


def test_samples_that_are_missing_are_left_out_and_told(gateway: StandInGateway, gwclient: Any, tmp_path: Path) -> None:
    strain = np.ones(16)
    strain[4:6] = np.nan
    with h5py.File(tmp_path / "gappy.hdf5", "w") as file:
        file["strain/Strain"] = strain
        file["strain/Strain"].attrs.update(Xstart=100, Xspacing=0.25)
        file["meta/Detector"] = "L1"
        file["strain/GWOSCmeta"] = "TEST_STRAIN"
    done = gwclient("push", "--file", str(tmp_path / "gappy.hdf5"), "--segment-seconds", "10")
    assert done.code == 0
    assert [(segment.t0, len(segment.h)) for segment in gateway.segments] == [(100, 4), (101.5, 10)]
    assert "left out, no finite samples: L1:TEST_STRAIN [101, 101.5)" in done.out


@with_open_data
def test_quality_bits_are_chosen_by_name_and_what_fails_them_is_left_out_and_told(
    gateway: StandInGateway, gwclient: Any, tmp_path: Path
) -> None:
    path = tmp_path / L1_FILE.name
    shutil.copy(L1_FILE, path)
    with h5py.File(path, "a") as file:
        file["quality/simple/DQmask"][10:12] = 127 & ~(1 << 1)  # CBC_CAT1
        file["quality/simple/DQmask"][20] = 0
        file["strain/Strain"][20 * 4096 : 21 * 4096] = np.nan
    done = gwclient("push", "--file", str(path), "--dq", "DATA,CBC_CAT1", "--segment-seconds", "4", "--json")
    assert done.code == 0
    channel = "L1:GWOSC-4KHZ_R1_STRAIN"
    assert [
        (each["start"] - 1126259446, each["stop"] - 1126259446, each["reason"]) for each in done.json["left_out"]
    ] == [
        (10, 12, "CBC_CAT1 not set"),
        (20, 21, "DATA and CBC_CAT1 not set"),
    ]
    assert done.json["spans"] == {channel: [[1126259446 + a, 1126259446 + b] for a, b in ((0, 10), (12, 20), (21, 32))]}
    strain = strain_in(L1_FILE)
    _, samples = received(gateway, "L1")
    kept = [strain[a * 4096 : b * 4096] for a, b in ((0, 10), (12, 20), (21, 32))]
    assert same_bits(samples, np.concatenate(kept))
    assert [len(segment.h) // 4096 for segment in gateway.segments] == [4, 4, 2, 4, 4, 4, 4, 3]
    unknown = gwclient("push", "--file", str(path), "--dq", "CBC_CAT9")
    assert unknown.code == 2
    assert "has no data-quality bit CBC_CAT9, only DATA, CBC_CAT1" in unknown.err


# ---- standard input


def test_segments_on_standard_input_are_sent_as_they_come(gateway: StandInGateway) -> None:
    lines = [
        b'{"h":[1e-21,2e-21],"t":[100.0,0.25],"meta":{"channel":"L1:X","run":7}}',
        b'{"h":[3e-21],"t":[100.5,0.25]}',
    ]
    with subprocess.Popen(
        [sys.executable, "-m", "gwclient", "push", "--stdin"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        for number, line in enumerate(lines, 1):
            process.stdin.write(line + b"\n")
            process.stdin.flush()
            deadline = time.monotonic() + 60
            while len(gateway.bodies) < number:  # though more is to come
                assert time.monotonic() < deadline
                time.sleep(0.01)
        process.stdin.close()
        assert process.stdout.read().startswith(b"2 segments (")
    assert process.returncode == 0
    assert gateway.bodies == lines


def push_lines(lines: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gwclient", "push", "--stdin"], input=lines, capture_output=True, text=True, check=False
    )


def test_a_line_that_is_no_segment_is_named_and_the_others_are_stored(gateway: StandInGateway) -> None:
    good, other = '{"h":[1e-21],"t":[100.0,0.25]}', '{"h":[2e-21],"t":[101.0,0.25]}'
    done = push_lines(f'{good}\n\n{{"h":[null],"t":[100.0,0.25]}}\nhello\n{other}')
    assert done.returncode == 1
    assert "not read: line 3 of standard input is not a segment: h[0]: expected" in done.stdout
    assert "not read: line 4 of standard input is not a segment: the body is not JSON" in done.stdout
    assert done.stderr == "gwclient: not everything could be read; 2 of 2 segments acknowledged\n"
    assert [body.decode() for body in gateway.bodies] == [good, other]


def test_where_no_line_is_a_segment_the_data_cannot_be_used(gateway: StandInGateway) -> None:
    done = push_lines("hello\nworld\n")
    assert done.returncode == 2
    assert done.stderr.startswith("gwclient: line 1 of standard input is not a segment")
    assert "and 1 more" in done.stderr
    assert not gateway.bodies


@pytest.mark.parametrize(
    ("redirection", "reason"),
    [("<&-", "it is closed"), ("0>/dev/null", "Bad file descriptor"), ("</proc/self/mem", "")],
)
def test_standard_input_that_cannot_be_read_is_one_line_and_exit_code_2(
    gateway: StandInGateway, redirection: str, reason: str
) -> None:
    command = f"{sys.executable} -m gwclient push --stdin {redirection}"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith(f"gwclient: standard input cannot be read: {reason}")
    assert not gateway.bodies


def test_the_same_line_twice_is_stored_once(gateway: StandInGateway) -> None:
    line = '{"h":[1e-21],"t":[100.0,0.25]}\n'
    done = push_lines(line * 20)
    assert (done.returncode, len(gateway.bodies)) == (0, 1), done.stderr


def test_ctrl_c_ends_the_waiting_for_standard_input(gateway: StandInGateway) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "gwclient", "push", "--stdin"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin
        process.stdin.write(b'{"h":[1e-21],"t":[100.0,0.25]}\n')
        process.stdin.flush()
        gateway_has_it = time.monotonic() + 60
        while not gateway.bodies:
            assert time.monotonic() < gateway_has_it
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert out.startswith(b"1 segment (")


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


def unused_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
    return port


@pytest.mark.parametrize("command", [SIMULATE, ("stats",), ("clean",)])
def test_a_gateway_that_does_not_answer_is_exit_code_3(gwclient: Any, command: tuple[str, ...]) -> None:
    done = gwclient(*command, "--srv", f"127.0.0.1:{unused_port()}", "--tries", "2")
    assert done.code == 3
    assert done.err.splitlines()[-1].startswith("gwclient: no gateway at http://127.0.0.1:")


def test_ctrl_c_ends_the_push_with_a_true_account(gateway: StandInGateway) -> None:
    gateway.faults.extend([Slow(0.1)] * 1000)
    process = subprocess.Popen(
        [sys.executable, "-m", "gwclient", *SIMULATE, "--seconds", "512", "--json"],
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


# ---- questions and orders


def test_the_gateways_verbs_answer_in_words(gateway: StandInGateway, gwclient: Any, tmp_path: Path) -> None:
    assert gwclient("train", "--user", "ada", "--token", "t").out == "WAITING: the batch is not complete yet\n"
    assert gwclient("list").out == ""
    gwclient(*SIMULATE)
    size = sum(map(len, gateway.bodies))
    assert gwclient("stats").out == f"16 segments, {size} bytes\n"
    assert gwclient("desc").out == "OPERATIONAL\n"
    assert gwclient("list").out.count("\n") == 16
    frozen = gwclient("train", "--user", "ada", "--token", "t")
    assert frozen.out == f"FROZEN: 16 segments, {size} bytes, held by ada\n"
    assert gwclient("desc").out == "FROZEN\n"
    batch_file = tmp_path / "batch"
    other = gwclient("train", "--user", "bob", "--token", "t", "--batch-file", str(batch_file))
    assert (other.code, other.out) == (6, f"FROZEN: 16 segments, {size} bytes, held by ada\n")
    assert other.err == "gwclient: ada holds the batch, not bob\n"
    assert not batch_file.exists()
    assert gwclient("clean", "--message", "done").out == "CLEANED: done\n"


def test_the_gateways_verbs_answer_in_json(gateway: StandInGateway, gwclient: Any) -> None:
    assert gwclient("stats", "--json").json == {"n_itm": 0, "buff_size": 0}
    assert gwclient("list", "--json").json == {"nmlist": []}
    assert gwclient("desc", "--json").json == {"resp": "OPERATIONAL"}
    assert gwclient("train", "--user", "ada", "--token", "t", "--json").json == {"resp": "WAITING"}
    assert gwclient("clean", "--json").json == {"resp": "CLEANED", "body": "cleaned by gwclient"}
    assert gateway.requests


# ---- doctor


def verdicts(done: Outcome) -> dict[str, str]:
    return {finding["check"]: finding["verdict"] for finding in done.json}


def test_a_doctor_names_what_a_simple_gateway_lacks_and_what_is_wrong(gateway: StandInGateway, gwclient: Any) -> None:
    done = gwclient("doctor", "--json", "--tries", "1")
    assert done.code == 1
    assert verdicts(done) == {
        "client": "ok", "frames": "ok", "cursors": "ok", "address": "note", "authorization": "ok",
        "readiness": "wrong", "streaming": "ok",
    }  # fmt: skip
    assert "OPTIONS /streamdata" in gateway.requests
    assert "wrong readiness: GET /readyz answered 404" in gwclient("doctor", "--tries", "1").out


def test_a_doctor_says_that_nobody_answers(gwclient: Any) -> None:
    done = gwclient("doctor", "--srv", f"127.0.0.1:{unused_port()}", "--tries", "1")
    assert done.code == 3
    assert "wrong address: no gateway at http://127.0.0.1:" in done.out
    assert "name another with --srv or SRV, or start it" in done.out


def test_a_dead_address_is_given_up_soon_and_what_is_done_meanwhile_is_shown(gwclient: Any) -> None:
    address = f"127.0.0.1:{unused_port()}"
    for command in ("doctor", "stats", "segments"):
        done = gwclient(command, "--srv", address)
        assert done.code == 3
        tries = [line for line in done.err.splitlines() if "; trying again in 0." in line]
        assert len(tries) == 2
        assert tries[0].startswith(f"no gateway at http://{address}: Connection refused")
        assert "(after 3 tries)" in done.out + done.err
    assert "(after 1 try)" in gwclient("stats", "--srv", address, "--tries", "1").err


def test_a_doctor_is_not_deceived_by_another_web_server(gwclient: Any, tmp_path: Path) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        done = gwclient("doctor", "--srv", f"127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()
    assert done.code == 3
    assert "wrong address: no service of the datastore answers at http://127.0.0.1:" in done.out


def test_a_doctor_finds_a_clock_that_is_wrong_and_a_missing_key(gwclient: Any, tmp_path: Path) -> None:
    asked: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers.get("Authorization"))
            body = b'{"info":{"version":"9.9"}}' if self.path == "/openapi.json" else b"{}"
            self.send_response_only(200 if self.path == "/openapi.json" else 401)
            self.send_header("Date", "Sat, 21 Nov 2026 00:00:00 GMT")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_OPTIONS = do_GET  # noqa: N815 (the name is http.server's)

        def log_message(self, *_: Any) -> None:
            pass

    (tmp_path / "key").write_text("gfk_secret\n")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        srv = ("--srv", f"127.0.0.1:{server.server_port}", "--tries", "1")
        told = gwclient("doctor", *srv, "--json")
        keyed = gwclient("doctor", *srv, "--key-file", str(tmp_path / "key"))
        server.shutdown()
        thread.join()
    assert {name: verdicts(told)[name] for name in ("version", "clock", "authorization")} == {
        "version": "note", "clock": "wrong", "authorization": "wrong",
    }  # fmt: skip
    assert "give a key that is valid with --key-file" in keyed.out
    assert set(asked) == {None, "Bearer gfk_secret"}
    assert "gfk_secret" not in keyed.out + keyed.err


# ---- the output


@pytest.mark.parametrize(
    "command",
    [("stats",), ("list", "--json"), ("watch", "--count", "1"), ("get", "gwb1.json", "--help"), ("--version",)],
)
def test_output_that_cannot_be_written_is_one_line_and_exit_code_5(
    gateway: StandInGateway, gwclient: Any, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    gateway.bodies.append(b"{}")
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        done = gwclient(*command)
    assert (done.code, done.err) == (5, "gwclient: the output cannot be written: No space left on device\n")


def test_output_whose_reader_is_gone_is_exit_code_5_without_a_message(gateway: StandInGateway) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "gwclient", "stats", "--srv", gateway.url]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (5, "")


def test_an_error_that_cannot_be_written_keeps_its_exit_code(
    gateway: StandInGateway, gwclient: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        assert gwclient("desc", "--nonsense").code == 2
    assert not gateway.requests


# ---- errors and shells


@pytest.mark.parametrize("command", [("train", "--user", "\udcff", "--token", "t"), ("get", "--channel", "\udcff")])
def test_an_argument_that_is_no_utf8_is_one_line_and_exit_code_2(
    gateway: StandInGateway, gwclient: Any, command: tuple[str, ...]
) -> None:
    done = gwclient(*command)
    assert (done.code, done.err) == (2, "gwclient: '\\udcff' is not UTF-8 text\n")
    assert not gateway.requests


def test_with_debug_the_line_comes_after_its_traceback(gwclient: Any) -> None:
    away = ("stats", "--srv", f"127.0.0.1:{unused_port()}", "--tries", "1")
    assert gwclient(*away).err.count("\n") == 1
    debugged = gwclient(*away, "--debug").err
    assert debugged.startswith("Traceback")
    assert debugged.splitlines()[-1].startswith("gwclient: no gateway at")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete_commands(gwclient: Any, shell: str) -> None:
    assert f"_GWCLIENT_COMPLETE={shell}_complete" in gwclient("completion", shell).out
    words = {"COMP_WORDS": "gwclient pu", "COMP_CWORD": "1", "_GWCLIENT_COMPLETE": "bash_complete"}
    program = "from gwclient.cli import main; main()"
    if shell == "bash":
        done = subprocess.run(
            [sys.executable, "-c", program], env=os.environ | words, capture_output=True, text=True, check=False
        )
        assert done.stdout == "plain,push\n"


# ---- usage


def test_an_option_before_the_command_is_told_where_it_belongs(gwclient: Any) -> None:
    answer = gwclient("--srv", "http://127.0.0.1:1", "stats")
    hint = "Options come after the command: gwclient stats --srv URL."
    assert (answer.code, answer.err) == (2, f"gwclient: No such option '--srv'. {hint}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("push",),
        ("push", "--event", "GW150914", "--start", "20"),
        ("push", "--event", "GW150914", "--detector", "L1", "--start", "4", "--stop", "-4"),
        ("push", "--event", "GW150914", "--detector", "Livingston", "--start", "-4", "--stop", "4"),
        ("push", "--event", "GW150914", "--detector", "L1,L1", "--start", "-4", "--stop", "4"),
        ("push", "--event", "GW150914", "--detector", "L1", "--start", "nan", "--stop", "4"),
        ("push", "--event", "GW150914", "--file", __file__),
        ("push", "--file", "nowhere.hdf5"),
        ("push", "--file", __file__),
        ("push", "--file", __file__, "--detector", "L1"),
        ("push", "--gps", "1126259446", "1126259478"),
        ("push", "--gps", "1126259478", "1126259446", "--detector", "L1"),
        ("push", "--stdin", "--dq", "DATA"),
        ("push", "--stdin", "--file", __file__),
        ("push", "--event", "GW150914", "--channel", "L1:X"),
        ("push", "--file", __file__, "--dq", "no bits"),
        ("push", "--folder", "nowhere"),
        ("push", "--file", __file__, "--key-file", "nowhere"),
        ("replay", "nowhere.hdf5"),
        ("replay", __file__, "--rate", "0"),
        ("replay", __file__, "--spool-size", "much"),
        ("get",),
        ("get", "gwb1.json", "--batch", "b1"),
        ("get", "--channel", "L1:X", "--start", "5", "--stop", "4"),
        ("segments", "--start", "5", "--stop", "5"),
        ("stats", "--key-file", "/bin/sh"),
        ("clean", "--batch-file", "/bin/sh"),
        ("clean", "--batch-file", "nowhere"),
        ("watch", "--full", "much"),
        ("watch", "--full", "9" * 400),
        ("train", "--user", "ada", "--token", "t", "--poll", "0"),
        ("simulate", "--seconds", "0"),
        ("simulate", "--seconds", "1e9"),
        ("simulate", "--rate", "1"),
        ("simulate", "--seed", "-1"),
        ("simulate", "--detectors", "X9"),
        ("simulate", "--concurrency", "0"),
        ("simulate", "--segment-seconds", "-1"),
        ("simulate", "--tries", "0"),
        ("simulate", "--out", __file__),
        ("stats", "--srv", "ftp://gateway"),
        ("stats", "--srv", "http://a..b:80"),
        ("stats", "--srv", "h" * 300),
        ("stats", "--srv", "http://\udcff:1"),
        ("train", "--user", "ada"),
        ("dance",),
    ],
    ids=" ".join,
)
def test_an_unreasonable_command_is_exit_code_2_with_one_line_and_sends_nothing(
    gateway: StandInGateway, gwclient: Any, arguments: tuple[str, ...]
) -> None:
    done = gwclient(*arguments)
    assert done.code == 2
    assert done.err.startswith("gwclient: ")
    assert done.err.count("\n") == 1
    assert not done.out
    assert not gateway.requests


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("--gps", "1126259478", "1126259446.5", "--detector", "L1"),
            "--gps 1126259478 1126259446.5: the start is not before the stop",
        ),
        (("--event", "GW150914", "--start", "20"), "--start 20 is not before the stop, which is 15 without --stop"),
        (("--event", "GW150914", "--stop", "-20"), "--stop -20 is not after the start, which is -16 without --start"),
        (
            ("--folder", ".", "--start", "1126259478.25", "--stop", "1126259446"),
            "--start 1126259478.25 is not before --stop 1126259446",
        ),
    ],
)
def test_a_window_that_ends_before_it_starts_is_named_as_it_was_written(
    gwclient: Any, arguments: tuple[str, ...], words: str
) -> None:
    assert gwclient("push", *arguments).err == f"gwclient: {words}\n"


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("INF", "4", "INF 4 is not before SUP 4"),
        ("INF", "soon", "Invalid value for 'INF': 'soon' is not a number"),
        (
            "DTCID",
            "Livingston",
            "Invalid value for 'DTCID': 'Livingston' is not a detector; detectors are named like H1, L1, V1",
        ),
    ],
)
def test_a_wrong_window_in_the_environment_names_the_setting(
    gwclient: Any, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, words: str
) -> None:
    for name, given in {"GWID": "GW150914", "DTCID": "L1", "INF": "-4", "SUP": "4", setting: value}.items():
        monkeypatch.setenv(name, given)
    done = gwclient()
    assert (done.code, done.err) == (2, f"gwclient: {words}\n")


def test_a_span_that_is_reversed_is_refused_with_the_numbers_as_they_are(gwclient: Any) -> None:
    for command in ("get", "segments"):
        done = gwclient(command, "--start", "1126259446.5", "--stop", "1126259446")
        assert done.err == "gwclient: --start 1126259446.5 is not before --stop 1126259446.0\n"


def test_half_a_window_in_the_environment_names_the_other_half(
    gateway: StandInGateway, gwclient: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GWID", "GW150914")
    monkeypatch.setenv("INF", "-4")
    done = gwclient()
    assert done.code == 2
    assert done.err == "gwclient: the environment names a window, but these are not set: DTCID, SUP\n"
    assert not gateway.requests


def test_without_arguments_and_window_the_help_is_shown(gateway: StandInGateway, gwclient: Any) -> None:
    done = gwclient()
    assert done.code == 0
    assert "Usage: gwclient" in done.out
    assert not gateway.requests


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_every_command_explains_itself_with_an_example_and_the_exit_codes(gwclient: Any, command: str) -> None:
    done = gwclient(command, "--help")
    assert done.code == 0
    assert f"gwclient {command}" in done.out.partition("Example")[2]
    assert "130  interrupted" in done.out


def test_the_version_is_told(gwclient: Any) -> None:
    assert gwclient("--version").out.startswith("gwclient, version ")


def test_gwpy_is_not_imported_where_it_is_not_needed() -> None:
    probe = "import sys, gwclient.cli; sys.exit('gwpy' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
