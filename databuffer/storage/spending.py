"""The bytes that each group stored on a day of UTC."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

DAY_SECONDS = 86_400
DAY_NS = DAY_SECONDS * 10**9


def day_of(unix_ns: int) -> int:
    """Return the day of UTC, counted from 1970."""
    return unix_ns // DAY_NS


@dataclass(frozen=True)
class Spending:
    """The bytes that each group stored on one day."""

    day: int = 0
    used: Mapping[str, int] = field(default_factory=dict)

    def of(self, group: str, day: int) -> int:
        """Return the bytes that a group stored on a day; 0 on any other day."""
        return self.used.get(group, 0) if day == self.day else 0

    def with_more(self, more: "Spending") -> "Spending":
        """Return the totals after adding newly stored bytes."""
        return more if more.day != self.day else Spending(self.day, Counter(self.used) + Counter(more.used))
