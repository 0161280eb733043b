"""The benchmark measures what it reports, and reports what it cannot measure."""

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

import msgspec
import pytest

from scripts.trio import Trio
from tests.support.forked import ForkedTrio
from tests.support.segments import check_counts
from tools.benchmark.__main__ import main, read_arguments
from tools.benchmark.goals import load_goals
from tools.benchmark.load import GeneratorFailed, Load, Order, run_load
from tools.benchmark.processes import Usage, usage
from tools.benchmark.records import (
    Claims,
    Ingest,
    Measured,
    Plan,
    Reading,
    goals_of,
    measure_records,
    section,
)
from tools.benchmark.report import Circumstances
from tools.benchmark.responses import parse_response
from tools.benchmark.servers import BUFFER, GATEWAY, LOGIC, Cell, clean, measure, servers_of
from tools.benchmark.yardstick import Comparison, Pair, Side, YardstickSkipped, compare
from tools.clients import Connection

ROOT = Path(__file__).parents[2]
HAND_WRITTEN_SECTION = "<!-- stored -->\n## With many segments stored\n\nKept as it is.\n<!-- end -->\n"


def rows_of(report: str, first_cell: str) -> list[list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in report.splitlines() if line[:1] == "|"]
    return [row for row in rows if row[0] == first_cell]


