"""GPS time: seconds since 1980-01-06T00:00:00Z, which count the leap seconds that UTC and Unix time leave out."""

import re
from bisect import bisect_right
from contextlib import suppress
from datetime import UTC, datetime, timedelta

#: Unix time of the GPS epoch.
GPS_EPOCH = 315_964_800
#: GPS seconds at which each leap second since the epoch had been counted, the first of 1981-07-01, the last of
#: 2017-01-01 (IERS Bulletin C 52). Bulletins to 72 announced no other. The status page has the same table.
LEAPS = (
    46_828_801, 78_364_802, 109_900_803, 173_059_204, 252_028_805, 315_187_206, 346_723_207, 393_984_008, 425_520_009,
    457_056_010, 504_489_611, 551_750_412, 599_184_013, 820_108_814, 914_803_215, 1_025_136_016, 1_119_744_017,
    1_167_264_018,
)  # fmt: skip
#: The same moments without the leap seconds counted until then.
_LEAPS_IN_UNIX_TIME = tuple(leap - before for before, leap in enumerate(LEAPS, 1))
_UTC = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?)?Z?", re.ASCII)


def unix_of_gps(gps: float) -> float:
    """Return the Unix time of a GPS time, both in s."""
    return gps + (GPS_EPOCH - utc_offset_of_gps(gps))


def gps_of_unix(unix: float) -> float:
    """Return the GPS time of a Unix time, both in s; within a leap second, the later of the two."""
    seconds = unix - GPS_EPOCH
    return seconds + bisect_right(_LEAPS_IN_UNIX_TIME, seconds)


def utc_offset_of_gps(gps: float) -> int:
    """Return the leap seconds that had been counted since the GPS epoch at a GPS time: GPS - UTC, s."""
    return bisect_right(LEAPS, gps)


def utc_of_gps(gps: float) -> datetime:
    """Return a GPS time as UTC; raise OverflowError if it lies beyond the calendar of `datetime`."""
    return datetime.fromtimestamp(0, UTC) + timedelta(seconds=unix_of_gps(gps))


def gps_of_utc(text: str) -> float | None:
    """Return the GPS time of a date in UTC, as 2015-09-14T09:50:45Z or 2015-09-14 09:50, or None if it is not one."""
    if _UTC.fullmatch(text):
        with suppress(ValueError):  # the 30th of February
            return gps_of_unix(datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC).timestamp())
    return None


def gps_text(seconds: float) -> str:
    """Return GPS seconds as text with as many decimals as needed, up to microseconds."""
    return f"{seconds:.6f}".rstrip("0").rstrip(".")
