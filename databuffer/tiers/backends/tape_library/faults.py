"""Failures of a tape on request, for tests and exercises."""

from fnmatch import fnmatchcase
from pathlib import Path

from databuffer.tiers.tier import TierError


class TapeFaults:
    """The file `faults` in the folder of a tape: lines `OPERATION PATTERN REASON…`.

    An operation is `write`, `stage` or `read`; a pattern is matched with the key, as in a shell.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def check(self, operation: str, key: str) -> None:
        """Raise TierError if the file says that this operation fails."""
        try:
            lines = self._file.read_text().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            failing, _, rest = line.partition(" ")
            pattern, _, reason = rest.partition(" ")
            if failing == operation and fnmatchcase(key, pattern):
                raise TierError(f"{operation} of {key}: {reason}")
