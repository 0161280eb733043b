"""The command `gwclient` in tests: its outcome, and the strain that it sends."""

import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.support.forked import run_forked
from tests.support.gateway import StandInGateway

OPEN_DATA = Path(__file__).parents[2] / ".." / "shared" / "data" / "gwosc"
H1_FILE, L1_FILE = (OPEN_DATA / f"{name}_LOSC_4_V2-1126259446-32.hdf5" for name in ("H-H1", "L-L1"))

with_open_data = pytest.mark.skipif(not L1_FILE.exists(), reason=f"the GW150914 files are not in {OPEN_DATA}")

SIMULATE = ("simulate", "--detectors", "H1,L1", "--seconds", "8", "--rate", "1024")


class Outcome:
    """The exit code and the output of a command."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def in_a_process(*arguments: str, **environment: str) -> Outcome:
    done = run_forked(["gwclient", *arguments], os.environ | environment)
    return Outcome(done.returncode, done.stdout, done.stderr)


def strain_in(path: Path) -> Any:
    with h5py.File(path) as file:
        return file["strain/Strain"][()]


def received(gateway: StandInGateway, detector: str) -> tuple[list[float], list[float]]:
    """Return (t0 of each segment, samples) of one detector."""
    segments = [s for s in gateway.segments if str(s.channel).startswith(detector)]
    return [s.t0 for s in segments], [h for s in segments for h in s.h]


def same_bits(samples: list[float], expected: Any) -> bool:
    return np.asarray(samples).tobytes() == np.ascontiguousarray(expected).tobytes()
