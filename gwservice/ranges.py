"""Range requests (RFC 9110, section 14) for one range of bytes."""

import re

#: More digits are no number of a byte, and Python refuses to convert thousands of them.
_RANGE = re.compile(r"bytes=\s*(?:(\d{1,100})-(\d{0,100})|-(\d{1,100}))\s*", re.ASCII)


class Unsatisfiable(Exception):
    """No byte of the content is in the range."""


def requested_range(header: str | None, if_range: str | None, size: int, etag: str) -> tuple[int, int] | None:
    """Return the bytes [start, stop) that a request's headers ask for, or None for all of the content.

    A Range that is malformed or has several ranges, and an If-Range that is not the ETag, ask for all of it. Raise
    Unsatisfiable if the range begins after the content.
    """
    found = _RANGE.fullmatch(header or "")
    if found is None or (if_range is not None and if_range.strip() != etag):
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        start, stop = max(size - int(suffix), 0), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= size or (suffix is not None and int(suffix) == 0):
        raise Unsatisfiable
    return start, stop
