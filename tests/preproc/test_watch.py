import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import h5py
import pytest

from gwclient.client import GlitchflowClient
from gwservice.atomic import locked
from gwwire.public import BatchState
from gwwire.records import Step, StepClaim, StepEnd, StepState
from gwwire.segment import Segment, encode_segment
from preproc.cli import main
from preproc.errors import GatewayFailed
from preproc.gateway import GatewaySource
from preproc.parameters import Parameters
from preproc.pipeline import preprocess
from preproc.progress import silent
from preproc.watch import Worker
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


async def steps_of(url: str, batch: str) -> dict[str, Step]:
    async with GlitchflowClient(url) as client:
        return {step.name: step for step in (await client.records.get(f"batch/{batch}")).steps}


def step_of(trio: Trio, batch: str, step: str = "spectrograms") -> Step:
    return asyncio.run(steps_of(trio.url, batch))[step]


async def claim(url: str, step: str = "spectrograms") -> tuple[str, int]:
    """Claim a batch as a worker does, as soon as there is one; return its id and the attempt."""
    wanted = StepClaim("another", after=["sealed"], before=["archived"], kind="batch", wait=30)
    async with GlitchflowClient(url) as client:
        (record,) = await client.records.claim(step, wanted)
        return record.id.partition("/")[2], next(each.attempt for each in record.steps if each.name == step)


def arguments(trio: Trio, out: Path, *options: str) -> list[str]:
    return ["watch", "--gateway", trio.url, "--out", str(out), *SMALL, *options]


@contextmanager
def worker(trio: Trio, out: Path, *options: str) -> Iterator[Forked]:
    """Start a worker; it is killed at the end if it still runs."""
    with Forked(["preproc", *arguments(trio, out, *options)], os.environ) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def worker_at_work(trio: Trio, folder: Path, *options: str) -> Iterator[Forked]:
    """Start a worker that has begun with many windows, and will take seconds."""
    with worker(trio, folder.parent, "--stride=0.0156", *options) as process:
        while not list(folder.glob(".job/block-*.npy")):
            assert process.poll() is None
            time.sleep(0.01)
        yield process


def line_with(words: str, output: IO[str] | None) -> str:
    assert output
    return next(line for line in output if words in line)


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


