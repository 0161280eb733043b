"""Records, steps and listeners, against real services."""

import array
import asyncio
import errno
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeGuard

import httpx2
import pytest

from gwclient.cli import main
from gwclient.client import GlitchflowClient, Retry
from gwclient.errors import GatewayRefused, LeaseLost
from gwclient.listen import Job, JobFailed, JobState
from gwwire.query import Query, parse_conditions
from gwwire.records import Mark, Record, RecordContent, StepState
from scripts.trio import Trio
from tests.support.forked import Forked
from tests.support.segments import JSON, segment_body

EDELWEISS = Path(__file__).parents[2] / "examples" / "edelweiss"


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio]) -> Trio:
    return start_shared_trio({})


@asynccontextmanager
async def connected(trio: Trio) -> AsyncIterator[GlitchflowClient]:
    retry = Retry(tries=3, first=0.05, longest=0.2)
    async with GlitchflowClient(trio.url, retry=retry, timeout=60) as client:
        yield client


async def put(client: GlitchflowClient, *records: str, **content: Any) -> None:
    for record in records:
        await client.records.put(record, RecordContent(**content))


async def step_of(client: GlitchflowClient, record: str, name: str) -> Any:
    return next(step for step in (await client.records.get(record)).steps if step.name == name)


def within(seconds: float, work: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(seconds):
            await work

    asyncio.run(bounded())


# ---- in Python


def test_a_loop_ends_each_job_done_with_its_result_and_the_next_step_gets_the_record(trio: Trio) -> None:
    async def work() -> None:
        async with connected(trio) as client:
            await put(client, "loop/a b/ä", "loop/two")
            async with client.listen("first", kind="loop") as first:
                done = []
                for _ in range(2):
                    async for job in first:
                        job.result = {"id": job.record.id}
                        done.append(job.record.id)
                        break
            assert sorted(done) == ["loop/a b/ä", "loop/two"]
            async with client.listen("second", after=["first"], kind="loop") as second:
                async for job in second:
                    assert job.record.steps[0].result == {"id": job.record.id}
                    second.stop()
            step = await step_of(client, job.record.id, "second")
            assert (step.state, step.after, step.attempt) == (StepState.DONE, ["first"], 1)

    within(60, work())


def test_an_exception_ends_the_job_failed_and_a_cancellation_gives_it_back(trio: Trio) -> None:
    async def work() -> None:
        async with connected(trio) as client:
            await put(client, "loop-error/one")
            with pytest.raises(ZeroDivisionError):
                await divide(client)
            step = await step_of(client, "loop-error/one", "divide")
            assert (step.state, step.reason) == (StepState.FAILED, "ZeroDivisionError: division by zero")
            begun = asyncio.Event()

            async def wait_for_ever(_: Job) -> None:
                begun.set()
                await asyncio.Event().wait()

            async with client.listen("wait", kind="loop-error") as listening:
                running = asyncio.create_task(listening.run(wait_for_ever))
                await begun.wait()
                assert (await step_of(client, "loop-error/one", "wait")).state is StepState.RUNNING
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
            step = await step_of(client, "loop-error/one", "wait")
            assert (step.state, step.reason) == (StepState.WAITING, None)

    async def divide(client: GlitchflowClient) -> None:
        async with client.listen("divide", kind="loop-error", attempts=1) as jobs:
            async for _ in jobs:
                1 / 0  # noqa: B018 (it raises)

    within(60, work())


def test_a_failure_without_a_retry_is_final_and_a_job_knows_whether_it_is_leased(trio: Trio) -> None:
    async def refuse(client: GlitchflowClient, seen: list[Job]) -> None:
        async with client.listen("refuse", kind="final", lease=60) as jobs:
            async for job in jobs:
                seen.append(job)
                assert await asyncio.to_thread(job.is_leased)
                raise JobFailed("no strain", retry=False)

    async def work() -> None:
        seen: list[Job] = []
        async with connected(trio) as client:
            await put(client, "final/one")
            with pytest.raises(JobFailed, match="no strain"):
                await refuse(client, seen)
            step = await step_of(client, "final/one", "refuse")
            assert (step.state, step.attempt, step.reason) == (StepState.FAILED, 1, "no strain")
        assert not seen[0].is_leased()

    within(60, work())


def test_many_run_at_a_time_and_failures_do_not_end_the_listener(trio: Trio) -> None:
    async def work() -> None:
        names = [f"many/{number}" for number in range(12)]
        states: list[tuple[str, JobState]] = []
        present, most, full = 0, 0, asyncio.Event()
        async with connected(trio) as client:
            await put(client, *names)
            async with client.listen("many", kind="many", attempts=1) as listening:

                def changed(job: Job) -> None:
                    states.append((job.record.id, job.state))
                    if sum(state is not JobState.RUNNING for _, state in states) == len(names):
                        listening.stop()

                async def handle(job: Job) -> Any:
                    nonlocal present, most
                    present += 1
                    most = max(most, present)
                    if present == 4:
                        full.set()
                    await full.wait()
                    await asyncio.sleep(0.05)
                    present -= 1
                    match job.record.id:
                        case "many/3":
                            raise JobFailed("bad\x1b[31m\nfile")
                        case "many/4":
                            return "x" * 70_000
                        case "many/5":
                            return object()
                    return job.record.id

                listening.on_change = changed
                await listening.run(handle, concurrency=4)
            reasons = {name: (await step_of(client, name, "many")).reason for name in names}
        assert most == 4
        assert sorted(name for name, state in states if state is JobState.FAILED) == ["many/3", "many/4", "many/5"]
        assert sum(state is JobState.DONE for _, state in states) == 9
        assert reasons.pop("many/3") == "bad[31m\nfile"
        assert "the result cannot be stored" in reasons.pop("many/4")
        assert "the result cannot be stored" in reasons.pop("many/5")
        assert set(reasons.values()) == {None}

    within(60, work())


def test_a_lease_is_renewed_and_a_job_whose_lease_is_lost_is_cancelled(trio: Trio) -> None:
    async def work() -> None:
        async with connected(trio) as client:
            await put(client, "lease/one")
            with pytest.raises(LeaseLost, match="attempt 1 of slow on lease/one"):
                await lose(client)
            await take(client)
            step = await step_of(client, "lease/one", "slow")
            assert (step.state, step.attempt, step.result) == (StepState.DONE, 2, "other")

    async def lose(client: GlitchflowClient) -> None:
        async with client.listen("slow", kind="lease", lease=4) as listening:
            async for _ in listening:
                await asyncio.sleep(4.5)
                step = await step_of(client, "lease/one", "slow")
                assert (step.state, step.attempt) == (StepState.RUNNING, 1)
                await client.records.redo("lease/one", "slow")
                await asyncio.sleep(60)

    async def take(client: GlitchflowClient) -> None:
        async with client.listen("slow", worker="other", kind="lease") as other:
            async for job in other:
                job.result = "other"
                break

    within(60, work())


def test_a_job_whose_beginning_cannot_be_shown_is_given_back(trio: Trio) -> None:
    def full(_: Job) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def work() -> None:
        async with connected(trio) as client:
            await put(client, "full/1")
            async with client.listen("show", kind="full") as listening:
                listening.on_change = full
                with pytest.raises(OSError, match="No space left"):
                    await listening.run(lambda _: asyncio.sleep(60))
            assert (await step_of(client, "full/1", "show")).state is StepState.WAITING

    within(60, work())


def test_a_refused_claim_ends_the_listener(trio: Trio) -> None:
    async def work() -> None:
        async with connected(trio) as client, client.listen("itself", after=["itself"]) as listening:
            with pytest.raises(GatewayRefused, match="would wait for itself"):
                await listening.run(_never)

    async def _never(_: Job) -> None:
        raise AssertionError

    within(60, work())


def test_jobs_and_the_feed_survive_kills_of_buffer_and_gateway(trio: Trio) -> None:
    async def work() -> None:
        async with connected(trio) as client:
            query = Query(conditions=parse_conditions(["n<8"]))
            for number in range(10):
                await put(client, f"kill/{number}", conditions={"n": number})
            told: list[Record | Mark] = []
            feed = asyncio.create_task(follow(client, told))
            async with client.listen("survive", kind="kill", query=query, lease=2, attempts=50) as listening:
                running = asyncio.create_task(listening.run(handle, concurrency=2))
                await asyncio.sleep(0.3)
                for name in ("databuffer", "glitchflow_api"):
                    trio.processes[name].kill()
                    trio.processes[name].wait()
                    await asyncio.sleep(0.3)
                    trio.launch(name)
                    await asyncio.to_thread(trio.wait_until_ready)
                await seen(lambda: len({each.id for each in told if is_done(each)}) == 8)
                listening.stop()
                await running
            await put(client, "kill/last")
            await seen(lambda: isinstance(told[-1], Record) and told[-1].id == "kill/last")
            feed.cancel()
            done = [each async for each in client.records.find(kind="kill", last="survive")]
            assert {record.id for record in done} == {f"kill/{number}" for number in range(8)}
            assert [each.seq for each in told] == sorted({each.seq for each in told})

    async def seen(condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110 (the feed is what is waited for)
            await asyncio.sleep(0.02)

    def is_done(each: Record | Mark) -> TypeGuard[Record]:
        return isinstance(each, Record) and each.last == "survive"

    async def handle(_: Job) -> None:
        await asyncio.sleep(0.2)

    async def follow(client: GlitchflowClient, told: list[Record | Mark]) -> None:
        async for each in client.records.changes(follow=True, kind="kill"):
            told.append(each)  # noqa: PERF401 (it has no end)

    within(100, work())


# ---- as commands


@pytest.fixture
def gwclient(trio: Trio, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SRV", trio.url)

    def run(*arguments: str) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        return stop.value.code, *capsys.readouterr()

    return run


def test_records_are_written_found_and_followed_by_commands(gwclient: Any, trio: Trio) -> None:
    sets = ("--set", "temperature=0.018", "--set", "volts.a=8", "--set", "site=LSM")
    code, out, _ = gwclient("record", "cmd/one", *sets, "--run", "ma22a000", "--json")
    written = json.loads(out)
    assert (code, written["conditions"]) == (0, {"temperature": 0.018, "volts": {"a": 8}, "site": "LSM"})
    gwclient("record", "cmd/two", "--set", "temperature=0.5")
    _, out, _ = gwclient("records", "--kind", "cmd", "--query", "temperature<0.02", "--query", "site=LSM")
    head, row = (re.split(r"  +", line) for line in out.splitlines())
    assert head == ["RECORD", "STATUS", "RUN", "LAST STEP", "SEQ"]
    assert row == ["cmd/one", "good", "ma22a000", "-", str(written["seq"])]
    code, out, _ = gwclient("record", "cmd/one", "--set", "site=null", "--status", "bad", "--json")
    assert (json.loads(out)["status"], "site" in json.loads(out)["conditions"]) == ("bad", False)
    changed = [json.loads(line) for line in gwclient("changes", "--kind", "cmd", "--json")[1].splitlines()]
    assert [each["id"] for each in changed if "id" in each] == ["cmd/two", "cmd/one"]
    since = str(changed[-1]["seq"])
    assert gwclient("changes", "--kind", "cmd", "--since", since) == (0, "", "")
    assert httpx2.post(f"{trio.url}/streamdata", content=segment_body(1), headers=JSON).status_code == 200
    assert "segment/" in gwclient("records")[1]
    for command in ("records", "changes"):
        assert "cmd/one" in (listed := gwclient(command, "--segments", "written")[1])
        assert "segment/" not in listed
    assert gwclient("record", "cmd/one")[1].startswith("cmd/one  bad  run ma22a000  last -  seq ")
    assert gwclient("records", "--kind", "none") == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("record", "cmd/one", "--set", "a"), 2, "'a' is not NAME=VALUE"),
        (("record", "cmd/one", "--set", "a=1", "--set", "a.b=2"), 2, "inside of a value"),
        (("record", "cmd/one", "--set", "a.b=1", "--set", "a.b=2"), 2, "a.b is set twice"),
        (("record", "cmd/one", "--set", "a.b=1", "--set", "a=2"), 2, "a is set twice"),
        (("record", "cmd/one", "--set", 'a={"b": 1, "b": 2}'), 2, 'a: the key "b" appears more than once'),
        (("record", "cmd/none"), 1, "404"),
        (("record", "batch/"), 2, "'batch/' has no name"),
        (("redo", "", "verify"), 2, "'' has no name"),
        (("redo", "cmd/two", "never"), 1, "404"),
        (("listen", "step", "--", "no-such-program"), 2, "no-such-program is not a program"),
        (("listen", "step", "--query", "t<warm", "--", "true"), 2, "'warm' is not a number"),
        (("listen", "sealed", "--", "true"), 1, "the datastore itself performs"),
        (("listen", "step"), 2, "COMMAND"),
    ],
)
def test_a_wrong_command_names_what_is_wrong(gwclient: Any, arguments: tuple[str, ...], code: int, words: str) -> None:
    told = gwclient(*arguments)
    assert told[0] == code
    assert words in told[2]


