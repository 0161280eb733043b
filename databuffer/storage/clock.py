"""Nanoseconds of Unix time: as text, and from a clock that is not affected by changes of the system time."""

import time
from datetime import UTC, datetime

_START = time.time_ns() - time.monotonic_ns()
_SECOND = 10**9
#: The latest time that the catalog can hold.
LATEST = 2**63 - 1


def steady_ns() -> int:
    """Return the Unix time, ignoring clock changes since the process started."""
    return _START + time.monotonic_ns()


def wall_ns(steady: int) -> int:
    """Convert a steady time to the system clock's time, rounded to the second."""
    return steady + round((time.time_ns() - steady_ns()) / _SECOND) * _SECOND


def utc_text(unix_ns: int) -> str:
    """Return a time as RFC 3339 in UTC, to the microsecond."""
    seconds, nanoseconds = divmod(unix_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds // 1000:06d}Z"


def unix_ns(text: str) -> int:
    """Parse what `utc_text` returned."""
    return ns_of(datetime.fromisoformat(text))


def ns_of(moment: datetime) -> int:
    """Return a time, or the nearest that the catalog can hold, which ends in 2262."""
    exact = int(moment.replace(microsecond=0).timestamp()) * _SECOND + moment.microsecond * 1000
    return max(-LATEST, min(exact, LATEST))
