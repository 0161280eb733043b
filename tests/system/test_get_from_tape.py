"""`gwclient get --wait` of several batches that do not fit into the cache of the tape together."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import h5py
import httpx2
import pytest

from scripts.trio import Trio
from tests.support.segments import JSON

#: Of one pack.
ONE = 7_000
CHANNELS = "H1:A", "L1:A"
BATCHES = 3
START = 1_400_000_000

StartTrio = Callable[..., Trio]
Start = Callable[[int], tuple[httpx2.Client, list[str]]]


@pytest.fixture
def start(start_trio: StartTrio, tmp_path: Path) -> Iterator[Start]:
    """Yield a function that starts a datastore with batches on tape, some of them in a cache of some bytes too.

    Each batch has a second of each channel, so that the strain of a channel lies in all of them.
    """

    def start_one(capacity: int) -> tuple[httpx2.Client, list[str]]:
        tiers = f"object=file://{tmp_path}/packs?capacity={capacity} tape=folder://{tmp_path}/tape?mount=0&seek=0"
        (tmp_path / "packs").mkdir()
        (tmp_path / "tape").mkdir()
        trio = start_trio(each={"databuffer": {"TIERS": tiers, "OBJECT_HIGH_WATER": "100%"}})
        gateway = stack.enter_context(httpx2.Client(base_url=trio.url, timeout=60))
        return gateway, [archive(gateway, second) for second in range(BATCHES)]

    with ExitStack() as stack:
        yield start_one


def archive(gateway: httpx2.Client, second: int) -> str:
    for number, channel in enumerate(CHANNELS):
        h = [1e-21 * (1 + second + 10 * number)] * 64
        segment = {"h": h, "t": [START + second, 1 / 64], "meta": {"channel": channel}}
        assert gateway.post("/streamdata", content=json.dumps(segment), headers=JSON).status_code == 200
    batch = str(gateway.get("/batches").json()["batches"][-1]["id"])
    order = {"msg": "full", "batch": batch, "tiering": {"archive_to": ["object", "tape"], "keep_on_disk": 0}}
    assert gateway.post("/cleanbuf", json=order).status_code == 200
    within(60, lambda: tiers_of(gateway, batch) >= {"tape"} and "disk" not in tiers_of(gateway, batch))
    return batch


def tiers_of(gateway: httpx2.Client, batch: str) -> set[str]:
    replicas = gateway.get(f"/batches/{batch}").json()["replicas"]
    return {each["tier"] for each in replicas if each["state"] == "VERIFIED"}


def kept_for(gateway: httpx2.Client, batch: str) -> set[str]:
    return set(gateway.get(f"/batches/{batch}/recall").json()["others"])


def within(seconds: float, holds: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def begin_get(gateway: httpx2.Client, out: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gwclient", "get", *words, "--wait", "--out", str(out)]
    environment = {**os.environ, "SRV": str(gateway.base_url)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("capacity", "kind"), [(ONE, "hdf5"), (2 * ONE, "ndjson")], ids=["one fits", "two fit"])
def test_batches_that_do_not_fit_into_the_cache_together_are_read_one_after_the_other(
    start: Start, tmp_path: Path, capacity: int, kind: str
) -> None:
    gateway, batches = start(capacity)
    with begin_get(gateway, tmp_path / "out", "--start", str(START), "--format", kind) as getting:
        try:
            _, words = getting.communicate(timeout=120)
        finally:
            getting.kill()
    assert getting.returncode == 0, words
    if kind == "hdf5":
        for number, channel in enumerate(CHANNELS):
            [path] = (tmp_path / "out").glob(f"*{channel.replace(':', '_')}*")
            with h5py.File(path) as file:
                strain = file["strain/Strain"][()].tolist()
            assert strain == [1e-21 * (1 + second + 10 * number) for second in range(BATCHES) for _ in range(64)]
    else:
        assert len((tmp_path / "out").read_text().splitlines()) == BATCHES * len(CHANNELS)
    assert {name for batch in batches for name in kept_for(gateway, batch)} <= {"readers"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_get_that_is_ended_releases_what_it_keeps_and_what_a_killed_one_keeps_can_be_released(
    start: Start, tmp_path: Path, number: signal.Signals
) -> None:
    gateway, batches = start(ONE)
    on_tape, cached = batches[0], batches[-1]
    within(60, lambda: tiers_of(gateway, on_tape) == {"tape"} and tiers_of(gateway, cached) == {"object", "tape"})
    gateway.post(f"/batches/{cached}/recall?asker=alice")

    def getters() -> set[str]:
        return {name for name in kept_for(gateway, on_tape) if name.startswith("get-")}

    with begin_get(gateway, tmp_path / "out", "--batch", on_tape) as getting:
        try:
            within(60, lambda: bool(getters()))
            getting.send_signal(number)
            _, words = getting.communicate(timeout=60)
        finally:
            getting.kill()
    if number is signal.SIGKILL:
        [asker] = getters()
        assert f"; still kept for {asker} until 20" in release(gateway, on_tape)
        assert release(gateway, on_tape, "--asker", asker).endswith("; released\n")
    else:
        assert (getting.returncode, words.splitlines()[-1]) == (130, "gwclient: interrupted")
    assert not getters()


def release(gateway: httpx2.Client, batch: str, *words: str) -> str:
    command = [sys.executable, "-m", "gwclient", "recall", batch, "--release", *words]
    environment = {**os.environ, "SRV": str(gateway.base_url)}
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