@contextmanager
def listener(trio: Trio, *arguments: str, **environment: str) -> Iterator[Forked]:
    with Forked(["gwclient", "listen", *arguments], os.environ | {"SRV": trio.url} | environment) as process:
        try:
            yield process
        finally:
            process.kill()


def state_of(gwclient: Any, record: str, step: str) -> Any:
    steps = json.loads(gwclient("record", record, "--json")[1])["steps"]
    return next((each for each in steps if each["name"] == step), {"state": "none"})


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_program_gets_the_record_and_its_output_or_its_errors_are_the_outcome(
    gwclient: Any, trio: Trio, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import json, os, sys\n"
        "if os.environ['GLITCHFLOW_RECORD'] == 'program/bad':\n"
        "    sys.exit('first\\n' + 'x' * 9000 + '\\nlast words')\n"
        "if os.environ['GLITCHFLOW_RECORD'] == 'program/text':\n"
        "    sys.exit(print('text'))\n"
        "record = json.load(sys.stdin)\n"
        "print(json.dumps([record['conditions'], os.environ['GLITCHFLOW_STEP'], os.environ['GLITCHFLOW_ATTEMPT']]))\n"
    )
    for name in ("bad", "good", "text"):
        gwclient("record", f"program/{name}", "--set", "n=1")
    options = ("--kind", "program", "--attempts", "1", "--json", "--concurrency", "3")
    with listener(trio, "program", *options, "--", sys.executable, str(program)) as process:
        assert process.stdout
        lines = [json.loads(process.stdout.readline()) for _ in range(6)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    ends = {line["record"]: line for line in lines if line["state"] != "RUNNING"}
    assert {name: line["state"] for name, line in ends.items()} == {
        "program/good": "DONE",
        "program/bad": "FAILED",
        "program/text": "FAILED",
    }
    assert ends["program/good"]["result"] == [{"n": 1}, "program", "1"]
    reason = state_of(gwclient, "program/bad", "program")["reason"]
    assert reason.startswith("exit code 1\nxxx")
    assert reason.endswith("\nlast words")
    assert "standard output is not JSON" in state_of(gwclient, "program/text", "program")["reason"]
    until(lambda: "program  0 waiting, 0 running, 1 done, 2 failed" in gwclient("steps")[1])  # counts may be old
    failed = [line for line in gwclient("steps")[1].splitlines() if line.startswith("  FAILED  program/")]
    assert len(failed) == 2
    assert any("standard output is not JSON" in line for line in failed)
    assert "program  WAITING" in gwclient("redo", "program/bad", "program")[1]
    _, out, said = gwclient("forget", "program")
    assert "program  " not in out
    assert said == "program is removed: its records stay WAITING until a listener declares it again\n"
    assert state_of(gwclient, "program/bad", "program")["state"] == "WAITING"
    assert state_of(gwclient, "program/good", "program")["state"] == "DONE"


def test_a_listener_reports_at_its_start_what_it_listens_for(gwclient: Any, trio: Trio) -> None:
    for name in ("one", "two"):
        gwclient("record", f"told/{name}", "--set", "n=1")
    with listener(trio, "told", "--kind", "told", "--", "true") as process:
        assert process.stderr
        assert process.stderr.readline() == "listening for told\n"  # a number of those that wait may be old at once
    misspelt = ("--kind", "told", "--before", "archived", "--after", "seeled", "--concurrency", "2")
    with listener(trio, "told", *misspelt, "--", "sleep", "5") as process:
        assert process.stderr
        assert process.stderr.readline() == "listening for told after seeled\n"
        warned = process.stderr.readline()
    assert warned.startswith("warning: nobody has declared the step seeled so far; the others are archived, ")
    assert ", sealed" in warned
    assert ", told" not in warned


def test_a_signal_lets_the_program_finish_and_a_second_one_ends_it_and_gives_the_record_back(
    gwclient: Any, trio: Trio, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    gwclient("record", "signal/one", "--status", "good")
    with (
        listener(trio, "finish", "--kind", "signal", "--", "cat", str(gate)) as process,
        gate.open("w") as writer,  # waits until the program reads
    ):
        process.send_signal(signal.SIGINT)
        assert process.stderr
        assert any("second signal" in line for line in process.stderr)
        writer.write('"finished"')
        writer.close()
        assert process.wait(60) == 0
    step = state_of(gwclient, "signal/one", "finish")
    assert (step["state"], step["result"]) == ("DONE", "finished")
    with listener(trio, "return", "--kind", "signal", "--", "cat", str(gate)) as process, gate.open("w"):
        process.send_signal(signal.SIGTERM)
        assert process.stderr
        assert any("second signal" in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
    step = state_of(gwclient, "signal/one", "return")
    assert (step["state"], step["reason"]) == ("WAITING", None)


# ---- the example


def test_the_chain_of_the_example_runs_and_a_killed_listeners_work_is_taken_over(
    gwclient: Any, trio: Trio, tmp_path: Path
) -> None:
    sps = tmp_path / "sps"
    sps.mkdir()
    documents = []
    for number in range(3):
        file = tmp_path / f"ma22a000_00{number}"
        samples = array.array("h", [100] * 1000)
        samples[400 + number] = 1100 + number
        file.write_bytes(samples.tobytes())
        document: dict[str, Any] = {"_id": file.name, "run": "ma22a000", "status": "broken" if number == 2 else "good"}
        document |= {"original_file": str(file), "conditions": {"temperature": 0.018, "volts": {"FID804": {"A": 8.0}}}}
        document |= {"md5sum": hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest(), "process": []}
        documents.append(json.dumps(document))
    command = [sys.executable, str(EDELWEISS / "records.py")]
    lines = subprocess.run(command, check=True, input="\n".join(documents), text=True, capture_output=True).stdout
    written = httpx2.post(f"{trio.url}/records", content=lines, headers={"Content-Type": "application/x-ndjson"})
    assert [json.loads(line)["rev"] for line in written.text.splitlines()] == [1, 1, 1]
    stuck = tmp_path / "stuck"
    os.mkfifo(stuck)
    move = ("move_to_sps", "--kind", "file")
    moving = ("--", sys.executable, str(EDELWEISS / "move_to_sps.py"))
    processing = ("--", sys.executable, str(EDELWEISS / "signal_processing.py"))
    with listener(trio, *move, "--worker", "killed", "--lease", "4", "--", "cat", str(stuck)) as killed:
        writer = stuck.open("w")  # waits until the program reads; the program then waits for the end of the file
        killed.kill()
        killed.wait()
    with (
        writer,
        listener(trio, *move, *moving, SPS=str(sps)),
        listener(trio, "signal_processing", "--after", "move_to_sps", "--query", "temperature<0.02", *processing),
    ):
        names = [f"file/ma22a000_00{number}" for number in range(2)]
        until(lambda: all(state_of(gwclient, name, "signal_processing")["state"] == "DONE" for name in names))
    for number, name in enumerate(names):
        steps = json.loads(gwclient("record", name, "--json")[1])["steps"]
        moved, processed = (each for each in steps if each["name"] in {"move_to_sps", "signal_processing"})
        assert (moved["state"], moved["attempt"]) == ("DONE", 1 if number else 2)
        assert (sps / f"ma22a000_00{number}").read_bytes() == (tmp_path / f"ma22a000_00{number}").read_bytes()
        assert (processed["result"]["height"], processed["result"]["sample"]) == (1000 + number, 400 + number)
    assert state_of(gwclient, "file/ma22a000_002", "move_to_sps") == {"state": "none"}
