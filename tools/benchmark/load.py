"""The order to the load generator and its result; the generator is a separate process."""

import subprocess
import sys
from pathlib import Path
from typing import Literal

import msgspec

_ROOT = Path(__file__).parents[2]
#: Extra time for a generator to start, to make its bodies and to receive the last answers.
_MARGIN_SECONDS = 60.0

Mode = Literal["single", "NDJSON"]


class Order(msgspec.Struct, frozen=True):
    """The load to make.

    Attributes:
        url: the route to POST to.
        mode: one segment per request, or many as NDJSON.
        samples: strain samples per segment.
        connections: concurrent requests, each on its own kept connection.
        seconds: when to stop sending; the last answers are awaited.
        segments: stop sending after this number, if that is earlier.

    """

    url: str
    mode: Mode
    samples: int
    connections: int
    seconds: float
    segments: int


class Load(msgspec.Struct, frozen=True):
    """The result of an order.

    Attributes:
        requests: requests that were answered.
        created: segments that were acknowledged.
        refused: segments that were not acknowledged; a measurement with any is invalid.
        complaint: the reason for the first of these, or empty.
        segment_bytes: mean size of a segment.
        seconds: from the first request to the last answer.
        cpu_seconds: CPU time of the generator itself.
        p50, p99: seconds from sending a request to the end of its answer; 0 if there was no answer.

    """

    requests: int
    created: int
    refused: int
    complaint: str
    segment_bytes: float
    seconds: float
    cpu_seconds: float
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Segments acknowledged per second."""
        return self.created / self.seconds


class GeneratorFailed(Exception):
    """The generator ended without a result; the message is its last line."""


def run_load(order: Order) -> Load:
    """Carry out an order in a new generator process.

    Raises:
        GeneratorFailed: it ended with an error, for instance because the connection was refused.

    """
    done = subprocess.run(
        [sys.executable, "-m", "tools.benchmark.generator"],
        check=False,
        cwd=_ROOT,
        input=msgspec.json.encode(order),
        capture_output=True,
        timeout=order.seconds + _MARGIN_SECONDS,
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"status {done.returncode}"]
        raise GeneratorFailed(f"the load generator failed at {order.url}: {lines[-1]}")
    return msgspec.json.decode(done.stdout, type=Load)


def percentile(ordered: list[float], share: float) -> float:
    """Return the value that `share` of an ascending list does not exceed; 0 for an empty list."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
