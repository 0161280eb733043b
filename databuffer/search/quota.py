"""The quotas of groups: how many bytes the built files of the bundles that a group ordered may take."""

from collections.abc import Collection, Sequence

from databuffer.errors import QuotaExceeded
from databuffer.search.cache import to_delete
from databuffer.search.table import BundleRow
from gwwire.bundles import BundleState


class BundleQuota:
    """The quota of each group: `limit` bytes; 0: unlimited."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def to_delete(self, group: str, needed: int, rows: Sequence[BundleRow], in_use: Collection[str]) -> list[str]:
        """Return the bundles to delete before one of `needed` bytes is built for a group, in the order of the rows.

        Raise QuotaExceeded if the quota is too small without those in use; then nothing needs to be deleted.
        """
        if needed > self.limit:
            limit = f"group {group} may have {self.limit:,} (BUNDLE_QUOTA)"
            raise QuotaExceeded(
                f"the files need {needed:,} bytes, and {limit}; select a shorter span, or the format tar"
            )
        held = {row.id: row.held for row in rows if row.group == group and row.held}
        kept = {row.id for row in rows if row.state is not BundleState.READY} | set(in_use)
        busy = sum(size for bundle, size in held.items() if bundle in kept)
        if busy + needed > self.limit:
            raise QuotaExceeded(
                f"the files need {needed:,} bytes, and of the {self.limit:,} of group {group} (BUNDLE_QUOTA)"
                f" {busy:,} are in bundles that are being built or downloaded; wait for them, or cancel one of them"
            )
        return list(to_delete(held, [row.id for row in rows], kept, self.limit - needed))
