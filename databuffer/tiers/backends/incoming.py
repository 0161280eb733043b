"""Files that are being written to a tier: they are in a folder of their own until they are whole."""

import time

#: The folder, in the tier's folder.
INCOMING = ".incoming"
#: Seconds without a change after which a file there is taken for abandoned.
_ABANDONED = 86_400.0


def is_abandoned(modified: float) -> bool:
    """Return whether a crash has left a file behind that was changed last at a Unix time; 0: unknown."""
    return 0 < modified < time.time() - _ABANDONED
