"""Nanoseconds of Unix time: as text, and from a clock that is not affected by changes of the system time."""

import time
from datetime import UTC, datetime, timedelta

_START = time.time_ns() - time.monotonic_ns()
_SECOND = 10**9
_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)
#: The end of the year 9999, in microseconds of Unix time.
_LAST = (datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC) - _EPOCH) // _MICROSECOND
#: The beginning of the year 1.
_FIRST = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
#: The latest time that the catalog can hold.
LATEST = 2**63 - 1


def steady_ns() -> int:
    """Return the Unix time, ignoring clock changes since the process started."""
    return _START + time.monotonic_ns()


def wall_ns(steady: int) -> int:
    """Convert a steady time to the system clock's time, rounded to the second."""
    return steady + round((time.time_ns() - steady_ns()) / _SECOND) * _SECOND


def utc_text(unix_ns: int) -> str:
    """Return a time as RFC 3339 in UTC, to the microsecond, or the nearest in the years from 1 to 9999."""
    moment = _EPOCH + max(_FIRST, min(unix_ns // 1000, _LAST)) * _MICROSECOND
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def unix_ns(text: str) -> int:
    """Parse what `utc_text` returned."""
    return ns_of(datetime.fromisoformat(text))


def ns_of(moment: datetime) -> int:
    """Return a time, or the nearest that the catalog can hold, which ends in 2262."""
    exact = int(moment.replace(microsecond=0).timestamp()) * _SECOND + moment.microsecond * 1000
    return max(-LATEST, min(exact, LATEST))
