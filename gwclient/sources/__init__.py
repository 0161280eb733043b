"""Sources of strain; each returns runs of strain in the order of their t0."""

from collections.abc import Iterator
from typing import Protocol

from gwclient.strain import Run


class Source(Protocol):
    """A source of strain, which returns the same runs each time."""

    @property
    def seconds(self) -> float:
        """How much strain there will be in s, all channels together."""
        ...

    @property
    def identity(self) -> str:
        """What is read from which source, in one line; its cursor is named after it."""
        ...

    def runs(self) -> Iterator[Run]:
        """Return the runs, ordered by t0; each is read when it is needed.

        Raises:
            SourceError: they cannot be read.

        """
        ...
