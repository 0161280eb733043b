"""What the load generator is asked and what it answers; it runs as a process of its own."""

import subprocess
import sys
from pathlib import Path
from typing import Literal

import msgspec

_ROOT = Path(__file__).parents[2]
#: What a generator may take beyond its time: to start, to make its bodies, and to hear the last answers.
_MARGIN_SECONDS = 60.0

Mode = Literal["single", "NDJSON"]


class Order(msgspec.Struct, frozen=True):
    """The load to make.

    Attributes:
        url: the route to POST to.
        mode: a segment a request, or many as NDJSON.
        samples: strain samples per segment.
        connections: requests under way at once, each on a connection of its own that is kept.
        seconds: when to stop sending; answers are waited for.
        segments: stop sending after so many, where that is earlier.

    """

    url: str
    mode: Mode
    samples: int
    connections: int
    seconds: float
    segments: int


class Load(msgspec.Struct, frozen=True):
    """What came of an order.

    Attributes:
        requests: requests that were answered.
        created: segments that were acknowledged.
        refused: segments that were not, for whatever reason; a measurement with any is none.
        complaint: the first refusal, in words; empty where there is none.
        segment_bytes: mean size of a segment.
        seconds: from the first request to the last answer.
        cpu_seconds: what the generator itself took of the machine meanwhile.
        p50, p99: seconds from sending a request to its whole answer; 0 where nothing was answered.

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
    """The generator ended without a result; the message is what it said."""


def run_load(order: Order) -> Load:
    """Have a generator carry out an order.

    Raises:
        GeneratorFailed: it could not, for instance because nobody listens.

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
    """Give the value that `share` of an ascending list does not exceed; 0 for an empty list."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
