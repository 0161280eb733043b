"""Open data by the unmodified gwosc, from a stand-in of gwosc.org that fails in the ways a server can."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from gwclient.sources.gwosc import choose
from gwwire.segment import decode_segment
from scripts.trio import draw_ports
from tests.support.forked import run_forked
from tests.support.gateway import StandInGateway
from tests.support.gwosc_server import Answering, Fault, GwoscServer, Truncating

T0 = 1126259446
#: The part of a whole push that is needed to see that it was complete.
WINDOW = ("push", "--gps", str(T0), str(T0 + 4), "--detector", "L1")


@pytest.fixture
def gateway() -> Iterator[StandInGateway]:
    with StandInGateway() as gateway:
        yield gateway


@pytest.fixture
def open_data(gw150914_files: dict[str, Path]) -> Path:
    return gw150914_files["L1"].parent


def gwclient(gateway: StandInGateway, gwosc: str, *arguments: str, tries: int = 4) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"GWOSC_SERVER_URL": gwosc, "SRV": gateway.url}
    return run_forked(["gwclient", *arguments, "--tries", str(tries)], environment)


def arrived(gateway: StandInGateway, path: Path, seconds: int) -> bool:
    with h5py.File(path) as file:
        expected = file["strain/Strain"][: seconds * 4096]
    samples = [h for segment in gateway.segments for h in segment.h]
    return bool(np.asarray(samples).tobytes() == expected.tobytes())


def test_a_gps_interval_is_fetched_once_and_arrives_bit_for_bit(
    gateway: StandInGateway, open_data: Path, gw150914_files: dict[str, Path]
) -> None:
    with GwoscServer(open_data) as gwosc:
        done = gwclient(gateway, gwosc.url, *WINDOW)
        assert done.returncode == 0, done.stderr
        assert arrived(gateway, gw150914_files["L1"], 4)
        again = gwclient(gateway, gwosc.url, *WINDOW, "--json")
        assert len(gwosc.fetched) == 1
    assert (json.loads(again.stdout)["acknowledged"], json.loads(again.stdout)["before"]) == (0, 4)
    meta = decode_segment(gateway.bodies[0]).meta
    assert isinstance(meta, dict)
    assert meta["source_sha256"] == hashlib.sha256(gw150914_files["L1"].read_bytes()).hexdigest()


def test_what_gwosc_does_not_have_of_a_window_is_reported(gateway: StandInGateway, open_data: Path) -> None:
    with GwoscServer(open_data) as gwosc:
        done = gwclient(gateway, gwosc.url, "push", "--gps", str(T0 - 2), str(T0 + 1), "--detector", "L1")
    assert done.returncode == 0, done.stderr
    assert f"GWOSC has nothing of L1:GWOSC-4KHZ_R1_STRAIN in GPS [{T0 - 2}.0, {T0}.0)" in done.stderr
    assert [segment.t0 for segment in gateway.segments] == [T0]


def test_what_does_not_pass_is_one_line_and_the_next_time_goes_on(
    gateway: StandInGateway, open_data: Path, gw150914_files: dict[str, Path]
) -> None:
    faults: list[Fault] = [Answering(503, target="/api/"), Truncating(500_000), Truncating(100_000)]
    with GwoscServer(open_data, faults) as gwosc:
        failed = gwclient(gateway, gwosc.url, *WINDOW, tries=2)
        assert failed.returncode == 3
        assert failed.stderr.splitlines()[-1].startswith(f"gwclient: {gwosc.url}/files/L-L1_LOSC_4_V2-{T0}-32.hdf5 was")
        assert "Traceback" not in failed.stderr
        assert not gateway.bodies
        done = gwclient(gateway, gwosc.url, *WINDOW)
        assert len(gwosc.ranges) == 2
    assert done.returncode == 0, done.stderr
    assert arrived(gateway, gw150914_files["L1"], 4)


def test_an_unknown_event_and_a_server_that_is_away_are_one_line_each(gateway: StandInGateway, open_data: Path) -> None:
    with GwoscServer(open_data) as gwosc:
        unknown = gwclient(gateway, gwosc.url, "push", "--event", "GW999999")
    assert unknown.returncode == 2
    assert unknown.stderr.splitlines()[-1] == "gwclient: GWOSC has no event 'GW999999'"
    [port] = draw_ports(1)
    away = gwclient(gateway, f"http://127.0.0.1:{port}", *WINDOW)
    assert away.returncode == 3
    reason = "does not answer: Connection refused"
    assert away.stderr.splitlines()[-1] == f"gwclient: GWOSC at http://127.0.0.1:{port} {reason}"


def test_a_file_that_is_broken_at_its_source_is_not_kept(
    gateway: StandInGateway, tmp_path: Path, gw150914_files: dict[str, Path]
) -> None:
    path = tmp_path / gw150914_files["L1"].name
    path.write_bytes(gw150914_files["L1"].read_bytes()[:200_000])
    with GwoscServer(tmp_path) as gwosc:
        broken = gwclient(gateway, gwosc.url, *WINDOW)
        path.write_bytes(gw150914_files["L1"].read_bytes())
        mended = gwclient(gateway, gwosc.url, *WINDOW)
    assert broken.returncode == 2
    assert "is not a strain file" in broken.stderr.splitlines()[-1]
    assert mended.returncode == 0, mended.stderr


def test_a_damaged_file_in_the_cache_is_fetched_again(
    gateway: StandInGateway, open_data: Path, gw150914_files: dict[str, Path]
) -> None:
    with GwoscServer(open_data) as gwosc:
        assert gwclient(gateway, gwosc.url, *WINDOW).returncode == 0
        [cached] = Path(os.environ["XDG_CACHE_HOME"]).rglob("*.hdf5")
        with h5py.File(cached) as file:
            at = file["strain/Strain"].id.get_chunk_info(0).byte_offset + 1000
        damaged = bytearray(cached.read_bytes())
        damaged[at] ^= 1
        cached.write_bytes(damaged)
        gateway.bodies.clear()
        done = gwclient(gateway, gwosc.url, *WINDOW, "--restart")
        assert len(gwosc.fetched) == 2
        assert done.returncode == 0, done.stderr
        assert f"{cached} cannot be read; fetching {gwosc.url}{gwosc.fetched[0]} again" in done.stderr
        assert arrived(gateway, gw150914_files["L1"], 4)
        without = gwclient(gateway, gwosc.url, *WINDOW, "--dq", "NO_SUCH_BIT")
        assert without.returncode == 2
        assert len(gwosc.fetched) == 2


def test_a_page_instead_of_a_file_is_named_with_its_url(gateway: StandInGateway, open_data: Path) -> None:
    with GwoscServer(open_data, [Answering(200, target="/files/", body=b"<html>Please log in</html>")] * 2) as gwosc:
        done = gwclient(gateway, gwosc.url, *WINDOW)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert "it is not an HDF5 file" in last
    assert last.endswith(f"; {gwosc.url}/files/L-L1_LOSC_4_V2-{T0}-32.hdf5 was fetched twice")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"gps": null}', "the GPS time of GW150914 is None"),
        (b'{"gps": NaN}', "the GPS time of GW150914 is nan"),
        (b'{"gps": 1e300}', "the GPS time of GW150914 is 1e+300"),
        (b"[]", "the answer is JSON of another form"),
        (b"{}", "the answer is JSON of another form"),
        (b"<html>", "the answer is not JSON"),
    ],
)
def test_an_archive_that_does_not_answer_as_gwosc_is_named(
    gateway: StandInGateway, tmp_path: Path, body: bytes, reason: str
) -> None:
    with GwoscServer(tmp_path, [Answering(200, body=body)]) as gwosc:
        done = gwclient(gateway, gwosc.url, "push", "--event", "GW150914")
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1] == f"gwclient: GWOSC at {gwosc.url} does not answer as GWOSC: {reason}"


def test_the_stand_in_speaks_to_the_unmodified_gwpy(open_data: Path, gw150914_files: dict[str, Path]) -> None:
    program = (
        "import sys, warnings; warnings.simplefilter('ignore'); from gwpy.timeseries import TimeSeries;"
        f"s = TimeSeries.fetch_open_data('L1', {T0 + 1}, {T0 + 3});"
        "sys.stdout.buffer.write(s.value.tobytes())"
    )
    with GwoscServer(open_data) as gwosc:
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"GWOSC_SERVER_URL": gwosc.url}, capture_output=True, check=True,
        )  # fmt: skip
    with h5py.File(gw150914_files["L1"]) as file:
        assert done.stdout == file["strain/Strain"][4096 : 3 * 4096].tobytes()


@pytest.mark.parametrize(
    ("files", "start", "stop", "chosen"),
    [
        ([(0, 4096), (100, 32)], 110, 120, [(100, 32)]),
        ([(0, 4096), (100, 32)], 90, 120, [(0, 4096)]),
        ([(0, 50), (50, 50), (100, 50)], 40, 110, [(0, 50), (50, 50), (100, 50)]),
        ([(0, 50), (100, 50)], 0, 150, [(0, 50), (100, 50)]),
        ([(0, 50), (10, 20), (100, 50)], 0, 150, [(0, 50), (100, 50)]),
        ([(0, 50)], 60, 70, []),
    ],
)
def test_of_files_that_overlap_no_more_are_chosen_than_needed(
    files: list[tuple[int, int]], start: float, stop: float, chosen: list[tuple[int, int]]
) -> None:
    def url(start: int, duration: int) -> str:
        return f"https://gwosc.org/a/L-L1_LOSC_4_V2-{start}-{duration}.hdf5"

    assert choose([url(*file) for file in files], start, stop) == [url(*file) for file in chosen]
