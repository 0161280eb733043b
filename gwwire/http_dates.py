"""Times in the headers of HTTP."""

import time
from email.utils import parsedate_to_datetime


def parse_retry_after(header: str) -> float | None:
    """Parse a `Retry-After` header, seconds or an HTTP date; return s, or None if it is invalid."""
    if header.isdecimal():
        return float(header)
    date = parse_date(header)
    return None if date is None else max(0.0, date - time.time())


def parse_date(header: str) -> float | None:
    """Parse an HTTP date; return Unix s, or None if it is invalid."""
    try:
        return parsedate_to_datetime(header).timestamp()
    except ValueError:
        return None
