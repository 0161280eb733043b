"""GWDataFind v1 at the gateway of the real trio: unmodified gwdatafind and gwpy find GW150914 and read it."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gwdatafind
import h5py
import httpx2
import pytest
from click.testing import CliRunner

from gwclient.cli import gwclient as cli
from gwclient.commands.options import Debugging
from gwwire.spans import sample_period
from scripts.trio import Trio
from tests.support.segments import JSON

L1, TYPE = "L1:GWOSC-4KHZ_R1_STRAIN", "L1_GWOSC_4KHZ_R1_STRAIN"
START, STOP = 1126259446, 1126259478
FILE = f"L-{TYPE}-{START}-{STOP - START}.hdf5"
#: A channel with gaps, with a boundary of files, and with parts of seconds.
GAPS, GAPS_TYPE = "V1:TEST-GAPS", "V1_TEST_GAPS"
BOUNDARY = 1000 * 256


#: Of a library of gwdatafind, which looks for credentials.
pytestmark = pytest.mark.filterwarnings("ignore:Support for identity-based X.509:DeprecationWarning")


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio]) -> Trio:
    trio = start_shared_trio()
    spans = [(BOUNDARY - 3.5, BOUNDARY), (BOUNDARY, BOUNDARY + 2), (BOUNDARY + 10, BOUNDARY + 11.5)]
    with httpx2.Client(base_url=trio.url, headers=JSON) as client:
        for start, stop in spans:
            h = [start + i / 4 for i in range(round(4 * (stop - start)))]
            body = json.dumps({"h": h, "t": [start, 0.25], "meta": {"channel": GAPS}})
            assert client.post("/streamdata", content=body).json()["resp"] == "CREATED"
    return trio


@pytest.fixture(scope="module")
def gw150914(trio: Trio, gw150914_files: dict[str, Path]) -> dict[str, Path]:
    """GW150914's files, which are stored."""
    files = [word for path in gw150914_files.values() for word in ("--file", str(path))]
    environment = {"XDG_STATE_HOME": str(trio.home / "state")}
    pushed = CliRunner().invoke(cli, ["push", *files, "--srv", trio.url], obj=Debugging(), env=environment)
    assert pushed.exit_code == 0, pushed.output
    return gw150914_files


@pytest.fixture
def find(trio: Trio) -> Callable[..., Any]:
    """Return a function that calls one of gwdatafind's."""
    return lambda name, *words, **more: getattr(gwdatafind, name)(*words, host=trio.url, **more)


def test_the_service_says_its_version(find: Callable[..., Any]) -> None:
    assert find("ping")["api_versions"] == ["v1"]


def test_datasets_are_channels(find: Callable[..., Any]) -> None:
    assert "V" in find("find_observatories", ext="hdf5")
    assert find("find_types", "V", ext="hdf5") == [GAPS_TYPE]
    assert GAPS_TYPE in find("find_types", ext="hdf5", match="GAPS")
    assert find("find_types", "V", ext="gwf") == [GAPS_TYPE]
    assert find("find_types", "Z", ext="hdf5") == find("find_types", ext="h5") == []


def test_times_are_whole_seconds_that_are_stored(find: Callable[..., Any]) -> None:
    of_gaps = ("V", GAPS_TYPE)
    assert list(find("find_times", *of_gaps, ext="hdf5")) == [
        (BOUNDARY - 3, BOUNDARY + 2),
        (BOUNDARY + 10, BOUNDARY + 11),
    ]
    assert list(find("find_times", *of_gaps, BOUNDARY - 2, BOUNDARY + 1, ext="hdf5")) == [(BOUNDARY - 2, BOUNDARY + 1)]
    assert list(find("find_times", "V", "V1_OTHER", ext="hdf5")) == []


