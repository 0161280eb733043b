import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import pytest

from gwclient.client import GlitchflowClient
from gwclient.errors import GatewayRefused
from gwwire.public import BatchState
from gwwire.segment import Segment, encode_segment
from preproc.cli import main
from preproc.errors import GatewayFailed
from preproc.gateway import GatewaySource
from preproc.parameters import Parameters
from preproc.pipeline import preprocess
from preproc.progress import silent
from scripts.trio import Trio
from tests.conftest import StartTrio
from tests.preproc.batches import Strain, cut, noise
from tests.support.forked import Forked

SMALL = ["--window=2", "--fmax=80", "--rows=16", "--columns=32", "--fduration=1", "--psd-fftlength=2", "--export=none"]
PARAMETERS = Parameters(window=2, stride=2, fmax=80, rows=16, columns=32, fduration=1, psd_fftlength=2)
# One channel: a worker draws a row of its contact sheet for each, which is most of its work.
SEGMENTS = cut(noise(16, rate=256.0), "H1:A", rate=256.0)


@pytest.fixture(scope="module")
def trio(start_shared_trio: StartTrio) -> Trio:
    return start_shared_trio({"MAX_SIZE": "1000"})


@pytest.fixture
def frozen(trio: Trio) -> Iterator[str]:
    """The id of a batch that is frozen; archived when the test ends, if it is not by then."""
    yield asyncio.run(freeze(trio.url, SEGMENTS))
    asyncio.run(clean(trio.url))


async def freeze(url: str, segments: list[Strain]) -> str:
    async with GlitchflowClient(url) as client:
        bodies = [encode_segment(Segment(s.h.tolist(), (s.t0, s.dt), {"channel": s.channel})) for s in segments]
        await client.stream_many(bodies)
        await client.train("me", "token")
        return next(batch.id for batch in await client.batches() if batch.state is BatchState.FROZEN)


async def clean(url: str) -> None:
    async with GlitchflowClient(url) as client:
        if any(batch.state is BatchState.FROZEN for batch in await client.batches()):
            await client.clean("the test is over")


async def state_of(url: str, batch: str) -> BatchState:
    async with GlitchflowClient(url) as client:
        return (await client.batch(batch)).state


async def holder_of(url: str, batch: str) -> str | None:
    """Return the worker that has a batch, by asking to release it in the name of another."""
    async with GlitchflowClient(url) as client:
        return (await client.release(batch, "nobody")).worker


def start_worker(trio: Trio, out: Path, *options: str) -> Forked:
    command = ["preproc", "watch", "--gateway", trio.url, "--out", str(out), "--poll=0.2"]
    return Forked([*command, *SMALL, *options], os.environ)


def test_a_batch_of_the_gateway_comes_out_as_from_its_folder(trio: Trio, frozen: str, tmp_path: Path) -> None:
    command = ["run", "--batch", frozen, "--gateway", trio.url, "--out", str(tmp_path / "there"), *SMALL]
    assert main(command) == 0
    volume = trio.home / "datavar" / "data"
    preprocess(volume, tmp_path / "here" / "dataset.h5", PARAMETERS, silent)
    with h5py.File(tmp_path / "there" / "dataset.h5") as one, h5py.File(tmp_path / "here" / "dataset.h5") as other:
        assert one["data"][:].tobytes() == other["data"][:].tobytes()
        assert one.attrs["batch_id"] == frozen
        assert one.attrs["batch_digest"] == one.attrs["manifest_digest"] == other.attrs["batch_digest"]
    assert not (tmp_path / "there" / ".batch").exists()


def test_a_finished_batch_is_not_even_fetched_again(
    trio: Trio, frozen: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "--batch", frozen, "--gateway", trio.url, "--out", str(tmp_path), *SMALL]
    assert main(command) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GatewaySource, "directory", None)
        assert main(command) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_what_was_fetched_already_and_is_whole_is_not_fetched_again(trio: Trio, frozen: str, tmp_path: Path) -> None:
    source = GatewaySource(trio.url, frozen)
    folder = source.directory(tmp_path, silent)
    first, second, *_ = sorted(folder.glob("gwb*.json"))
    first.write_bytes(b"{}")
    kept = second.stat().st_mtime_ns
    assert source.directory(tmp_path, silent) == folder
    assert second.stat().st_mtime_ns == kept
    assert first.stat().st_size > 1000


