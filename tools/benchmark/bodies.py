"""The segments that are pushed, the same in every run."""

import random

#: Number of distinct segments that take turns, so that no service can profit from having seen the last one.
DISTINCT = 4
#: Upper limits of one NDJSON request: lines and bytes.
_LINES = 32
_REQUEST_BYTES = 3_300_000
_DT = 1 / 4096
#: The amplitude of strain where a detector is most sensitive.
_SIGMA = 1e-19


def segment_bodies(samples: int) -> list[bytes]:
    """Return `DISTINCT` consecutive segments as compact JSON, each of `samples` full float64 numbers."""
    noise = random.Random(samples)  # noqa: S311 (reproducible, not secret)
    return [_segment(noise, samples, 1126259446 + number * samples * _DT) for number in range(DISTINCT)]


def _segment(noise: random.Random, samples: int, t0: float) -> bytes:
    strain = ",".join(repr(noise.gauss(0, _SIGMA)) for _ in range(samples))
    return f'{{"h":[{strain}],"t":[{t0!r},{_DT!r}]}}'.encode()


def mean_size(bodies: list[bytes]) -> float:
    """Return the mean size in bytes."""
    return sum(map(len, bodies)) / len(bodies)


def lines_per_request(bodies: list[bytes]) -> int:
    """Return the number of these segments in one NDJSON request."""
    return max(1, min(_LINES, int(_REQUEST_BYTES / mean_size(bodies))))


def ndjson_bodies(bodies: list[bytes]) -> list[bytes]:
    """Return NDJSON bodies with one segment per line, each beginning with another segment."""
    count = lines_per_request(bodies)
    return [
        b"".join(bodies[(start + line) % len(bodies)] + b"\n" for line in range(count)) for start in range(len(bodies))
    ]
