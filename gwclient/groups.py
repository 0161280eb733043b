"""Groups of segments for one request, each segment with an idempotency key.

The key follows from the bytes of the segment alone: a later push of the same strain, after a crash or beside other
files and detectors, sends the segment under the same key, and the gateway stores it once.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from gwclient.errors import GwclientError, InvalidSource
from gwclient.strain import window_text
from gwfiles.stretches import Span

#: Segments in a group.
MOST_IN_GROUP = 8
#: A group ends with the segment that reaches this many bytes.
_FULL = 4_000_000
#: The line for a live source that had more when the push ended.
_CUT = "what came when the push had ended"


class Sendable(Protocol):
    """A segment to send: a piece of a run, or one in the spool."""

    @property
    def span(self) -> Span:
        """The channel and the GPS span that it covers."""

    @property
    def recorded(self) -> Span:
        """The span as a cursor records it."""

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


class Unread:
    """Collects the spans of a source that could not be read when they were to be sent."""

    def __init__(self) -> None:
        self._spans: dict[tuple[str, str], tuple[float, float]] = {}
        self.is_cut = False  # whether the end of the source was not read

    def note(self, span: Span, error: InvalidSource) -> None:
        """Add the span of a piece, and why."""
        key = str(error), span.channel
        start, stop = self._spans.get(key, (span.start, span.stop))
        self._spans[key] = min(start, span.start), max(stop, span.stop)

    @property
    def lines(self) -> list[str]:
        """A line for each reason and channel."""
        lines = [f"{why} ({channel}{window_text(*ends)})" for (why, channel), ends in self._spans.items()]
        return [*lines, _CUT] if self.is_cut else lines


class Grouper:
    """Takes the pieces of a source, in their order, in groups for one request; see `push` for the arguments."""

    def __init__(
        self, pieces: Iterable[Sendable | None], *, is_done: Callable[[Span], bool] = lambda _: False, salt: str = ""
    ) -> None:
        self._pieces, self._is_done, self._salt = iter(pieces), is_done, salt.encode()
        self._most_bytes = _FULL
        self._ended = False
        self._failure: GwclientError | None = None
        self.done_before: list[Span] = []
        self.unread = Unread()

    def take(self, most: int) -> list[Parcel] | None:
        """Return the next pieces, up to `most`, without those that are done.

        The group is empty while a live source has nothing; at the end it is None, or the source's error is raised.
        """
        group: list[Parcel] = []
        size = 0
        while len(group) < most and size < self._most_bytes and (piece := self._next()) is not None:
            if self._is_done(piece.recorded):
                self.done_before.append(piece.span)
                continue
            try:
                body = piece.body()
            except InvalidSource as error:
                self.unread.note(piece.span, error)
                continue
            size += len(body)
            group.append(Parcel(piece, body, hashlib.blake2b(self._salt + body, digest_size=16).hexdigest()))
        if self._ended and not group:
            self._raise_failure()
            return None
        return group

    def shrink(self, refused: list[Parcel]) -> None:
        """Make groups smaller after one was too large for a request."""
        self._most_bytes = min(self._most_bytes, sum(len(parcel.body) for parcel in refused) // 2)

    def rest(self, within: float = math.inf) -> Iterator[Sendable]:
        """Yield the pieces that were not taken, of a live source those that it has now; raise as `take`.

        After so many s it ends, and `unread` names the rest.
        """
        deadline = time.monotonic() + within
        while (piece := self._next()) is not None:
            if not self._is_done(piece.recorded):
                yield piece
            if time.monotonic() > deadline:
                self.unread.is_cut = True
                return
        self._raise_failure()

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
