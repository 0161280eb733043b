"""The benchmark measures what it says, and says so where it cannot."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
from tools.benchmark.responses import parse_response
from tools.benchmark.servers import BUFFER, GATEWAY, Cell, clean, servers_of, measure
from tools.benchmark.processes import Usage, usage

from scripts.trio import Trio
from tests.support.segments import check_counts
from tools.benchmark import main, read_arguments
from tools.benchmark.goals import load_goals
from tools.benchmark.load import GeneratorFailed, Load, Mode, Order, run_load
from tools.benchmark.sweep import Block
from tools.clients import Connection

ROOT = Path(__file__).parents[2]
HAND_WRITTEN_SECTION = "<!-- stored -->\n## With many segments stored\n\nKept as it is.\n<!-- end -->\n"


def rows_of(report: str, first_cell: str) -> list[list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in report.splitlines() if line[:1] == "|"]
    return [row for row in rows if row[0] == first_cell]


def run_bench(*arguments: str) -> None:
    command = [sys.executable, "-m", "tools.benchmark", *arguments]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def test_a_small_run_measures_every_tier_and_reports_it(tmp_path: Path) -> None:
    report = tmp_path / "benchmarks.md"
    report.write_text(HAND_WRITTEN_SECTION)
    small = ["--quick", "--samples", "4096", "--connections", "2", "--seconds", "0.2"]
    run_bench(*small, "--home", str(tmp_path), "--report", str(report))
    told = report.read_text()
    assert "Kept as it is." in told
    assert str(tmp_path) not in told
    assert re.search(r"machine: \d+ cores .* GiB memory", told)
    assert re.search(r"- \*\*reached\*\*: resident memory .*; measured gateway \d+ MB", told)
    for door in (GATEWAY, BUFFER):
        single, ndjson = rows_of(told, door)[:2]
        mode, connections, requests, segments, megabytes, ratio, p50, p99, *cpu = single[1:]
        assert (mode, connections, requests) == ("single", "2", segments)
        assert ndjson[1] == "NDJSON"
        assert int(ndjson[4].replace(",", "")) == pytest.approx(32 * int(ndjson[3].replace(",", "")), abs=16)
        assert float(megabytes) == pytest.approx(float(segments.replace(",", "")) * 0.0937, rel=0.1)
        assert 0 < float(ratio) < 1.5
        assert 0 < float(p50) <= float(p99)
        assert len(cpu) == 4
    assert [path.name for path in tmp_path.iterdir()] == [report.name]


def cell(door: str, mode: Mode, rate: int, *, p99: float = 0.1, refused: int = 0) -> Cell:
    load = Load(rate, rate, refused, "503 full" if refused else "", 93_700, 1.0, 0.1, 0.05, p99)
    return Cell(door, mode, 4096, 16, load, {BUFFER: 1.0})


def test_goals_are_judged_against_the_mean_of_the_floors() -> None:
    cells = [
        cell(GATEWAY, "single", 300, p99=0.151),
        cell(GATEWAY, "NDJSON", 700, refused=1),
        cell(BUFFER, "single", 499),
    ]
    blocks = [Block(4096, 16, floor_before=900, floor_after=1100, bare=600, cells=cells)]
    usages = {BUFFER: Usage(0, 1, 250_000_000)}
    bare = "the bare work: 0.60 x"
    assert [goal.line() for goal in load_goals(blocks, usages)] == [
        f"- **NOT REACHED**: buffer, single, at least 0.5 x floor; measured 0.50 x (499 of 1,000 segments/s; {bare})",
        f"- **reached**: gateway, single, at least 0.3 x floor; measured 0.30 x (300 of 1,000 segments/s; {bare})",
        "- **NOT REACHED**: gateway, NDJSON, at least 0.7 x floor; measured nothing valid: 1 segments were refused",
        "- **NOT REACHED**: p99 at the gateway, single, under 150 ms; measured 151 ms",
        "- **NOT REACHED**: resident memory of each service under 250 MB throughout; measured buffer 250 MB",
    ]
    elsewhere = [replace(blocks[0], connections=64)]
    assert {goal.measured for goal in load_goals(elsewhere, {})} == {None}


def test_the_cost_of_having_segments_stored_is_measured_and_reported(tmp_path: Path) -> None:
    report = tmp_path / "benchmarks.md"
    run_bench("--quick", "--stored", "10", "--home", str(tmp_path), "--report", str(report))
    told = report.read_text()
    assert "not measured: with 100,000 segments stored, start-up" in told
    (row,) = rows_of(told, "10")
    rate, floor, ratio, p50, p99, *cpu_and_stats, start, _, _, buffer_megabytes = (
        float(text.replace(",", "")) for text in row[1:]
    )
    assert ratio == pytest.approx(rate / floor, abs=0.01)
    assert 0 < p50 <= p99
    assert min(cpu_and_stats) > 0
    assert 0 < start < 30
    assert 10 < buffer_megabytes < 1000


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio]) -> Trio:
    return start_shared_trio({"MAX_SIZE": "1"})


def test_every_acknowledged_segment_of_a_measurement_is_stored_and_its_cost_metered(trio: Trio) -> None:
    gateway, buffer = servers_of(trio)
    for door, connections, segments in ((gateway, 4, 101), (buffer, 16, 50)):
        done = measure(door, Order(door.url + door.push, "single", 300, connections, 30, segments))
        assert (done.load.created, done.load.requests, done.load.refused) == (segments, segments, 0)
        counts = Connection(trio.url).get("/stats")
        assert counts["n_itm"] == segments
        assert counts["buff_size"] == pytest.approx(segments * done.load.segment_bytes, rel=0.01)
        check_counts(trio.home, counts)
        assert set(done.cpu_per_thousand()) - {"generator"} == set(door.pids) >= {BUFFER}
        assert all(0 < taken < 1000 for taken in done.cpu_per_thousand().values())
        clean(door)
        assert Connection(trio.url).get("/stats")["n_itm"] == 0


def test_segments_that_meet_a_frozen_datastore_are_not_counted(trio: Trio) -> None:
    run_load(Order(f"{trio.url}/streamdata", "single", 3, 1, 30, 1))
    Connection(trio.url).post("/train", b'{"user":"alice","token":"secret"}')
    load = run_load(Order(f"{trio.url}/streamdata", "single", 3, 2, 30, 10))
    assert (load.created, load.refused) == (0, 10)
    assert "FROZEN" in load.complaint


@contextmanager
def one_answer_server(answer: bytes) -> Iterator[str]:
    """Answer every connection once, with these bytes, and close it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                if connection.recv(65536):
                    connection.sendall(answer)

    thread = Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/streamdata"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_a_server_that_keeps_no_connection_can_be_measured() -> None:
    with one_answer_server(b'HTTP/1.0 200 OK\r\n\r\n{"resp":"CREATED","body":""}') as url:
        load = run_load(Order(url, "single", 3, 2, 30, 20))
    assert (load.created, load.refused) == (20, 0)


