"""`python -m tools.benchmark.client`: how fast the client pushes, into a server that does nothing and into the trio.

The server that does nothing is a process of its own: it reads each request to its end and answers CREATED. What is left
is the client's own cost: cutting, encoding, keys, HTTP, the account and the cursor.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from aiohttp import web
from tqdm import tqdm

from gwclient.client import GlitchflowClient
from gwclient.cursor import Cursor
from gwclient.keeping import Keeping
from gwclient.push import Ending, Listener, push
from gwclient.segmenting import Length, Piece, cut
from gwclient.strain import Run
from gwwire.segment import NDJSON
from tools.benchmark.machine import describe_machine, describe_versions
from tools.benchmark.report import Circumstances, write_section
from scripts.trio import ServiceDied, Trio, free_ports

_REPORT = Path(__file__).parents[2] / "docs" / "benchmarks.md"
_ENDLESS = {"MAX_SIZE": "1000TB"}
_SAMPLES = (300, 4096, 16384)
_CONCURRENCIES = (16, 64)
#: Segments in one run of strain; each run is another one to the gateway, by its t0.
_IN_A_RUN = 64
_RATE = 4096
_CREATED = b'{"resp":"CREATED","body":"Written"}'


class PushSpoiled(Exception):
    """A push was not acknowledged as a whole; the message says why."""


@dataclass(frozen=True)
class Cell:
    """What was measured.

    Attributes:
        server: where it was pushed to.
        samples: in a segment.
        concurrency: segments on their way at a time.
        rate: segments acknowledged in a second.
        megabytes: MB acknowledged in a second.
        cpu: the client's user and system time, in s per 1000 segments.

    """

    server: str
    samples: int
    concurrency: int
    rate: float
    megabytes: float
    cpu: float

    def line(self) -> str:
        """Give a row of the table."""
        return (
            f"| {self.server} | {self.samples} | {self.concurrency} | {self.rate:,.0f} | {self.megabytes:.1f} | "
            f"{self.cpu:.2f} |"
        )


HEAD = ("| into | samples | at a time | segments/s | MB/s | client CPU |", "|---|--:|--:|--:|--:|--:|")


def _pieces(samples: int, first_run: int, seconds: float) -> Iterator[Piece]:
    """Give new segments for so many s."""
    strain = np.random.default_rng(samples).normal(0, 1e-19, samples * _IN_A_RUN)
    began, number = time.monotonic(), first_run
    while time.monotonic() - began < seconds:
        t0 = 1_000_000_000.0 + number * samples * _IN_A_RUN / _RATE
        number += 1
        yield from cut(Run(strain, t0, 1 / _RATE, "L1:BENCH-STRAIN", {"detector": "L1"}), Length(samples=samples))


async def _push(server: str, url: str, samples: int, concurrency: int, seconds: float) -> Cell:
    with tempfile.TemporaryDirectory() as folder:
        cursor = Cursor.open(Path(folder), "bench", url, Length(samples=samples))
        with closing(cursor):
            async with GlitchflowClient(url) as client:
                began, used = time.perf_counter(), time.process_time()
                report = await push(
                    client, _pieces(samples, concurrency * 10**6, seconds), concurrency=concurrency,
                    listener=Keeping(Listener(), cursor),
                )  # fmt: skip
                took, used = time.perf_counter() - began, time.process_time() - used
    if report.ending is not Ending.COMPLETE:
        raise PushSpoiled(f"{server}: {report.ending}: {report.error}")
    count = len(report.acknowledged)
    return Cell(server, samples, concurrency, count / took, report.bytes / took / 1e6, 1000 * used / count)


def measure(server: str, url: str, seconds: float) -> Iterator[Cell]:
    """Push segments of every size, with every concurrency.

    Raises:
        PushSpoiled: not everything was acknowledged.

    """
    for samples in _SAMPLES:
        for concurrency in _CONCURRENCIES:
            yield asyncio.run(_push(server, url, samples, concurrency, seconds))


def serve_null() -> None:
    """Serve nothing, on a free port that is told in a line, until standard input ends."""

    async def offer(_: web.Request) -> web.Response:
        return web.Response(status=204, headers={"Accept-Post": f"application/json, {NDJSON}"})

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        if request.content_type == NDJSON:
            return web.Response(body=(_CREATED + b"\n") * body.count(b"\n"), content_type=NDJSON)
        return web.Response(body=_CREATED, content_type="application/json")

    async def work() -> None:
        app = web.Application(client_max_size=2**26)
        app.add_routes([web.options("/streamdata", offer), web.post("/streamdata", take)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        await runner.cleanup()

    asyncio.run(work())


@contextmanager
def _null_server() -> Iterator[str]:
    command = [sys.executable, "-m", "tools.benchmark.client", "--serve-null"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdin is None or process.stdout is None:
            raise OSError("the server that does nothing has no pipes")
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def run(seconds: float, home: Path) -> list[Cell]:
    """Measure both servers, telling the numbers as they come.

    Raises:
        PushSpoiled: not everything was acknowledged.
        ServiceDied: a service ended.

    """
    cells: list[Cell] = []

    def tell(cell: Cell) -> None:
        tqdm.write(cell.line())
        cells.append(cell)

    tqdm.write("\n".join(HEAD))
    with _null_server() as url:
        for cell in measure("nothing", url, seconds):
            tell(cell)
    with (home / "services.log").open("ab") as output, Trio(home, free_ports(), _ENDLESS, output=output) as trio:
        for cell in measure("the trio", trio.url, seconds):
            tell(cell)
    return cells


def section(cells: list[Cell], circumstances: Circumstances) -> list[str]:
    """Tell it."""
    text = (
        "The client pushes segments it cuts from strain in memory, with keys and a cursor, as `gwclient push` does: "
        "into a server that only reads and answers, and into the trio, which stores them. All processes share the "
        "machine. Client CPU is in seconds per 1000 segments."
    )
    return [*circumstances.lines(), "", text, "", *HEAD, *(cell.line() for cell in cells)]


def main(arguments: list[str]) -> int:
    """Measure and report; 2 where that could not be done."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark.client", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement")
    parser.add_argument("--no-report", action="store_true", help="tell the numbers, and leave the report as it is")
    parser.add_argument("--serve-null", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve_null:
        serve_null()
        return 0
    try:
        with tempfile.TemporaryDirectory(prefix="glitchflow-bench-") as home:
            circumstances = Circumstances(
                f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
                "python -m tools.benchmark.client",
                describe_machine(Path(home)),
                describe_versions(),
            )
            cells = run(options.seconds, Path(home))
    except (PushSpoiled, ServiceDied, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    if not options.no_report:
        write_section(_REPORT, "client", section(cells, circumstances))
        print(f"\nwritten to {os.path.relpath(_REPORT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
