"""Packs pieces of strain for the way: each as JSON under a key of its own, and many in a group, for one request."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from uuid import uuid4

from gwclient.errors import GwclientError
from gwclient.segmenting import Piece

#: The most segments in a request.
MOST_LINES = 32
#: A group is full with this many bytes; what crosses the line is still in it.
_FULL = 4 * 2**20


@dataclass(frozen=True, eq=False)
class Parcel:
    """A piece as it travels; whoever sends it again sends the same bytes under the same key."""

    piece: Piece
    body: bytes
    key: str


@dataclass(frozen=True, eq=False)
class Group:
    """Parcels for one request with the key `key`; parcel `i` has the key that line `i` has then."""

    key: str
    parcels: list[Parcel]

    @property
    def size(self) -> int:
        """How many bytes the segments have."""
        return sum(len(parcel.body) for parcel in self.parcels)


class Grouping:
    """Packs what a source gives, in its order; no two groupings ever give the same key.

    Args:
        pieces: what to pack; pulled one by one.
        patience: s after which a group goes as it is, because the source is slow.

    """

    def __init__(self, pieces: Iterable[Piece], patience: float = 0.1) -> None:
        self._pieces = iter(pieces)
        self._name = uuid4().hex
        self._patience = patience
        self._packed = 0
        self._full = _FULL
        self._failure: GwclientError | None = None

    def take(self, most: int) -> Group | None:
        """Give the next up to `most` pieces, fewer where they are large or the source is slow; None at the end.

        Raises:
            GwclientError: the source failed; all that it gave before has been given.

        """
        key = f"{self._name}-{self._packed}"
        packed: list[tuple[Piece, bytes]] = []
        size, started = 0, time.monotonic()
        while (piece := self._next()) is not None:
            packed.append((piece, piece.body()))
            size += len(packed[-1][1])
            if len(packed) >= most or size >= self._full or time.monotonic() - started >= self._patience:
                break
        if not packed:
            self._tell_failure()
            return None
        self._packed += len(packed)
        if len(packed) == 1:
            return Group(key, [Parcel(*packed[0], key)])
        return Group(key, [Parcel(piece, body, f"{key}/{i}") for i, (piece, body) in enumerate(packed)])

    def shrink(self, refused: Group) -> None:
        """Make no more groups as large as this one, which was too large."""
        self._full = min(self._full, refused.size) // 2

    def rest(self) -> Iterator[Piece]:
        """Give what was not taken, as it is.

        Raises:
            GwclientError: the source failed; all that it gave before has been given.

        """
        yield from iter(self._next, None)
        self._tell_failure()

    def _next(self) -> Piece | None:
        """Give a piece; a failure ends the source, but is told only when all it gave is on its way."""
        try:
            return next(self._pieces, None)
        except GwclientError as error:
            self._failure = error
            return None

    def _tell_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