def test_a_batch_that_is_not_there_is_told(trio: Trio, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--batch", "nothing", "--gateway", trio.url, "--out", str(tmp_path / "out"), *SMALL]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("preproc: batch nothing: GET /batches/nothing/manifest answered 404")
    assert not (tmp_path / "out").exists()
    with pytest.raises(GatewayFailed, match="is not an address"):
        GatewaySource("http://", "b").digest(silent)


def test_a_worker_makes_the_dataset_and_gives_the_batch_back(trio: Trio, frozen: str, tmp_path: Path) -> None:
    with start_worker(trio, tmp_path, "--once", "--worker=w1") as worker:
        told, errors = worker.communicate(timeout=60)
    assert (worker.returncode, errors) == (0, "")
    assert f"batch {frozen} claimed by w1\n" in told
    assert f"batch {frozen} published: {tmp_path / frozen}\n" in told
    report = json.loads((tmp_path / frozen / "report.json").read_text())
    assert report["batch"]["id"] == frozen
    assert asyncio.run(state_of(trio.url, frozen)) is BatchState.FROZEN
    assert asyncio.run(holder_of(trio.url, frozen)) is None


def test_with_clean_the_datastore_is_open_again_afterwards(trio: Trio, frozen: str, tmp_path: Path) -> None:
    with start_worker(trio, tmp_path, "--once", "--clean") as worker:
        told, errors = worker.communicate(timeout=60)
    assert (worker.returncode, errors) == (0, "")
    assert f"batch {frozen} archived" in told
    assert asyncio.run(state_of(trio.url, frozen)) is BatchState.ARCHIVED
    assert (tmp_path / frozen / "dataset.h5").exists()


def test_two_workers_never_have_the_same_batch_at_the_same_time(trio: Trio, frozen: str, tmp_path: Path) -> None:
    # Each in a folder of its own: only the claim keeps them apart. A batch is archived when the first has done it.
    workers = [start_worker(trio, tmp_path / name, "--clean", f"--worker={name}") for name in ("w1", "w2")]
    try:
        while asyncio.run(state_of(trio.url, frozen)) is not BatchState.ARCHIVED:
            assert all(worker.poll() is None for worker in workers)
            time.sleep(0.1)
    finally:
        told = []
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
            told.append(worker.communicate(timeout=60)[0])
    assert sorted(f"batch {frozen} published" in text for text in told) == [False, True]
    assert len(list(tmp_path.glob(f"*/{frozen}/dataset.h5"))) == 1


def test_a_worker_that_is_killed_is_followed_by_another_when_its_lease_ends(
    trio: Trio, frozen: str, tmp_path: Path
) -> None:
    # A window at every fourth sample: seconds of work.
    slow = ["--stride=0.0156", "--lease=2"]
    with start_worker(trio, tmp_path, "--worker=w1", *slow) as killed:
        while not list((tmp_path / frozen).glob(".job/block-*.npy")):
            assert killed.poll() is None
            time.sleep(0.01)
        os.kill(killed.pid, signal.SIGKILL)
    done = {path.name for path in (tmp_path / frozen).glob(".job/block-*.npy")}
    assert done
    assert not (tmp_path / frozen / "dataset.h5").exists()
    with start_worker(trio, tmp_path, "--worker=w2", "--once", *slow) as follower:
        told, errors = follower.communicate(timeout=100)
    assert (follower.returncode, errors) == (0, "")
    assert f"batch {frozen} published" in told
    assert (tmp_path / frozen / "dataset.h5").exists()


def test_a_worker_that_lost_its_lease_publishes_nothing(trio: Trio, frozen: str, tmp_path: Path) -> None:
    with start_worker(trio, tmp_path, "--worker=w1", "--stride=0.004", "--lease=2") as worker:
        while not list((tmp_path / frozen).glob(".job/block-*.npy")):
            assert worker.poll() is None
            time.sleep(0.01)
        worker.send_signal(signal.SIGSTOP)
        asyncio.run(take_over(trio.url, frozen))
        worker.send_signal(signal.SIGCONT)
        assert worker.stdout is not None
        while "the claim on batch" not in (line := worker.stdout.readline()):
            assert line
        assert not (tmp_path / frozen / "dataset.h5").exists()
        worker.send_signal(signal.SIGTERM)
        worker.communicate(timeout=60)
    assert worker.returncode == 130


async def take_over(url: str, batch: str) -> None:
    """Claim a batch as soon as its lease has ended."""
    async with GlitchflowClient(url) as client:
        while True:
            try:
                await client.claim(batch, "another", 60)
            except GatewayRefused as error:
                if error.code != "batch-claimed":
                    raise
                await asyncio.sleep(0.2)
            else:
                return


def test_a_worker_that_is_asked_to_stop_at_work_gives_the_batch_back(trio: Trio, frozen: str, tmp_path: Path) -> None:
    with start_worker(trio, tmp_path, "--stride=0.004") as worker:
        while not list((tmp_path / frozen).glob(".job/block-*.npy")):
            assert worker.poll() is None
            time.sleep(0.01)
        worker.send_signal(signal.SIGTERM)
        _, errors = worker.communicate(timeout=60)
    assert (worker.returncode, errors) == (130, "preproc: interrupted\n")
    assert asyncio.run(holder_of(trio.url, frozen)) is None
    assert [path.name for path in (tmp_path / frozen).glob("*") if not path.name.startswith(".")] == []


def test_a_batch_that_cannot_be_processed_stays_frozen_and_is_told(trio: Trio, tmp_path: Path) -> None:
    batch = asyncio.run(freeze(trio.url, cut(noise(4, rate=256.0), "H1:A", rate=256.0)))
    try:
        with start_worker(trio, tmp_path, "--once", "--clean") as worker:
            _, errors = worker.communicate(timeout=60)
        assert worker.returncode == 1
        assert errors.startswith("preproc: no window could be made: the longest of 1 runs without a gap is 4 s")
        assert asyncio.run(state_of(trio.url, batch)) is BatchState.FROZEN
        assert asyncio.run(holder_of(trio.url, batch)) is None
    finally:
        asyncio.run(clean(trio.url))


def test_a_worker_that_is_asked_to_stop_while_it_waits_ends_at_once(trio: Trio, tmp_path: Path) -> None:
    with start_worker(trio, tmp_path) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "waiting for the datastore to be frozen\n"
        worker.send_signal(signal.SIGTERM)
        _, errors = worker.communicate(timeout=30)
    assert (worker.returncode, errors) == (130, "preproc: interrupted\n")