def test_files_end_at_gaps_and_at_boundaries(trio: Trio, find: Callable[..., Any]) -> None:
    span = ("V", GAPS_TYPE, BOUNDARY - 3, BOUNDARY + 11)
    urls = find("find_urls", *span, urltype="http", ext="hdf5", on_gaps="ignore")
    names = [f"V-{GAPS_TYPE}-{start}.hdf5" for start in (f"{BOUNDARY - 3}-3", f"{BOUNDARY}-2", f"{BOUNDARY + 10}-1")]
    assert urls == [f"{trio.url}/files/{name}" for name in names]
    assert find("find_urls", *span, urltype="http", ext="hdf5", on_gaps="ignore", match=f"{BOUNDARY}-.*5$") == urls[1:2]
    assert find("find_urls", *span, urltype="file", ext="hdf5", on_gaps="ignore") == []
    assert find("find_latest", "V", GAPS_TYPE, urltype="http", ext="hdf5") == urls[2:]
    assert find("find_url", names[0], urltype="http") == urls[:1]
    assert find("find_url", f"V-{GAPS_TYPE}-{BOUNDARY}-3.hdf5", urltype="http", on_missing="ignore") == []
    with pytest.raises(RuntimeError, match="Missing segments"):
        find("find_urls", *span, urltype="http", ext="hdf5", on_gaps="error")


def test_a_file_has_exactly_the_samples_in_its_name(trio: Trio, tmp_path: Path) -> None:
    path = tmp_path / "file.hdf5"
    name = f"V-{GAPS_TYPE}-{BOUNDARY - 3}-3.hdf5"
    answer = httpx2.get(f"{trio.url}/files/{name}")
    path.write_bytes(answer.content)
    with h5py.File(path) as file:
        assert file["meta/GPSstart"][()] == BOUNDARY - 3
        expected = [BOUNDARY - 3 + i / 4 for i in range(12)]
        assert file["strain/Strain"][()].tolist() == expected
    rest = httpx2.get(
        f"{trio.url}/files/{name}", headers={"Range": "bytes=100-199", "If-Range": answer.headers["etag"]}
    )
    assert (rest.status_code, rest.content) == (206, answer.content[100:200])


@pytest.mark.parametrize(
    ("channel", "dt", "seconds"),
    [
        ("K1:LATE", 0.25, 300),
        ("K1:ROUNDED", 0.00024414, 3),
        ("K1:THIRDS", 0.3, 300),
        ("K1:SLOW", 7.0, 600),
        ("K1:MINUTES", 60.0, 3600),
        ("K1:QUARTERS", 900.0, 7200),
    ],
)
def test_every_file_that_is_listed_can_be_read_and_together_they_have_all_samples(
    trio: Trio, tmp_path: Path, channel: str, dt: float, seconds: int
) -> None:
    t0, count, period = BOUNDARY + 0.45, int(seconds / dt), sample_period(dt)
    body = json.dumps({"h": list(range(count)), "t": [t0, dt], "meta": {"channel": channel}})
    assert httpx2.post(f"{trio.url}/streamdata", content=body, headers=JSON).json()["resp"] == "CREATED"
    urls = httpx2.get(f"{trio.url}/api/v1/hdf5/K/{channel.replace(':', '_')}/0,2000000000.json").json()
    found: list[float] = []
    for url in urls:
        answer = httpx2.get(url, timeout=60)
        assert answer.status_code == 200, answer.text
        (path := tmp_path / "file.hdf5").write_bytes(answer.content)
        with h5py.File(path) as file:
            strain = file["strain/Strain"]
            assert strain.attrs["Xstart"] == pytest.approx(t0 + strain[0] * float(period), abs=1e-6)
            found += strain[()].tolist()
    first, last = BOUNDARY + 1, math.floor(t0 + count * period)
    assert found == [index for index in range(count) if first <= t0 + index * period < last]


@pytest.mark.parametrize(
    "name",
    [
        f"V-{GAPS_TYPE}-{BOUNDARY}-3.hdf5",
        f"V-{GAPS_TYPE}-{BOUNDARY - 1}-2.hdf5",
        f"V-{GAPS_TYPE}-{BOUNDARY}-0.hdf5",
        f"H-{GAPS_TYPE}-{BOUNDARY}-2.hdf5",
        f"V-{GAPS_TYPE}-{BOUNDARY}-3.gwf",
        f"V-{GAPS_TYPE}-{BOUNDARY}-2.h5",
        "..%2fdata",
    ],
)
def test_no_file_has_another_name(trio: Trio, name: str) -> None:
    assert httpx2.get(f"{trio.url}/files/{name}").status_code == 404