def test_a_batch_that_is_not_there_is_reported(trio: Trio, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--batch", "nothing", "--gateway", trio.url, "--out", str(tmp_path / "out"), *SMALL]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("preproc: batch nothing: GET /batches/nothing/manifest answered 404")
    assert not (tmp_path / "out").exists()
    with pytest.raises(GatewayFailed, match="is not an address"):
        GatewaySource("http://", "b").digest(silent)


def test_a_worker_makes_the_dataset_of_the_frozen_batch_and_leaves_archived_ones_alone(
    trio: Trio, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archived = asyncio.run(freeze(trio.url, SEGMENTS))
    asyncio.run(clean(trio.url))
    batch = asyncio.run(freeze(trio.url, SEGMENTS))
    assert main(arguments(trio, tmp_path, "--once", "--worker=w1")) == 0
    told = capsys.readouterr().out
    assert f"batch {batch} claimed by w1\n" in told
    assert f"batch {batch} published: {tmp_path / batch}\n" in told
    step = step_of(trio, batch)
    assert (step.state, step.after, step.worker) == (StepState.DONE, ["sealed"], "w1")
    with h5py.File(tmp_path / batch / "dataset.h5") as file:
        windows, channels = file["data"].shape[:2]
        assert step.result == {
            "folder": str(tmp_path / batch),
            "products": ["dataset.h5", "spectrograms.png", "report.html"],
            "windows": windows,
            "channels": channels,
            "split": {"train": windows},
            "batch_digest": file.attrs["batch_digest"],
            "job": file.attrs["job"],
        }
    assert asyncio.run(state_of(trio.url, batch)) is BatchState.FROZEN
    assert "spectrograms" not in asyncio.run(steps_of(trio.url, archived))
    asyncio.run(clean(trio.url))


def test_with_all_archived_batches_are_processed_too_the_oldest_first(trio: Trio, frozen: str, tmp_path: Path) -> None:
    asyncio.run(clean(trio.url))
    assert main(arguments(trio, tmp_path, "--once", "--clean", "--all", "--step=late")) == 0
    (processed,) = (path.name for path in tmp_path.iterdir())
    assert processed <= frozen
    assert step_of(trio, processed, "late").state is StepState.DONE


def test_with_clean_the_batch_is_archived_afterwards(
    trio: Trio, frozen: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(trio, tmp_path, "--once", "--clean")) == 0
    assert f"batch {frozen} archived" in capsys.readouterr().out
    assert asyncio.run(state_of(trio.url, frozen)) is BatchState.ARCHIVED
    assert step_of(trio, frozen).state is StepState.DONE
    assert (tmp_path / frozen / "dataset.h5").exists()


def test_a_batch_whose_worker_was_killed_before_it_archived_it_is_archived_by_the_next(
    trio: Trio, frozen: str, tmp_path: Path
) -> None:
    async def end_without_archiving() -> None:
        batch, attempt = await claim(trio.url)
        assert batch == frozen
        async with GlitchflowClient(trio.url) as client:
            await client.records.end(f"batch/{batch}", "spectrograms", StepEnd(attempt, StepState.DONE))

    asyncio.run(end_without_archiving())
    assert main(arguments(trio, tmp_path, "--once", "--clean")) == 0
    assert asyncio.run(state_of(trio.url, frozen)) is BatchState.ARCHIVED
    assert not (tmp_path / frozen).exists()


def test_two_workers_never_have_the_same_batch_at_the_same_time(trio: Trio, tmp_path: Path) -> None:
    # Each in a folder of its own: only the lease keeps them apart. A batch is archived when the first has done it.
    with worker(trio, tmp_path / "w1", "--clean") as one, worker(trio, tmp_path / "w2", "--clean") as other:
        for process in (one, other):
            line_with("waiting", process.stdout)
        batch = asyncio.run(freeze(trio.url, SEGMENTS))
        while asyncio.run(state_of(trio.url, batch)) is not BatchState.ARCHIVED:
            assert (one.poll(), other.poll()) == (None, None)
            time.sleep(0.05)
    assert len(list(tmp_path.glob(f"*/{batch}"))) == 1
    assert step_of(trio, batch).attempt == 1


def test_a_worker_that_is_killed_is_followed_by_another_that_continues(trio: Trio, frozen: str, tmp_path: Path) -> None:
    with worker_at_work(trio, tmp_path / frozen, "--worker=w1", "--lease=5") as killed:
        os.kill(killed.pid, signal.SIGKILL)
    blocks = {path: path.stat().st_mtime_ns for path in (tmp_path / frozen).glob(".job/block-*.npy")}
    assert not (tmp_path / frozen / "dataset.h5").exists()
    with worker(trio, tmp_path, "--worker=w2", "--once", "--stride=0.0156") as follower:
        line_with(f"batch {frozen} claimed by w2", follower.stdout)
        while set((tmp_path / frozen).glob(".job/block-*.npy")) <= blocks.keys():
            assert follower.poll() is None
            time.sleep(0.01)
        assert {path: path.stat().st_mtime_ns for path in blocks} == blocks
        told, errors = follower.communicate(timeout=100)
    assert (follower.returncode, errors) == (0, "")
    assert f"batch {frozen} published" in told
    step = step_of(trio, frozen)
    assert (step.state, step.worker, step.attempt) == (StepState.DONE, "w2", 2)


def test_a_worker_that_lost_its_lease_publishes_nothing_and_goes_on(trio: Trio, frozen: str, tmp_path: Path) -> None:
    with worker_at_work(trio, tmp_path / frozen, "--stride=0.004", "--lease=5") as process:
        process.send_signal(signal.SIGSTOP)
        assert asyncio.run(claim(trio.url)) == (frozen, 2)
        process.send_signal(signal.SIGCONT)
        line_with(f"attempt 1 of spectrograms on batch/{frozen} was replaced", process.stdout)
        line_with("waiting", process.stdout)
        assert not (tmp_path / frozen / "dataset.h5").exists()


def test_a_worker_that_is_asked_to_stop_at_work_gives_the_batch_back(trio: Trio, frozen: str, tmp_path: Path) -> None:
    with worker_at_work(trio, tmp_path / frozen, "--stride=0.004") as process:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "preproc: interrupted\n")
    step = step_of(trio, frozen)
    assert (step.state, step.expires, step.reason) == (StepState.WAITING, None, None)
    assert [path.name for path in (tmp_path / frozen).glob("*") if not path.name.startswith(".")] == []


def test_a_batch_that_cannot_be_processed_fails_at_once_and_stays_frozen(
    trio: Trio, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = asyncio.run(freeze(trio.url, cut(noise(4, rate=256.0), "H1:A", rate=256.0)))
    try:
        assert main(arguments(trio, tmp_path, "--once", "--clean")) == 1
        reason = "no window could be made: 1 x no power spectrum (4 s in runs of at least 2 s"
        assert capsys.readouterr().err.startswith(f"preproc: {reason}")
        step = step_of(trio, batch)
        assert (step.state, step.attempt) == (StepState.FAILED, 1)
        assert step.reason
        assert step.reason.startswith(reason)
        assert asyncio.run(state_of(trio.url, batch)) is BatchState.FROZEN
    finally:
        asyncio.run(clean(trio.url))


def test_a_failure_that_is_not_of_the_data_is_tried_again_later(trio: Trio, frozen: str, tmp_path: Path) -> None:
    (tmp_path / frozen).mkdir()
    with locked(tmp_path / frozen, folder=True):
        assert main(arguments(trio, tmp_path, "--once")) == 1
    step = step_of(trio, frozen)
    assert (step.state, step.reason) == (StepState.WAITING, f"another run is using {tmp_path / frozen}")
    assert step.expires
    assert step.expires > time.time()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_is_cancelled_by_a_signal_whatever_it_does_just_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    seen: list[str] = []

    async def work(_: Worker) -> None:
        try:
            os.kill(os.getpid(), number)
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    monkeypatch.setattr(Worker, "work", work)
    # As in `python -m preproc`; a shell in the background starts the tests with SIGINT ignored.
    before = {each: signal.signal(each, signal.default_int_handler) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        assert main(["watch", "--gateway", "http://127.0.0.1:1", "--out", str(tmp_path)]) == 130
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert seen == ["cancelled"]


def test_a_worker_that_is_asked_to_stop_while_it_waits_ends_at_once(trio: Trio, tmp_path: Path) -> None:
    with worker(trio, tmp_path) as process:
        line_with("waiting for a frozen batch", process.stdout)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "preproc: interrupted\n")