def run_bench(*arguments: str) -> None:
    """Run the benchmark in this process, with services whose imports are done."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tools.benchmark.__main__.Trio", ForkedTrio)
        assert main(arguments) == 0


#: Stands in for the yardstick's comparison: prints its arguments, and answers in the same format.
STAND_IN = """
import json, os, sys
side = {"per_s": 400.0, "p99_ms": 50.0, "bad": 0, "gateway": 0.5, "dslogic": 0.25, "buffer": 1.0}
print(json.dumps({sys.argv[1]: {"product": side, "yardstick": side | {"per_s": 800.0}}}))
assert sys.argv[2:] == "--seconds 0.2 --rounds 1 --connections 16 --json".split()
assert os.path.isdir(os.environ["TMPDIR"] + "/load")
"""


def test_a_small_run_measures_every_tier_compares_it_and_reports_it(tmp_path: Path) -> None:
    report, stand_in = tmp_path / "benchmarks.md", tmp_path / "compare.py"
    report.write_text(HAND_WRITTEN_SECTION)
    stand_in.write_text(STAND_IN)
    small = ["--quick", "--samples", "4096", "--connections", "16", "--seconds", "0.2", "--yardstick", str(stand_in)]
    run_bench(*small, "--home", str(tmp_path), "--report", str(report))
    told = report.read_text().replace("\n  ", " ")  # wrapped list items
    assert "Kept as it is." in told
    assert str(tmp_path) not in told
    assert re.search(r"machine: \d+ cores .* GiB memory", told)
    assert re.search(r"Floor: [\d,]+ segments/s", told)
    assert re.search(r"resident memory of gateway under load, .*; measured \d+ MB", told)
    assert re.search(r"4096 samples, NDJSON, .*; measured \d+\.\d\d x \(\d+\.\d\d against 1\.00 ms\)", told)
    assert rows_of(told, "ratio") == [["ratio", "4096", "0.50", "1.00", "1.00", "1.00", "1.00", "1.00"]]
    for server in (GATEWAY, BUFFER):
        single, ndjson = rows_of(told, server)[:2]
        mode, connections, requests, segments, megabytes, p50, p99, *cpu = single[1:]
        assert (mode, connections, requests) == ("single", "16", segments)
        assert ndjson[1] == "NDJSON"
        assert int(ndjson[4].replace(",", "")) == pytest.approx(32 * int(ndjson[3].replace(",", "")), abs=16)
        assert float(megabytes) == pytest.approx(float(segments.replace(",", "")) * 0.0937, rel=0.1)
        assert 0 < float(p50) <= float(p99)
        assert len(cpu) == 4
    assert {path.name for path in tmp_path.iterdir()} == {report.name, stand_in.name}


def ndjson_cell(*, cpu: float, refused: int = 0) -> Cell:
    """Return a measurement of 1000 segments, so that CPU seconds are milliseconds per segment."""
    load = Load(100, 1000, refused, "503 full" if refused else "", 93_700, 1.0, 0.1, 0.05, 0.1)
    return Cell(GATEWAY, "NDJSON", 4096, 16, load, {GATEWAY: 0.25, LOGIC: 0.25, BUFFER: cpu - 0.5})


YARDSTICK = Side(per_s=1000, p99_ms=20, bad=0, gateway=0.25, dslogic=0.25, buffer=1.0)


def test_goals_are_judged_by_the_ratio_to_the_yardstick() -> None:
    product = Side(per_s=750, p99_ms=31, bad=0, gateway=0.5, dslogic=0.25, buffer=1.3)
    comparison: Comparison = {
        4096: Pair(product, YARDSTICK),
        300: Pair(msgspec.structs.replace(product, bad=1), YARDSTICK),
    }
    usages = {GATEWAY: Usage(0, 1, 110_000_000), LOGIC: Usage(0, 1, 111_000_000)}
    goals = [
        (goal.reached, goal.wanted.replace(" the yardstick's", "").replace(" under load, over all its processes", ""))
        for goal in load_goals([ndjson_cell(cpu=1.25)], usages, comparison)
    ]
    assert goals == [
        (False, "300 samples: CPU per segment over all services at most 1.8 x"),
        (False, "300 samples: segments/s at least 0.75 x"),
        (False, "300 samples: p99 at most 1.5 x"),
        (True, "4096 samples: CPU per segment over all services at most 1.4 x"),
        (True, "4096 samples: segments/s at least 0.75 x"),
        (False, "4096 samples: p99 at most 1.5 x"),
        (False, "4096 samples: CPU per segment of every service at most 1.8 x"),
        (False, "16384 samples: CPU per segment over all services at most 1.25 x"),
        (False, "16384 samples: segments/s at least 0.75 x"),
        (False, "16384 samples: p99 at most 1.5 x"),
        (True, goals[10][1]),
        (True, "resident memory of gateway, at most 110 MB"),
        (False, "resident memory of dslogic, at most 110 MB"),
        (False, "resident memory of buffer, at most 200 MB"),
    ]
    lines = [goal.line().partition("; ")[2] for goal in load_goals([ndjson_cell(cpu=1.25)], usages, comparison)]
    assert lines == [
        *["measured nothing valid: 1 segments were not stored"] * 3,
        "measured 1.37 x (2.05 against 1.50 ms)",
        "measured 0.75 x (750 against 1,000)",
        "measured 1.55 x (31.00 against 20.00 ms)",
        "measured gateway 2.00 x, dslogic 1.00 x, buffer 1.30 x",
        *[""] * 3,
        "measured 1.25 x (1.25 against 1.00 ms)",
        "measured 110 MB",
        "measured 111 MB",
        "",
    ]
    unmeasured = "- not measured: 16384 samples: p99 at most 1.5 x the yardstick's"
    assert unmeasured in [goal.line() for goal in load_goals([], usages, comparison)]
    assert {goal.measured for goal in load_goals([], {}, {})} == {None}


@pytest.mark.parametrize("cell", [ndjson_cell(cpu=1.31), ndjson_cell(cpu=1, refused=1)], ids=["too dear", "refused"])
def test_an_ndjson_measurement_that_costs_too_much_or_is_invalid_misses_the_goal(cell: Cell) -> None:
    comparison: Comparison = {4096: Pair(YARDSTICK, YARDSTICK)}
    (goal,) = [goal for goal in load_goals([cell], {}, comparison) if "NDJSON" in goal.wanted]
    assert goal.measured
    assert not goal.reached


def test_without_the_yardstick_or_when_it_fails_the_reason_is_given(tmp_path: Path) -> None:
    with pytest.raises(YardstickSkipped, match="not beside the project"):
        compare(tmp_path / "compare.py", [300], 1, 1, tmp_path)
    for program, reason in (("import sys; sys.exit('no port')", "no port"), ("print('[]')", "Expected `object`")):
        (tmp_path / "compare.py").write_text(program)
        with pytest.raises(YardstickSkipped, match=reason):
            compare(tmp_path / "compare.py", [300], 1, 1, tmp_path)


def test_the_cost_of_having_segments_stored_is_measured_and_reported(tmp_path: Path) -> None:
    report = tmp_path / "benchmarks.md"
    run_bench("--quick", "--stored", "10", "--home", str(tmp_path), "--report", str(report))
    told = report.read_text().replace("\n  ", " ")  # wrapped list items
    assert "not measured: with 100,000 segments stored, start-up" in told
    (row,) = rows_of(told, "10")
    rate, p50, p99, *cpu_and_stats, start, _, _, buffer_megabytes = (float(text.replace(",", "")) for text in row[1:])
    assert rate > 0
    assert 0 < p50 <= p99
    assert 0 <= min(cpu_and_stats) < max(cpu_and_stats)  # a small run may take less than a tick of the CPU clock
    assert 0 < start < 60
    assert 10 < buffer_megabytes < 1000


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio]) -> Trio:
    return start_shared_trio({"MAX_SIZE": "1"})


def test_every_acknowledged_segment_of_a_measurement_is_stored_and_its_cost_metered(trio: Trio) -> None:
    gateway, buffer = servers_of(trio)
    for server, connections, segments in ((gateway, 4, 101), (buffer, 16, 200)):
        done = measure(server, Order(server.url + server.push, "single", 300, connections, 30, segments))
        assert (done.load.created, done.load.requests, done.load.refused) == (segments, segments, 0)
        counts = Connection(trio.url).get("/stats")
        assert counts["n_itm"] == segments
        assert counts["buff_size"] == pytest.approx(segments * done.load.segment_bytes, rel=0.01)
        check_counts(trio.home, counts)
        assert set(done.cpu_per_thousand()) - {"generator"} == set(server.pids) >= {BUFFER}
        taken = done.cpu_per_thousand().values()
        assert 0 <= min(taken) < max(taken) < 1000  # a process may take less than a tick of the CPU clock
        clean(server)
        assert Connection(trio.url).get("/stats")["n_itm"] == 0


def test_records_steps_and_the_feed_are_measured_and_reported(trio: Trio) -> None:
    plan = Plan(records=1200, workers=2, seconds=0.2, rounds=1, changes=2)
    measured = measure_records(plan, trio, trio)
    assert (measured.caught_up.changes, measured.caught_up.missing, measured.quiet.changes) == (1200, 0, 0)
    assert 0 < measured.sync_p50 <= measured.sync_p95
    (claims,) = measured.claims
    assert 0 < claims.claim_p50 <= claims.claim_p95
    assert claims.cpu >= 0  # a small run may take less than a tick of the CPU clock
    assert min(measured.loaded[0].rate, measured.empty[0].rate, measured.feed_p95, measured.answer_p95) > 0
    assert {goal.measured for goal in goals_of(measured)} == {None}
    told = "\n".join(section(measured, Circumstances("today", "bench", "machine", "versions")))
    assert rows_of(told, "catching up with 1,200 changes, s")


def test_goals_of_records_are_judged() -> None:
    claims = Claims(0.005, 0.019, 0.01, 300, 0.002)
    fine, slow = Ingest(1000, 0.001), Ingest(940, 0.001)
    read, quiet = Reading(Plan.records, 0, 9.0, 0.1), Reading(0, 0, 1.0, 0.09)
    good = Measured(Plan(), 0.001, 0.002, [claims], [fine], [fine], 0.9, 0.09, read, quiet, (1, 2))
    assert {goal.reached for goal in goals_of(good)} == {True}
    missed = replace(good, claims=[replace(claims, claim_p95=0.02)], loaded=[slow], caught_up=replace(read, missing=1))
    bad = replace(missed, feed_p95=1.0, answer_p95=0.1, quiet=replace(quiet, longest=0.1))
    assert {goal.reached for goal in goals_of(bad)} == {False}
    assert "measured 0.94 x" in goals_of(bad)[1].line()


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


def test_an_interrupted_answer_is_reported() -> None:
    with one_answer_server(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{") as url:
        load = run_load(Order(url, "single", 3, 1, 30, 3))
    assert (load.created, load.refused) == (0, 3)
    assert "broke" in load.complaint


def test_an_unreachable_gateway_is_reported_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
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
        ["--records", "10", "--all"],
        ["--stored", "10", "--target", "a=http://127.0.0.1:1"],
    ],
)
def test_a_command_line_without_sense_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        read_arguments(arguments)
    assert "error: " in capsys.readouterr().err
