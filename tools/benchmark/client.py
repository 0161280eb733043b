"""The speed of the client when it pushes, to a null server and to the trio.

The null server, `python -m tools.benchmark.client`, reads each request and answers CREATED; what remains is the cost of
the client: cutting, encoding, keys, HTTP, bookkeeping and the cursor.
"""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from aiohttp import web

from gwclient.client import GlitchflowClient
from gwclient.cursor import Cursor, CursorListener
from gwclient.pieces import Length, Piece, cut
from gwclient.push import Ending, Listener, push
from gwclient.strain import Run
from gwwire.segment import NDJSON
from scripts.trio import Trio
from tools.benchmark.report import Circumstances

_SAMPLES = (300, 4096, 16384)
_CONCURRENCIES = (16, 64)
#: Segments in one run of strain; each run begins at its own t0.
_IN_A_RUN = 64
_RATE = 4096
_CREATED = b'{"resp":"CREATED","body":"Written"}'


class PushFailed(Exception):
    """A segment was not acknowledged; the message has the reason."""


@dataclass(frozen=True)
class Cell:
    """One measurement.

    Attributes:
        server: the name of the server.
        samples: in a segment.
        concurrency: segments in flight.
        rate: segments acknowledged per second.
        megabytes: MB acknowledged per second.
        cpu: the client's user and system time, in milliseconds per segment.

    """

    server: str
    samples: int
    concurrency: int
    rate: float
    megabytes: float
    cpu: float

    def line(self) -> str:
        """Return a row of the table."""
        return (
            f"| {self.server} | {self.samples} | {self.concurrency} | {self.rate:,.0f} | {self.megabytes:.1f} | "
            f"{self.cpu:.2f} |"
        )


HEAD = ("| into | samples | at a time | segments/s | MB/s | client CPU |", "|---|--:|--:|--:|--:|--:|")


def _pieces(samples: int, channel: str, seconds: float) -> Iterator[Piece]:
    """Yield new segments of a channel for this time."""
    strain = np.random.default_rng(samples).normal(0, 1e-19, samples * _IN_A_RUN)
    began, number = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        t0 = 1_000_000_000.0 + number * samples * _IN_A_RUN / _RATE
        number += 1
        yield from cut(Run(strain, t0, 1 / _RATE, channel, {"detector": "L1"}), Length(samples=samples))


async def _push(server: str, url: str, samples: int, concurrency: int, seconds: float) -> Cell:
    with tempfile.TemporaryDirectory() as folder:
        cursor = Cursor.open(Path(folder), "bench", url, Length(samples=samples))
        with closing(cursor):
            async with GlitchflowClient(url) as client:
                began, used = time.perf_counter(), time.process_time()
                report = await push(
                    client, _pieces(samples, f"L1:BENCH-{samples}-{concurrency}", seconds), concurrency=concurrency,
                    listener=CursorListener(Listener(), cursor),
                )  # fmt: skip
                took, used = time.perf_counter() - began, time.process_time() - used
    if report.ending is not Ending.COMPLETE:
        raise PushFailed(f"{server}: {report.ending}: {report.error}")
    count = len(report.acknowledged)
    return Cell(server, samples, concurrency, count / took, report.bytes / took / 1e6, 1000 * used / count)


def _measure(server: str, url: str, seconds: float) -> Iterator[Cell]:
    for samples in _SAMPLES:
        for concurrency in _CONCURRENCIES:
            yield asyncio.run(_push(server, url, samples, concurrency, seconds))


def serve_null() -> None:
    """Serve on a free port, print the address, and stop when standard input ends."""

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
    command = [sys.executable, "-m", "tools.benchmark.client"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if process.stdin is None or process.stdout is None:
            raise OSError("the null server has no pipes")
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def measure_servers(trio: Trio, seconds: float = 3.0) -> Iterator[Cell]:
    """Measure pushes to the null server and to the trio, for some seconds each.

    Raises:
        PushFailed: not every segment was acknowledged.

    """
    with _null_server() as url:
        yield from _measure("nothing", url, seconds)
    yield from _measure("the trio", trio.url, seconds)


def section(cells: list[Cell], circumstances: Circumstances) -> list[str]:
    """Return the section on the client."""
    text = (
        "The client pushes segments cut from strain in memory, with keys and a cursor, as `gwclient push` does: to a "
        "server that only reads and answers, and to the trio, which stores them. Client CPU is in milliseconds per "
        "segment."
    )
    return [*circumstances.lines(), "", text, "", *HEAD, *(cell.line() for cell in cells)]


if __name__ == "__main__":
    serve_null()
