"""The rules of the datastore, as pure functions of what the buffer tells about itself."""

from gwwire.datastore import Description
from gwwire.public import DatastoreState, Stats


def may_freeze(stats: Stats, description: Description, max_size: int) -> bool:
    """Say whether a freeze is granted now.

    A batch is frozen when it holds data, and `max_size` bytes of it at least. Asking for a batch that is frozen
    already is always granted: its holder asks again, and anybody else may know its numbers.
    """
    if description.dstatus is DatastoreState.FROZEN:
        return True
    return stats.n_itm > 0 and stats.buff_size >= max_size


def smallest_meant(stats: Stats) -> int:
    """Give the bytes that a batch must still have for a decision taken on `stats` to hold.

    A batch only grows until it is archived, and an empty one is never meant.
    """
    return max(1, stats.buff_size)
