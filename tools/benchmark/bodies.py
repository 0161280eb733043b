"""Segments as a detector's client sends them; the same in every run."""

import random

#: Distinct segments that take turns, so that nothing below can live off having seen the last one.
DISTINCT = 4
#: Segments in one NDJSON request: so many, or as many as fit into so many bytes.
_LINES = 32
_REQUEST_BYTES = 3_300_000
_DT = 1 / 4096
#: The size of strain where a detector hears most.
_SIGMA = 1e-19


def segment_bodies(samples: int) -> list[bytes]:
    """Give `DISTINCT` segments as compact JSON, each of `samples` full float64 numbers, one after the other in time."""
    noise = random.Random(samples)  # noqa: S311 (reproducible, not secret)
    return [_segment(noise, samples, 1126259446 + number * samples * _DT) for number in range(DISTINCT)]


def _segment(noise: random.Random, samples: int, t0: float) -> bytes:
    strain = ",".join(repr(noise.gauss(0, _SIGMA)) for _ in range(samples))
    return f'{{"h":[{strain}],"t":[{t0!r},{_DT!r}]}}'.encode()


def mean_size(bodies: list[bytes]) -> float:
    """Give the mean size in bytes."""
    return sum(map(len, bodies)) / len(bodies)


def lines_per_request(bodies: list[bytes]) -> int:
    """Give how many of these segments one NDJSON request carries."""
    return max(1, min(_LINES, int(_REQUEST_BYTES / mean_size(bodies))))


def ndjson_bodies(bodies: list[bytes]) -> list[bytes]:
    """Give requests of a segment a line, each beginning with another segment."""
    count = lines_per_request(bodies)
    return [
        b"".join(bodies[(start + line) % len(bodies)] + b"\n" for line in range(count)) for start in range(len(bodies))
    ]
