"""`python -m tools.benchmark.generator`: make the load described on standard input, and print the result.

Request bytes are made before the clock starts. A connection is a uvloop protocol; a loop over epoll took the same CPU
time (37 µs for a request of 98 kB, nearly all of it the kernel's copying), so that one core sends some 26,000 a second.
"""

import asyncio
import itertools
import resource
import sys
import time
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import msgspec
import uvloop

from tools.benchmark.bodies import lines_per_request, mean_size, ndjson_bodies, segment_bodies
from tools.benchmark.load import Load, Order, percentile
from tools.benchmark.responses import Response, parse_response

#: The time limit for answers after the last request.
_DRAIN_SECONDS = 30.0
#: The generator stops after this number of connections that the server closed without an answer.
_BREAKS = 100


@dataclass
class Tally:
    """The answers so far."""

    latencies: list[float] = field(default_factory=list)
    created: int = 0
    refused: int = 0
    complaint: str = ""
    breaks: int = 0
    last_answer: float = 0.0

    def answer(self, answer: Response, segments: int, sent: float) -> None:
        """Count an answer to `segments` segments."""
        self.last_answer = time.perf_counter()
        self.latencies.append(self.last_answer - sent)
        created = answer.created()
        self.created += created
        if created < segments:
            self.refuse(segments - created, f"{answer.status} {answer.body[:300].decode(errors='replace')}")

    def refuse(self, segments: int, complaint: str) -> None:
        """Count segments that were not acknowledged."""
        self.refused += segments
        self.complaint = self.complaint or complaint


class Generator:
    """Send prebuilt requests over some connections until time or segments are used up."""

    def __init__(self, order: Order) -> None:
        place = urlsplit(order.url)
        self.host, self.port = place.hostname or "", place.port or 80
        segments = segment_bodies(order.samples)
        single = order.mode == "single"
        self.segment_bytes = mean_size(segments)
        self.per_request = 1 if single else lines_per_request(segments)
        bodies, media_type = (segments, "json") if single else (ndjson_bodies(segments), "x-ndjson")
        self._requests = itertools.cycle([_request(place.netloc, place.path, media_type, body) for body in bodies])
        self._left = -(-order.segments // self.per_request)
        self._order = order
        self._deadline = 0.0
        self._open = 0
        self.tally = Tally()
        self.done = asyncio.Event()

    async def run(self) -> Load:
        """Connect, send, and wait for the last answer."""
        loop = asyncio.get_running_loop()
        connections = [await self.connect(loop) for _ in range(self._order.connections)]
        self._open = len(connections)
        cpu, began = _cpu_seconds(), time.perf_counter()
        self._deadline = began + self._order.seconds
        for connection in connections:
            connection.send_next()
        try:
            await asyncio.wait_for(self.done.wait(), self._order.seconds + _DRAIN_SECONDS)
        except TimeoutError:
            self.tally.refuse(self._open * self.per_request, f"no answer within {_DRAIN_SECONDS:.0f} s")
        tally = self.tally
        ordered = sorted(tally.latencies)
        return Load(
            requests=len(ordered),
            created=tally.created,
            refused=tally.refused,
            complaint=tally.complaint,
            segment_bytes=self.segment_bytes,
            seconds=max(tally.last_answer - began, 1e-9),
            cpu_seconds=_cpu_seconds() - cpu,
            p50=percentile(ordered, 0.5),
            p99=percentile(ordered, 0.99),
        )

    async def connect(self, loop: asyncio.AbstractEventLoop) -> "Connection":
        """Open one connection."""
        _, connection = await loop.create_connection(lambda: Connection(self), self.host, self.port)
        return connection

    def next_request(self) -> bytes | None:
        """Return the next request, or None when it is time to stop."""
        if self._left <= 0 or time.perf_counter() >= self._deadline or self.tally.breaks >= _BREAKS:
            return None
        self._left -= 1
        return next(self._requests)

    def finish(self) -> None:
        """Count a connection that has finished."""
        self._open -= 1
        if not self._open:
            self.done.set()

    async def replace(self) -> None:
        """Continue over a new connection after the server closed one."""
        try:
            connection = await self.connect(asyncio.get_running_loop())
        except OSError as error:
            self.tally.refuse(self.per_request, str(error))
            self.finish()
        else:
            connection.send_next()


class Connection(asyncio.Protocol):
    """A connection with one request in flight at a time."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._received = bytearray()
        self._sent: float | None = None
        self._replacement: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def send_next(self) -> None:
        """Send a request, or close if it is time to stop."""
        request = self._generator.next_request()
        if request is None:
            self._generator.finish()
            self._transport.close()
            return
        self._sent = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Receive a part of an answer; send the next request when it is complete."""
        self._received += data
        self._take()

    def connection_lost(self, exc: Exception | None) -> None:
        """Accept an answer that ends with its connection; count a request without an answer."""
        if self._sent is None:
            return
        self._take(ended=True)
        if self._sent is not None:
            self._sent = None
            self._generator.tally.breaks += 1
            self._generator.tally.refuse(self._generator.per_request, f"the connection broke: {exc or 'closed'}")
            self._reconnect()

    def _take(self, *, ended: bool = False) -> None:
        answer = parse_response(self._received, ended=ended)
        if answer is None or self._sent is None:
            return
        self._generator.tally.answer(answer, self._generator.per_request, self._sent)
        self._sent = None
        self._received.clear()
        if answer.keeps and not ended:
            self.send_next()
        else:
            self._reconnect()

    def _reconnect(self) -> None:
        self._transport.close()
        self._replacement = asyncio.get_running_loop().create_task(self._generator.replace())


def _request(host: str, path: str, media_type: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/{media_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def _carry_out(order: Order) -> Load:
    return await Generator(order).run()


def main() -> int:
    """Make one load; return 1 if no connection can be made."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    try:
        load = uvloop.run(_carry_out(order))
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(load))
    return 0


if __name__ == "__main__":
    sys.exit(main())
