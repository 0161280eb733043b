"""A disk that is really full: small file systems as the folders of a real buffer."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from urllib3.exceptions import HTTPError

from scripts.trio import Trio
from tests.support.forked import run_forked
from tests.support.segments import JSON, check_counts, numbers_on, segment_body, segment_files
from tools.clients import Connection

SAMPLES = 2000
ALICE = b'{"user":"alice","token":"secret"}'
MakeSmall = Callable[..., None]


def fill(folder: Path, *, leave: int = 0, name: str = "ballast") -> Path:
    """Write a file until the folder's file system is full but for `leave` bytes."""
    ballast = folder / name
    with ballast.open("wb", buffering=0) as file:
        while os.statvfs(folder).f_bavail and file.write(bytes(4096)) == 4096:
            pass
    os.truncate(ballast, max(0, ballast.stat().st_size - leave))
    return ballast


def use_up_inodes(folder: Path) -> list[Path]:
    """Create empty files until the folder's file system has no inode left."""
    ballast: list[Path] = []
    while os.statvfs(folder).f_favail:
        ballast.append(folder / f"ballast-{len(ballast)}")
        ballast[-1].touch()
    return ballast


def wait_for(trio: Trio, path: str) -> None:
    """Wait until the buffer answers; its own limit of time is pytest's."""
    while True:
        trio.check()
        try:
            Connection(trio.url).get(path)
        except HTTPError:
            time.sleep(0.02)
        else:
            return


def push(connection: Connection, number: int) -> int:
    status, _ = connection.post("/sendF", segment_body(number, samples=SAMPLES))
    return status


def readiness(connection: Connection) -> int:
    return connection.status("/readyz")


def push_until_refused(connection: Connection, first: int) -> list[int]:
    """Push until the disk is full; return the acknowledged numbers."""
    acknowledged: list[int] = []
    for number in range(first, first + 10_000):
        status, problem = connection.post("/sendF", segment_body(number, samples=SAMPLES))
        if status != 201:
            assert (status, problem["code"]) == (507, "volume-full")
            return acknowledged
        acknowledged.append(number)
    raise AssertionError("the disk never was full")


@pytest.fixture
def small_volume(make_small: MakeSmall, start_trio: Callable[..., Trio], tmp_path: Path) -> Trio:
    """Start a buffer whose volume is a file system of 4 MiB."""
    home = tmp_path / "home"
    make_small(home / "datavar")
    return start_trio(services=1, home=home)


@pytest.mark.parametrize("place", ["datavar", "appdata/adm", "appdata/log"])
def test_a_full_disk_costs_only_the_segments_that_do_not_fit(
    make_small: MakeSmall, start_trio: Callable[..., Trio], tmp_path: Path, place: str
) -> None:
    home = tmp_path / "home"
    make_small(home / place)
    trio = start_trio(services=1, home=home)
    connection = Connection(trio.url)
    acknowledged = [0, 1, 2]
    assert [push(connection, number) for number in acknowledged] == [201, 201, 201]

    ballast = fill(home / place, leave=200_000 if place == "datavar" else 0)
    acknowledged += push_until_refused(connection, 3)
    for _ in range(3):
        assert push(connection, 20_000) == 507
        assert readiness(connection) == 507
    assert connection.get("/dstat")["dstatus"] == "OPERATIONAL"
    assert numbers_on(home / "datavar") == acknowledged
    check_counts(home, connection.get("/stat"))
    assert list((home / "datavar" / ".incoming").iterdir()) == []

    ballast.unlink()
    assert readiness(connection) == 200
    assert push(connection, 30_000) == 201
    assert numbers_on(home / "datavar") == [*acknowledged, 30_000]
    check_counts(home, connection.get("/stat"))
    assert connection.post("/upddsc", ALICE)[0] == 201
    assert connection.post("/cleanall")[0] == 201
    assert "Traceback" not in (home / "services.log").read_text()


