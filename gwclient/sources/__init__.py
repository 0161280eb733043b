"""Where strain comes from; each source gives runs of strain in the order of their t0."""

from collections.abc import Iterator
from typing import Protocol

from gwclient.strain import Run


class Source(Protocol):
    """Something that has strain."""

    @property
    def seconds(self) -> float:
        """How much strain there will be in s, all channels together."""
        ...

    def runs(self) -> Iterator[Run]:
        """Give the strain, ordered by t0, reading no further ahead than is asked for.

        Raises:
            SourceError: it cannot be had.

        """
        ...
