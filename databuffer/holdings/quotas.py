"""The quotas of groups: bytes that the holdings of each may have in all, and in single tiers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import sqlalchemy as sa

from databuffer.holdings import packed, table


class Left(NamedTuple):
    """The bytes that a group has left of a quota, and what the quota is, in words."""

    bytes: int
    quota: str


@dataclass(frozen=True)
class Quotas:
    """The bytes that the holdings of each group may have: `total` in all, 0: unlimited, and in `tiers` by name.

    The tiers are the disk and those that files of holdings are copied to, so that a new file counts for each of them
    from the moment it is put. It counts no more for one that has dropped or evicted it.
    """

    total: int = 0
    tiers: Mapping[str, int] = field(default_factory=dict)

    def left(self, connection: sa.Connection, group: str | None) -> Left | None:
        """Return what a group has left of the quota that allows it the least, or None without a group or quotas."""
        if group is None or not (self.total or self.tiers):
            return None
        used = table.bytes_of_group(connection, group)
        found = [
            Left(quota - used + packed.bytes_gone_from(connection, group, tier), f"in {tier} (HOLDING_TIER_QUOTA)")
            for tier, quota in self.tiers.items()
        ]
        if self.total:
            found.append(Left(self.total - used, "(HOLDING_QUOTA)"))
        return min(found)

    def used(self, connection: sa.Connection, group: str) -> dict[str, int]:
        """Return the bytes of a group that count for the quotas of single tiers, by tier."""
        used = table.bytes_of_group(connection, group) if self.tiers else 0
        return {tier: used - packed.bytes_gone_from(connection, group, tier) for tier in self.tiers}