def test_a_full_volume_is_reported_by_every_tier_and_logged_once_a_minute(
    make_small: MakeSmall, start_trio: Callable[..., Trio], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    make_small(home / "datavar")
    trio = start_trio(home=home)
    buffer, logic, gateway = (service.url for service in trio.services)
    assert httpx2.get(f"{gateway}/readyz").json() == {"status": "ready"}

    ballast = fill(home / "datavar")
    lines = b"\n".join(segment_body(number, samples=SAMPLES) for number in range(50))
    for _ in range(2):
        answer = httpx2.post(f"{gateway}/streamdata", content=lines, headers={"Content-Type": "application/x-ndjson"})
        assert {json.loads(line)["code"] for line in answer.text.splitlines()} == {"volume-full"}
    answer = httpx2.get(f"{buffer}/readyz")
    assert (answer.status_code, answer.json()["code"]) == (507, "volume-full")
    why = answer.json()["detail"]
    assert why.startswith("No space left on device")
    time.sleep(0.5)  # dslogic caches the overview for so long
    for url in (logic, gateway):
        answer = httpx2.get(f"{url}/readyz")
        assert (answer.status_code, answer.json()) == (200, {"status": "cannot store", "cannot_store": why})
    assert httpx2.get(f"{gateway}/overview").json()["cannot_store"] == why
    assert "glitchflow_ready 0.0" in httpx2.get(f"{buffer}/metrics").text
    doctor = subprocess.run(
        [sys.executable, "-m", "gwclient", "doctor", "--srv", gateway], check=False, capture_output=True, text=True
    )
    assert f"\nwrong readiness: the buffer cannot store segments: {why}\n" in doctor.stdout
    assert doctor.returncode == 1
    logged = [json.loads(line) for line in (home / "services.log").read_text().splitlines()]
    (line,) = (line for line in logged if line.get("event") == "cannot-store")
    assert (line["service"], line["level"], line["code"]) == ("databuffer", "ERROR", "volume-full")
    assert line["message"].startswith("segments cannot be stored: No space left on device")

    ballast.unlink()
    assert httpx2.get(f"{buffer}/readyz").status_code == 200
    time.sleep(0.5)  # dslogic caches the overview for so long
    assert httpx2.get(f"{gateway}/readyz").json() == {"status": "ready"}


@pytest.mark.parametrize("place", ["datavar", "appdata/adm", "."])
def test_a_file_system_without_inodes_makes_the_buffer_not_ready(
    make_small: MakeSmall, start_trio: Callable[..., Trio], tmp_path: Path, place: str
) -> None:
    home = tmp_path / "home"
    make_small(home / place, "size=16m,nr_inodes=60")
    trio = start_trio(services=1, home=home)
    connection = Connection(trio.url)
    ballast = use_up_inodes(home / place)
    acknowledged = []
    for number in range(30):
        is_ready = readiness(connection) == 200
        assert (push(connection, number) == 201) == is_ready
        acknowledged += [number] * is_ready
    overview = connection.get("/overview")
    assert not overview["ready"]
    assert " inodes are free" in overview["cannot_store"]
    if place != "appdata/adm":
        assert (overview["free_inodes"], overview["total_inodes"]) == (pytest.approx(0, abs=9), 60)
        assert overview["free"] > 8_000_000
    for path in ballast:
        path.unlink()
    assert readiness(connection) == 200
    assert connection.get("/overview")["cannot_store"] is None
    assert push(connection, 30_000) == 201
    assert numbers_on(home / "datavar") == [*acknowledged, 30_000]


def test_the_buffer_is_not_ready_while_the_volume_has_no_space_for_a_segment_like_the_last(small_volume: Trio) -> None:
    trio, home = small_volume, small_volume.home
    connection = Connection(trio.url)
    ballast = fill(home / "datavar", leave=100_000)
    large = segment_body(1, samples=30_000)
    assert len(large) > 150_000
    for _ in range(2):
        assert connection.post("/sendF", large)[0] == 507
        assert readiness(connection) == 507
    assert push(connection, 2) == 201
    assert readiness(connection) == 200
    ballast.unlink()
    assert connection.post("/sendF", large)[0] == 201


@pytest.mark.parametrize("options", ["size=4m", "size=16m,nr_inodes=200"])
def test_a_full_volume_is_frozen_thawed_and_archived_with_the_space_reserved_for_that(
    make_small: MakeSmall, start_trio: Callable[..., Trio], tmp_path: Path, options: str
) -> None:
    home = tmp_path / "home"
    make_small(home / "datavar", options)
    trio = start_trio(services=1, home=home)
    connection = Connection(trio.url)
    acknowledged = list(range(20))
    assert {push(connection, number) for number in acknowledged} == {201}
    ballast = use_up_inodes(home / "datavar") if "inodes" in options else [fill(home / "datavar")]
    assert push(connection, 20_000) == 507
    for path in ("/upddsc", "/thaw", "/upddsc"):
        assert connection.post(path, ALICE)[0] == 201
        assert push(connection, 20_000) in {409, 507}
    frozen = connection.get("/overview")
    assert connection.post("/cleanall", b"{}")[0] == 201
    [archived, _] = connection.get("/batches")["batches"]
    assert (archived["id"], archived["digest"]) == (frozen["batch"], frozen["digest"])
    assert sorted(numbers_on(home / "datavar")) == acknowledged
    for each in ballast:
        each.unlink()
    assert push(connection, 30_000) == 201
    reserved = [path.stat().st_size for path in (home / "datavar" / ".reserve").iterdir()]
    assert sum(reserved) == 512 * 1024
    assert "Traceback" not in (home / "services.log").read_text()


@pytest.mark.parametrize("options", ["size=4m", "size=16m,nr_inodes=200"])
def test_a_full_volume_gets_space_by_dropping_what_a_tier_has(
    make_small: MakeSmall, start_trio: Callable[..., Trio], tmp_path: Path, options: str
) -> None:
    home, packs = tmp_path / "home", tmp_path / "packs"
    packs.mkdir()
    make_small(home / "datavar", options)
    trio = start_trio({"TIERS": f"object=file://{packs}"}, services=1, home=home)
    connection = Connection(trio.url)
    assert {push(connection, number) for number in range(60)} == {201}
    order = {"tiering": {"archive_to": ["object"]}}
    assert connection.post("/cleanall", json.dumps(order).encode())[0] == 201
    batch = connection.get("/batches")["batches"][0]["id"]
    copied = ["VERIFIED", "VERIFIED"]
    while [each["state"] for each in connection.get(f"/batches/{batch}/replicas")["replicas"]] != copied:
        time.sleep(0.05)
    ballast = use_up_inodes(home / "datavar") if "inodes" in options else [fill(home / "datavar")]
    assert push(connection, 20_000) == 507
    policy = json.dumps(order["tiering"] | {"keep_on_disk": 0}).encode()
    assert httpx2.put(f"{trio.url}/batches/{batch}/tiering", content=policy, headers=JSON).status_code == 200
    while push(connection, 20_000) != 201:
        time.sleep(0.05)
    while len(segment_files(home / "datavar")) > 1:  # the first files removed made the space; the others follow
        time.sleep(0.05)
    assert numbers_on(home / "datavar") == [20_000]
    for each in ballast:
        each.unlink()
    assert "Traceback" not in (home / "services.log").read_text()


def test_a_full_volume_lets_no_batch_be_frozen_by_halves_without_a_reserve(small_volume: Trio) -> None:
    trio, home = small_volume, small_volume.home
    connection = Connection(trio.url)
    assert push(connection, 1) == 201
    shutil.rmtree(home / "datavar" / ".reserve")
    ballast = fill(home / "datavar")
    assert connection.post("/upddsc", ALICE)[0] == 507
    assert connection.post("/cleanall")[0] == 507
    assert connection.get("/dstat")["dstatus"] == "OPERATIONAL"
    assert [path.parent for path in segment_files(home / "datavar")] == [home / "datavar" / "data"]
    ballast.unlink()
    assert push(connection, 2) == 201
    status, frozen = connection.post("/upddsc", ALICE)
    assert (status, frozen["n_itm"]) == (201, 2)


def test_a_buffer_killed_on_a_full_volume_starts_and_is_ready_when_there_is_space(small_volume: Trio) -> None:
    trio, home = small_volume, small_volume.home
    assert push(Connection(trio.url), 1) == 201
    trio.processes["databuffer"].send_signal(signal.SIGKILL)
    trio.processes["databuffer"].wait()
    (home / "datavar" / ".incoming" / "cut-short.json").write_bytes(b'{"h":[1.0,')
    ballast = fill(home / "datavar")

    trio.launch("databuffer")
    wait_for(trio, "/healthz")
    connection = Connection(trio.url)
    assert readiness(connection) == 507
    assert push(connection, 2) == 507
    check_counts(home, connection.get("/stat"))
    assert (home / "datavar" / "quarantine" / "cut-short.json").read_bytes() == b'{"h":[1.0,'
    ballast.unlink()
    assert readiness(connection) == 200
    assert push(connection, 3) == 201
    assert numbers_on(home / "datavar") == [1, 3]


@pytest.mark.parametrize("exhausted", ["bytes", "inodes"])
def test_a_buffer_that_cannot_start_on_a_full_disk_says_that_it_is_full(
    make_small: MakeSmall, start_trio: Callable[..., Trio], tmp_path: Path, exhausted: str
) -> None:
    home = tmp_path / "home"
    adm = home / "appdata" / "adm"
    make_small(adm, "size=16m,nr_inodes=60")
    trio = start_trio(services=1, home=home)
    assert push(Connection(trio.url), 1) == 201
    trio.processes["databuffer"].terminate()
    trio.processes["databuffer"].wait()
    for unused in adm.glob(".StatDesc.json*"):  # a start removes them, and their inodes would be enough for it
        unused.unlink()
    ballast = [fill(adm)] if exhausted == "bytes" else use_up_inodes(adm)

    trio.launch("databuffer")
    assert trio.processes["databuffer"].wait(60) == 1
    last = (home / "services.log").read_text().splitlines()[-1]
    assert last.startswith("databuffer: cannot start: the catalog: ")
    assert last.endswith(f": no space is left in {adm}")

    for path in ballast:
        path.unlink()
    trio.launch("databuffer")
    wait_for(trio, "/healthz")
    assert push(Connection(trio.url), 2) == 201
    assert numbers_on(home / "datavar") == [1, 2]


def test_bundles_on_a_full_volume_give_way_to_segments(
    make_small: MakeSmall, start_trio: Callable[..., Trio], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    make_small(home / "datavar", "size=16m")
    connection = Connection(start_trio(services=1, home=home).url)
    for number in range(6):
        body = segment_body(number, samples=30_000, t0=1e9 + number * 30_000 / 4096)
        assert connection.post("/sendF", body)[0] == 201
    bundle = order_until(connection, lambda bundle: bundle["state"] == "READY")
    files = home / "datavar" / ".bundles" / bundle["id"]
    assert files.is_dir()

    fill(home / "datavar")
    while push(connection, 10) == 507:
        time.sleep(0.01)
    while files.exists():  # the first file removed made the space; the folder follows
        time.sleep(0.01)
    while connection.get(f"/bundles/{bundle['id']}")["state"] != "EXPIRED":
        time.sleep(0.01)
    waiting = order_until(connection, lambda bundle: bundle["reason"])
    pattern = (
        r"the strain files need 1,\d+,\d+ bytes, and [\d,]+ bytes are free on the volume, "
        r"of which 1,677,721 are kept for segments"
    )
    assert re.fullmatch(pattern, waiting["reason"])


def order_until(connection: Connection, is_it: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Order HDF5 files of all segments until the bundle is as wanted."""
    bundle: dict[str, Any] = {}
    while not bundle or not is_it(bundle):
        _, bundle = connection.post("/bundles", b'{"query":{},"format":"hdf5"}')
        time.sleep(0.02)
    return bundle


def test_a_full_volume_with_the_catalog_cancels_bundles_and_starts_with_its_frozen_batch(
    make_small: MakeSmall, start_trio: Callable[..., Trio], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    make_small(home / "datavar")
    (home / "datavar" / "adm").mkdir()
    (home / "appdata").mkdir()
    (home / "appdata" / "adm").symlink_to(home / "datavar" / "adm")
    trio = start_trio(services=1, home=home)
    connection = Connection(trio.url)
    acknowledged = list(range(60))
    assert {push(connection, number) for number in acknowledged} == {201}
    _, bundle = connection.post("/bundles", b'{"query":{}}')
    assert bundle["state"] == "READY"
    fill(home / "datavar")
    cancelled = httpx2.delete(f"{trio.url}/bundles/{bundle['id']}")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "CANCELLED")
    assert not (home / "datavar" / ".bundles" / bundle["id"]).exists()

    assert connection.post("/upddsc", ALICE)[0] == 201
    fill(home / "datavar", leave=40_960, name="ballast-2")
    trio.processes["databuffer"].terminate()
    assert trio.processes["databuffer"].wait(60) == 0
    for unused in (home / "datavar" / "adm").glob(".StatDesc.json*"):  # a start removes them
        unused.unlink()
    fill(home / "datavar", name="ballast-3")
    trio.launch("databuffer")
    wait_for(trio, "/healthz")
    connection = Connection(trio.url)
    assert connection.get("/dstat")["dstatus"] == "FROZEN"
    assert connection.post("/thaw", ALICE)[0] == 201
    assert numbers_on(home / "datavar") == acknowledged


def test_a_put_whose_files_a_full_volume_refused_names_the_command_that_continues_it(
    make_small: MakeSmall, start_trio: Callable[..., Trio], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    make_small(home / "datavar", "size=16m")
    trio = start_trio(home=home)
    source = tmp_path / "source"
    source.write_bytes(os.urandom(2_000_000))
    ballast = fill(home / "datavar", leave=1_000_000)
    environment = os.environ | {"SRV": trio.url}
    refused = run_forked(["gwclient", "put", str(source), "-l", "full"], environment)
    assert refused.returncode == 1
    assert " answered 507: " in refused.stderr
    named = re.search(r"^1 file waits for bytes; `gwclient (resume \S+)` continues$", refused.stderr, re.MULTILINE)
    assert named
    ballast.unlink()
    resumed = run_forked(["gwclient", *named[1].split()], environment)
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert ": COMPLETE, 1 of 1 file, " in resumed.stdout
