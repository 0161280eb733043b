"""Programs that `gwclient listen` runs and that do not behave."""

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path

import pytest

from gwclient.listen import Job, JobFailed
from gwclient.program import run_program
from gwwire.records import MOST_BYTES, Record

pytestmark = pytest.mark.anyio


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gwclient.program._GRACE", 0.3)


async def run(script: str) -> object:
    job = Job(Record("run/1", "run", 1, 1, "good"), 1, 0.0, 60.0)
    return await run_program(["sh", "-c", script], job, "step", os.environ)


async def until_written(path: Path) -> str:
    while not path.exists() or not path.read_text().endswith("\n"):  # noqa: ASYNC110, ASYNC240 (another process writes it)
        await asyncio.sleep(0.01)
    return path.read_text()  # noqa: ASYNC240


def is_running(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return " Z " not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]
    return False


def until_ended(pid: int) -> None:
    deadline = time.monotonic() + 60
    while is_running(pid):
        assert time.monotonic() < deadline, Path(f"/proc/{pid}/stat").read_text()
        time.sleep(0.01)


@pytest.mark.usefixtures("short_grace")
async def test_a_program_that_leaves_a_process_with_its_output_fails_and_the_process_ends(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    async with asyncio.timeout(60):
        with pytest.raises(JobFailed, match="a process that it started keeps its output open"):
            await run(f"sleep 1000 & echo $! > {pid}; echo 1")
    until_ended(int(await until_written(pid)))


async def test_a_cancellation_ends_a_program_and_its_children_that_ignore_sigterm(tmp_path: Path) -> None:
    own, child = tmp_path / "own", tmp_path / "child"
    ignoring = f"trap '' TERM; echo $$ > {child}; while :; do sleep 0.05; done"
    script = f"trap 'exit 0' TERM; sh -c \"{ignoring.replace('$', chr(92) + '$')}\" & echo $$ > {own}; wait"
    async with asyncio.timeout(60):
        running = asyncio.create_task(run(script))
        pids = [int(await until_written(path)) for path in (own, child)]
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    for pid in pids:
        until_ended(pid)


@pytest.mark.usefixtures("short_grace")
async def test_a_program_that_ignores_sigterm_has_ended_when_its_cancellation_is_over(tmp_path: Path) -> None:
    own = tmp_path / "own"
    running = asyncio.create_task(run(f"trap '' TERM; echo $$ > {own}; while :; do sleep 0.05; done"))
    async with asyncio.timeout(60):
        pid = int(await until_written(own))
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_program_that_closes_its_output_is_waited_for() -> None:
    began = time.monotonic()
    with pytest.raises(JobFailed, match="exit code 3"):
        await run("exec >&- 2>&-; sleep 0.6; exit 3")
    assert time.monotonic() - began > 0.5


async def test_a_flood_of_output_is_refused_in_bounded_memory_and_errors_need_not_be_text() -> None:
    with pytest.raises(JobFailed, match=f"more than {MOST_BYTES} bytes on standard output"):
        await run("head -c 50000000 /dev/zero; head -c 50000000 /dev/zero >&2")
    with pytest.raises(JobFailed, match="exit code 1"):
        await run("printf '\\377\\376\\200' >&2; exit 1")
    with pytest.raises(JobFailed, match="is not JSON"):
        await run("printf '\"\\377\"'")


async def test_a_result_with_a_key_twice_is_refused() -> None:
    with pytest.raises(JobFailed, match='standard output: the key "a" appears more than once'):
        await run("""echo '[{"b": {"a": 1, "a": 2}}]'""")