def test_a_server_that_breaks_off_is_told() -> None:
    with one_answer_server(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{") as url:
        load = run_load(Order(url, "single", 3, 1, 30, 3))
    assert (load.created, load.refused) == (0, 3)
    assert "broke" in load.complaint


def test_nobody_listening_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(GeneratorFailed, match="refused"):
        run_load(Order(f"http://127.0.0.1:{port}/streamdata", "single", 3, 1, 1, 1))
    assert main(["--quick", "--no-trio", "--target", f"other=http://127.0.0.1:{port}"]) == 2
    assert capsys.readouterr().err.startswith("bench: other does not answer")


def test_a_chunked_answer_counts_each_of_its_lines() -> None:
    lines = b'{"resp":"CREATED","body":"a"}\n{"resp":"FROZEN","body":"b"}\n{"resp":"CREATED","body":"c"}\n'
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (lines[:15], lines[15:40], lines[40:]))
    whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    assert [parse_response(bytearray(whole[:end])) for end in range(len(whole))] == [None] * len(whole)
    answer = parse_response(bytearray(whole))
    assert answer is not None
    assert (answer.body, answer.created(), answer.keeps) == (lines, 2, True)


def test_a_process_is_metered_with_its_children() -> None:
    burn = "sum(range(10**7))"
    child = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}]); print('done', flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        used = usage(process.pid)
        process.communicate(b"\n")
    assert used.cpu_seconds > 0.05
    assert 1_000_000 < used.resident <= used.peak
    with pytest.raises(ProcessLookupError):
        usage(process.pid)
    assert usage(os.getpid()).resident > 1_000_000


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-trio"],
        ["--target", "http://127.0.0.1:1"],
        ["--target", "a=ftp://127.0.0.1"],
        ["--pid", "b=1"],
        ["--stored", "0"],
        ["--seconds", "-1"],
        ["--stored", "10", "--target", "a=http://127.0.0.1:1"],
    ],
)
def test_a_command_line_without_sense_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        read_arguments(arguments)
    assert "error: " in capsys.readouterr().err
