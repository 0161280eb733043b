"""Groups of segments for one request, each segment with an idempotency key.

A block contains the same pieces however the push goes, and its key follows from its bytes: a later push of the
same strain, after a crash too, sends each segment under the same key, and the gateway stores it once.
"""

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from gwclient.errors import GwclientError
from gwclient.strain import Span

#: Segments in a block; fewer at the end, and if they are large.
BLOCK = 8
#: A block ends with the piece that reaches this many samples, some 4 MB of JSON.
_FULL = 180_000


class Sendable(Protocol):
    """A segment to send: a piece of a run, or one in the spool."""

    @property
    def span(self) -> Span:
        """The channel and the GPS span that it covers."""

    @property
    def samples(self) -> int:
        """The number of samples."""

    def body(self) -> bytes:
        """Return the segment's compact JSON."""


@dataclass(frozen=True, eq=False)
class Parcel:
    """A piece as it is sent; a retry sends the same bytes under the same key."""

    piece: Sendable
    body: bytes
    key: str


@dataclass(frozen=True, eq=False)
class Group:
    """Parcels for one request with the key `key`; parcel `i` has the key of line `i`."""

    key: str
    parcels: list[Parcel]

    @property
    def size(self) -> int:
        """The number of bytes of the segments."""
        return sum(len(parcel.body) for parcel in self.parcels)


class Grouper:
    """Groups the pieces of a source, in their order, up to `block` in a group; see `push` for the arguments."""

    def __init__(
        self,
        pieces: Iterable[Sendable | None],
        *,
        block: int = BLOCK,
        is_done: Callable[[Span], bool] = lambda _: False,
        salt: str = "",
    ) -> None:
        self._pieces, self._block, self._is_done, self._salt = iter(pieces), block, is_done, salt.encode()
        self._ready: deque[Group] = deque()
        self._most_bytes = math.inf
        self._ended = False
        self._failure: GwclientError | None = None
        self.done_before: list[Span] = []

    def take(self, most: int) -> Group | None:
        """Return the next block if it has up to `most` pieces and all are to be sent, else the next piece alone.

        The group is empty while a live source has nothing; at the end it is None, or the source's error is raised.
        """
        while not self._ready:
            block: list[Sendable] = []
            while len(block) < self._block and sum(piece.samples for piece in block) < _FULL:
                piece = self._next()
                if piece is None:
                    break
                block.append(piece)
            if block:
                self._pack(block, most)
            elif self._ended:
                self._raise_failure()
                return None
            else:
                return Group("", [])
        return self._ready.popleft()

    def shrink(self, refused: Group) -> None:
        """Halve the size limit of a group after one was too large for a request."""
        self._most_bytes = refused.size // 2

    def rest(self) -> Iterator[Sendable]:
        """Return the pieces that were not taken, of a live source those that it has now; raise as `take`."""
        while self._ready:
            yield from (parcel.piece for parcel in self._ready.popleft().parcels)
        while (piece := self._next()) is not None:
            if not self._is_done(piece.span):
                yield piece
        self._raise_failure()

    def _pack(self, block: list[Sendable], most: int) -> None:
        done = [self._is_done(piece.span) for piece in block]
        self.done_before += [piece.span for piece, is_done in zip(block, done, strict=True) if is_done]
        if all(done):
            return
        bodies = [piece.body() for piece in block]
        key = hashlib.blake2b(b"".join([self._salt, *bodies]), digest_size=16).hexdigest()
        whole = Group(key, [Parcel(*each, f"{key}/{i}") for i, each in enumerate(zip(block, bodies, strict=True))])
        if len(block) <= most and whole.size <= self._most_bytes and not any(done):
            self._ready.append(whole)
        else:
            alone = [parcel for parcel, is_done in zip(whole.parcels, done, strict=True) if not is_done]
            self._ready.extend(Group(parcel.key, [parcel]) for parcel in alone)

    def _next(self) -> Sendable | None:
        try:
            return next(self._pieces)
        except StopIteration:
            self._ended = True
        except GwclientError as error:
            self._ended, self._failure = True, error
        return None

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
