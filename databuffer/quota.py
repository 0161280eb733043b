"""How much a group may store in a day of UTC.

What it has stored is counted in the catalog, in the transaction that stores it; here is what that has counted by now.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from databuffer.errors import QuotaExceeded
from gwwire.public import Quota

DAY_SECONDS = 86_400
_DAY_NS = DAY_SECONDS * 10**9


def day_of(unix_ns: int) -> int:
    """Give the day of UTC, counted from 1970 on."""
    return unix_ns // _DAY_NS


@dataclass(frozen=True)
class Spending:
    """The bytes that each group stored on one day."""

    day: int = 0
    used: Mapping[str, int] = field(default_factory=dict)

    def of(self, group: str, day: int) -> int:
        """Give what a group has stored on a day; nothing yet on any other than this."""
        return self.used.get(group, 0) if day == self.day else 0

    def with_more(self, more: "Spending") -> "Spending":
        """Give this and what was stored since."""
        return more if more.day != self.day else Spending(self.day, Counter(self.used) + Counter(more.used))


class DailyQuota:
    """What each group may store a day.

    Args:
        limit: bytes; 0: as much as it likes, and nothing is counted.

    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.spending = Spending()

    def told(self, group: str | None, now: int) -> Quota | None:
        """Give a group's limit and what of it is used; None where there is no limit, or nobody it would be for."""
        if group is None or not self.limit:
            return None
        day = day_of(now)
        return Quota(group, self.limit, self.spending.of(group, day), (day + 1) * DAY_SECONDS)

    def refusals(self, coming: Sequence[tuple[str | None, int]], now: int) -> list[QuotaExceeded | None]:
        """Look which segments a group's quota has room for, in the order they came.

        Args:
            coming: of each segment its group and its bytes.
            now: ns of Unix time.

        """
        if not self.limit:
            return [None] * len(coming)
        day = day_of(now)
        taken: Counter[str] = Counter()
        found: list[QuotaExceeded | None] = []
        for group, size in coming:
            used = 0 if group is None else self.spending.of(group, day) + taken[group]
            if group is None or used + size <= self.limit:
                taken[group or ""] += size
                found.append(None)
            else:
                found.append(self._exceeded(group, used, size, now))
        return found

    def spent(self, stored: Sequence[tuple[str | None, int]], now: int) -> Spending:
        """Sum up what was stored, group by group."""
        sums: Counter[str] = Counter()
        if self.limit:
            for group, size in stored:
                if group is not None:
                    sums[group] += size
        return Spending(day_of(now), sums)

    def _exceeded(self, group: str, used: int, size: int, now: int) -> QuotaExceeded:
        left = math.ceil(((day_of(now) + 1) * _DAY_NS - now) / 10**9)
        return QuotaExceeded(
            f"group {group} has stored {used} of {self.limit} bytes today (GROUP_QUOTA), and this segment has {size}",
            retry_after=left,
        )
