"""`gwclient push` of open data, files, folders and standard input."""

import errno
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from gwwire.gps import gps_of_unix
from gwwire.segment import decode_segment
from tests.support.command import (
    H1_FILE,
    L1_FILE,
    OPEN_DATA,
    SIMULATE,
    in_a_process,
    received,
    same_bits,
    strain_in,
    with_open_data,
)
from tests.support.gateway import StandInGateway
from tests.support.gwosc_server import GW150914_GPS, GwoscServer

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
        out, err = process.communicate(timeout=60)
    assert process.returncode in {0, 130}, err
    for detector in ("H1", "L1"):
        t0s, samples = received(gateway, detector)
        assert np.diff(t0s).tolist() == [1.0] * (len(t0s) - 1)
        assert len(samples) == 1024 * len(t0s)
        assert now - 60 < t0s[1] < now
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


def test_a_folder_that_cannot_be_read_is_named_and_the_others_are_sent(
    gateway: StandInGateway, gwclient: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top, locked = tmp_path / "batch", tmp_path / "batch" / "locked"
    assert gwclient(*SIMULATE, "--out", str(top)).code == 0
    locked.mkdir()
    scandir, refused = os.scandir, {str(locked)}

    def guarded(path: Any) -> Any:  # root may read every folder
        if str(path) in refused:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    done = gwclient("push", str(top))
    assert (done.code, len(gateway.bodies)) == (1, 16)
    assert f"not read: {locked} cannot be read: Permission denied\n" in done.out
    refused.add(str(top))
    done = gwclient("push", str(top))
    assert (done.code, done.err) == (2, f"gwclient: {top} cannot be read: Permission denied\n")


@pytest.mark.parametrize(
    ("name", "channel"), [("a.npy", ()), ("a.npy", ("--channel", "L1:A")), ("a.csv", ("--channel", "L1:A"))]
)
def test_a_replay_of_samples_without_times_names_the_command_that_sends_them(
    gateway: StandInGateway, gwclient: Any, tmp_path: Path, name: str, channel: tuple[str, ...]
) -> None:
    path = tmp_path / name
    if name == "a.npy":
        np.save(path, np.arange(20.0))
    else:
        np.savetxt(path, np.arange(20.0))
    done = gwclient("replay", str(path), "--rate", "20", *channel)
    hint = "gwclient push sends it with --rate HZ and --t0 GPS"
    assert (done.code, done.err) == (2, f"gwclient: {path} has no times; {hint}\n")
    assert not gateway.bodies


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
            ("a.npy", "--rate", "16", "--t0", "3", "--channel", "L1:" + "M" * 300),
            "the channel 'L1:M{37}'… has 303 characters; the limit is 255$",
        ),
        (("a.npy", "--rate", "16 Hz"), "Invalid value for '--rate': '16 Hz' is not a number"),
        (("batch", "--concurrency", "1e1"), "Invalid value for '--concurrency': '1e1' is not a whole number"),
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
    assert done.out == f"64 segments (6.1 MB) acknowledged: {spans}\n"
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


def test_samples_that_are_missing_are_left_out_and_reported(
    gateway: StandInGateway, gwclient: Any, tmp_path: Path
) -> None:
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
def test_quality_bits_are_chosen_by_name_and_what_fails_them_is_left_out_and_reported(
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


@pytest.mark.parametrize("source", ["/dev/zero", "/dev/full"])
def test_a_line_without_end_ends_the_push_and_what_was_before_it_is_stored(
    gateway: StandInGateway, source: str
) -> None:
    line = '{"h":[1e-21],"t":[100.0,0.25]}'
    script = f"(echo '{line}'; exec cat {source}) | exec {sys.executable} -m gwclient push --stdin"
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "standard input cannot be read: a line does not end within 256 MB; 1 of 1 segment " in done.stderr
    assert [body.decode() for body in gateway.bodies] == [line]


@contextmanager
def pushing_output_of(script: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `gwclient push --stdin` on the output of a shell script, and kill both at the end."""
    with (
        subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as writing,
        subprocess.Popen(
            [sys.executable, "-m", "gwclient", "push", "--stdin"],
            stdin=writing.stdout, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process,
    ):  # fmt: skip
        try:
            yield process
        finally:
            process.kill()
            writing.kill()


def wait_for_a_segment(gateway: StandInGateway) -> None:
    deadline = time.monotonic() + 60
    while not gateway.bodies:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_signal_ends_the_reading_of_lines_without_a_segment(gateway: StandInGateway) -> None:
    with pushing_output_of("""echo '{"h":[1e-21],"t":[100.0,0.25]}'; exec yes""") as process:
        wait_for_a_segment(gateway)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert out.startswith(b"1 segment (")


@pytest.mark.parametrize("cause", ["signal", "freeze"])
def test_a_push_that_ends_reports_though_segments_come_without_end(gateway: StandInGateway, cause: str) -> None:
    gateway.knows_keys = False
    gateway.freeze_at = 6 if cause == "freeze" else None
    with pushing_output_of("""exec yes '{"h":[1e-21],"t":[100.0,0.25]}'""") as process:
        wait_for_a_segment(gateway)
        if cause == "signal":
            process.send_signal(signal.SIGTERM)
        out, error = process.communicate(timeout=60)
    code, reason = (130, b"interrupted; ") if cause == "signal" else (1, b"the datastore is frozen; ")
    assert process.returncode == code, error
    assert b" acknowledged" in out
    assert b"gwclient: " + reason in error


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
        wait_for_a_segment(gateway)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    assert out.startswith(b"1 segment (")
