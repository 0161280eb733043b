"""Where strain comes from; each source gives runs of strain in the order of their t0."""

from collections.abc import Iterator
from typing import Protocol

from gwclient.strain import Run


class Source(Protocol):
    """Something that has strain, with its channel, sample grid and quality, and gives the same each time."""

    @property
    def seconds(self) -> float:
        """How much strain there will be in s, all channels together."""
        ...

    @property
    def identity(self) -> str:
        """What is asked of which source, in one line: what was acknowledged of it is kept under this name."""
        ...

    def runs(self) -> Iterator[Run]:
        """Give the strain, ordered by t0, reading no further ahead than is asked for.

        Raises:
            SourceError: it cannot be had.

        """
        ...
