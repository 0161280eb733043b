"""Packs pieces of strain for the way: each as JSON under a key of its own, and several in a block, for one request.

A block is as many pieces as belong together however the push goes, and its key follows from its bytes: whoever pushes
the same strain again, after a crash too, sends each segment under the same key, by which the gateway stores it once.
"""

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from gwclient.errors import GwclientError
from gwclient.strain import Span

#: The segments of a block, fewer at the end and where they are large.
BLOCK = 8
#: A block is full with this many samples, some 4 MB of JSON; what crosses the line is still in it.
_FULL = 180_000


class Sendable(Protocol):
    """What can be sent: a piece of a run, or what waits on a disk."""

    @property
    def span(self) -> Span:
        """The channel and the GPS span that it covers."""
        ...

    @property
    def seconds(self) -> float:
        """How much strain this is, in s."""
        ...

    @property
    def samples(self) -> int:
        """How many samples these are."""
        ...

    def body(self) -> bytes:
        """Give the segment's compact JSON."""
        ...


@dataclass(frozen=True, eq=False)
class Parcel:
    """A piece as it travels; whoever sends it again sends the same bytes under the same key."""

    piece: Sendable
    body: bytes
    key: str


@dataclass(frozen=True, eq=False)
class Group:
    """Parcels for one request with the key `key`; parcel `i` has the key that line `i` has then.

    One of a live source may be empty: there is nothing yet.
    """

    key: str
    parcels: list[Parcel]

    @property
    def size(self) -> int:
        """How many bytes the segments have."""
        return sum(len(parcel.body) for parcel in self.parcels)


class Grouper:
    """Packs what a source gives, in its order.

    Args:
        pieces: what to pack; pulled one by one. A live source gives None where it has nothing yet.
        block: how many pieces make a block; 1 for a source that does not give the same pieces again.
        is_done: whether a piece was acknowledged before, and need not travel.
        salt: other keys for the same strain.

    """

    def __init__(
        self,
        pieces: Iterable[Sendable | None],
        *,
        block: int = BLOCK,
        is_done: Callable[[Span], bool] = lambda _: False,
        salt: str = "",
    ) -> None:
        self._pieces = iter(pieces)
        self._block = block
        self._is_done = is_done
        self._salt = salt.encode()
        self._ready: deque[Group] = deque()
        self._most_bytes = math.inf
        self._failure: GwclientError | None = None
        self.done_before: list[Span] = []

    def take(self, most: int) -> Group | None:
        """Give the next block if it has up to `most` pieces, all of them to be sent, else the next piece alone.

        Returns:
            A group; an empty one where a live source has nothing yet; None at the end.

        Raises:
            GwclientError: the source failed; all that it gave before has been given.

        """
        while not self._ready:
            block = self._next_block()
            if block is None:
                self._tell_failure()
                return None
            if not block:
                return Group("", [])
            self._pack(block, most)
        return self._ready.popleft()

    def shrink(self, refused: Group) -> None:
        """Send no more blocks as large as this one, which was too large, in one request."""
        self._most_bytes = refused.size // 2

    def rest(self) -> Iterator[Sendable]:
        """Give what was not taken, as it is; of a live source, what it has by now.

        Raises:
            GwclientError: the source failed; all that it gave before has been given.

        """
        while self._ready:
            yield from (parcel.piece for parcel in self._ready.popleft().parcels)
        while (piece := self._next()) is not None:
            if not self._is_done(piece.span):
                yield piece
        self._tell_failure()

    def _next_block(self) -> list[Sendable] | None:
        """Give the pieces of the next block: empty where there are none yet, None at the end."""
        block: list[Sendable] = []
        samples = 0
        while len(block) < self._block and samples < _FULL:
            try:
                piece = next(self._pieces)
            except StopIteration:
                return block or None
            except GwclientError as error:
                self._failure = error
                return block or None
            if piece is None:
                break
            block.append(piece)
            samples += piece.samples
        return block

    def _pack(self, block: list[Sendable], most: int) -> None:
        done = [self._is_done(piece.span) for piece in block]
        self.done_before += [piece.span for piece, is_done in zip(block, done, strict=True) if is_done]
        if all(done):
            return
        bodies = [piece.body() for piece in block]
        digest = hashlib.blake2b(self._salt, digest_size=16)
        for body in bodies:
            digest.update(body)
        key = digest.hexdigest()
        whole = Group(key, [Parcel(*each, f"{key}/{i}") for i, each in enumerate(zip(block, bodies, strict=True))])
        if len(block) <= most and whole.size <= self._most_bytes and not any(done):
            self._ready.append(whole)
        else:
            alone = [parcel for parcel, is_done in zip(whole.parcels, done, strict=True) if not is_done]
            self._ready.extend(Group(parcel.key, [parcel]) for parcel in alone)

    def _next(self) -> Sendable | None:
        """Give a piece; a failure ends the source, but is told only when all it gave is on its way."""
        try:
            return next(self._pieces, None)
        except GwclientError as error:
            self._failure = error
            return None

    def _tell_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