def test_a_pattern_that_could_take_for_ever_is_refused(trio: Trio) -> None:
    url = f"{trio.url}/api/v1/hdf5/V/{GAPS_TYPE}/1,2.json"
    for pattern in ("(a+)+$", ".+.+.+.+.+.+.+.+.+.+%"):
        answer = httpx2.get(url, params={"match": pattern})
        assert (answer.status_code, answer.json()["field"]) == (422, "query.match")


def test_a_span_with_more_files_than_an_answer_can_have_is_refused(trio: Trio) -> None:
    body = json.dumps({"h": [0] * 130_000, "t": [0, 200], "meta": {"channel": "G1:SLOW"}})
    assert httpx2.post(f"{trio.url}/streamdata", content=body, headers=JSON).json()["resp"] == "CREATED"
    url = f"{trio.url}/api/v1/hdf5/G/G1_SLOW"
    answer = httpx2.get(f"{url}/0,100000000.json")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")
    assert "100,000 files" in answer.json()["detail"]
    assert len(httpx2.get(f"{url}/0,1000.json").json()) == 4
    assert httpx2.get(f"{url}/latest.json").json()[0].endswith("/G-G1_SLOW-25999616-256.hdf5")


def test_urls_have_the_address_that_the_client_used(trio: Trio) -> None:
    name = f"V-{GAPS_TYPE}-{BOUNDARY + 10}-1.hdf5"
    headers = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "data.example.org")]
    for prefixes, path in (
        ([], ""),
        (["/"], ""),
        (["/gw/store"], "/gw/store"),
        (["/gw/, store/"], "/gw/store"),
        (["/gw", "/store"], "/gw/store"),
    ):
        told = [*headers, *(("X-Forwarded-Prefix", each) for each in prefixes)]
        urls = httpx2.get(f"{trio.url}/api/v1/hdf5/V/{GAPS_TYPE}/latest/https.json", headers=told).json()
        assert urls == [f"https://data.example.org{path}/files/{name}"]


def test_gwpy_reads_the_files_of_gw150914_bit_for_bit(trio: Trio, gw150914: dict[str, Path], tmp_path: Path) -> None:
    program = f"""
import gwdatafind
urls = gwdatafind.find_urls("L", {TYPE!r}, *span, ext="hdf5", urltype="http", on_gaps="error")
check(TimeSeries.read(urls, format="hdf5.gwosc", start=span[0], end=span[1]))
"""
    run_gwpy(program, trio, gw150914["L1"], tmp_path)


def test_gwpy_finds_and_gets_gw150914_bit_for_bit(trio: Trio, gw150914: dict[str, Path], tmp_path: Path) -> None:
    program = f"""
check(TimeSeries.find({L1!r}, *span, frametype={TYPE!r}, urltype="http"))
check(TimeSeries.find({L1!r}, *span, urltype="http"))  # the type is that of which a file has the channel
check(TimeSeries.get({L1!r}, *span, urltype="http", source="gwdatafind"))
"""
    run_gwpy(program, trio, gw150914["L1"], tmp_path)


def run_gwpy(program: str, trio: Trio, path: Path, folder: Path) -> None:
    """Run a program that passes what it reads to `check`, in a process with the user's way to name the server."""
    head = f"""
import sys, h5py
from gwpy.timeseries import TimeSeries
span = ({START + 8}, {STOP - 8})
with h5py.File(sys.argv[1]) as file:
    strain = file["strain/Strain"][8 * 4096 : -8 * 4096]
def check(found):
    assert found.value.tobytes() == strain.tobytes()
    assert (found.t0.value, found.dt.value, found.name) == (span[0], 1 / 4096, {L1!r}), found
"""
    environment = {"HOME": str(folder), "XDG_CACHE_HOME": str(folder), "GWDATAFIND_SERVER": trio.url}
    environment["GWPY_CACHE"] = "1"  # LALFrame crashes on some of gwpy's names of temporary files
    command = [sys.executable, "-c", head + program, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
