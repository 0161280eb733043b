"""The comparison with the yardstick: three programs with only the essential work of a service, outside this project."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT.parent / "shared" / "yardstick" / "compare.py"
#: Number of concurrent requests.
CONNECTIONS = 16
#: Time for a measurement in addition to its seconds, and for both sides to start and stop.
_MARGIN_SECONDS, _START_SECONDS = 30.0, 300.0


class Side(msgspec.Struct, frozen=True):
    """The medians of one side at one segment size.

    Attributes:
        per_s: segments stored per second.
        p99_ms: milliseconds of a request.
        bad: segments that were not stored; a comparison with any is invalid.
        gateway, dslogic, buffer: CPU milliseconds per segment.

    """

    per_s: float
    p99_ms: float
    bad: int
    gateway: float
    dslogic: float
    buffer: float

    @property
    def cpu(self) -> float:
        """CPU milliseconds per segment over all services."""
        return self.gateway + self.dslogic + self.buffer


class Pair(msgspec.Struct, frozen=True):
    """Both sides at one segment size, measured in turns."""

    product: Side
    yardstick: Side


#: By the number of samples in a segment.
Comparison = dict[int, Pair]


class YardstickSkipped(Exception):
    """There is no comparison; the message has the reason."""


def compare(script: Path, samples: Sequence[int], seconds: float, rounds: int, home: Path) -> Comparison:
    """Run the comparison; its data lie under `home` until it ends.

    Raises:
        YardstickSkipped: the script does not exist, or it failed.

    """
    if not script.exists():
        raise YardstickSkipped("the yardstick is not beside the project (../shared/yardstick/compare.py)")
    options = ["--seconds", str(seconds), "--rounds", str(rounds), "--connections", str(CONNECTIONS), "--json"]
    try:
        done = subprocess.run(
            [sys.executable, str(script), *map(str, samples), *options],
            check=False,
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(home)},
            capture_output=True,
            text=True,
            timeout=_START_SECONDS + 2 * rounds * len(samples) * (seconds + _MARGIN_SECONDS),
        )
        if done.returncode:
            raise YardstickSkipped((done.stderr.strip() or f"it ended with status {done.returncode}").splitlines()[-1])
        return msgspec.json.decode(done.stdout, type=Comparison)
    except (subprocess.TimeoutExpired, msgspec.DecodeError) as error:
        raise YardstickSkipped(str(error)) from error
