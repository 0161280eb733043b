"""The rules of the datastore, as pure functions."""


def bytes_needed(max_size: int) -> int:
    """Return the minimum bytes of a batch that may be frozen: `max_size`, and at least 1.

    The buffer compares and freezes in one step. A freeze of a batch that is frozen already is answered for any size.
    """
    return max(1, max_size)
