"""Nanoseconds of Unix time as text."""

from datetime import UTC, datetime


def utc_text(unix_ns: int) -> str:
    """Return a time as RFC 3339 in UTC, to the microsecond."""
    seconds, nanoseconds = divmod(unix_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds // 1000:06d}Z"


def unix_ns(text: str) -> int:
    """Parse what `utc_text` returned."""
    moment = datetime.fromisoformat(text)
    return int(moment.replace(microsecond=0).timestamp()) * 10**9 + moment.microsecond * 1000
