"""The daily quotas of groups; the catalog counts their use in the transaction that stores segments."""

import math
from collections import Counter
from collections.abc import Sequence

from databuffer.errors import QuotaExceeded
from databuffer.ingest.incoming import Incoming
from databuffer.storage.spending import DAY_NS, DAY_SECONDS, Spending, day_of
from gwwire.public import Quota


class DailyQuota:
    """The quota of each group: `limit` bytes per UTC day; 0: unlimited, and nothing is counted."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.spending = Spending()

    def of(self, group: str | None, now: int) -> Quota | None:
        """Return a group's limit and its use, or None if there is no limit or no group."""
        if group is None or not self.limit:
            return None
        day = day_of(now)
        return Quota(group, self.limit, self.spending.of(group, day), (day + 1) * DAY_SECONDS)

    def admit(self, coming: Sequence[Incoming], now: int) -> list[Incoming]:
        """Return the segments within the quota of their group, in order; refuse the others."""
        if not self.limit:
            return list(coming)
        day = day_of(now)
        taken: Counter[str] = Counter()
        admitted = []
        for each in coming:
            group = each.group
            used = 0 if group is None else self.spending.of(group, day) + taken[group]
            if group is not None and used + each.size > self.limit:
                each.refuse(self._exceeded(group, used, each.size, now))
                continue
            if group is not None:
                taken[group] += each.size
            admitted.append(each)
        return admitted

    def spent(self, stored: Sequence[Incoming], now: int) -> Spending:
        """Return the stored bytes of each group."""
        sums: Counter[str] = Counter()
        if self.limit:
            for each in stored:
                if each.group is not None:
                    sums[each.group] += each.size
        return Spending(day_of(now), sums)

    def add(self, spent: Spending) -> None:
        """Count stored bytes."""
        self.spending = self.spending.with_more(spent)

    def _exceeded(self, group: str, used: int, size: int, now: int) -> QuotaExceeded:
        left = math.ceil(((day_of(now) + 1) * DAY_NS - now) / 10**9)
        return QuotaExceeded(
            f"group {group} has stored {used} of {self.limit} bytes today (GROUP_QUOTA), and this segment has {size}",
            retry_after=left,
        )
