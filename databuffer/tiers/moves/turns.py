"""Moves of the same pack in the same tier, one after the other."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from databuffer.records.performer import Attempt

#: The interval at which a waiting move checks whether it was stopped.
_TURN_SECONDS = 1.0


@dataclass
class _Turn:
    lock: threading.Lock = field(default_factory=threading.Lock)
    #: Moves that have the lock or wait for it.
    moves: int = 0


class Turns:
    """A lock for each pack and tier, as long as a move has it or waits for it."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._turns: dict[tuple[str, str], _Turn] = {}

    def __len__(self) -> int:
        """Return how many locks there are now."""
        return len(self._turns)

    @contextmanager
    def taking(self, pack: str, tier: str, attempt: Attempt) -> Iterator[None]:
        """Keep other moves of the same pack in the same tier out of the block; raise Stopped."""
        with self._turn(pack, tier) as turn:
            while not turn.lock.acquire(timeout=_TURN_SECONDS):
                attempt.check()
            try:
                yield
            finally:
                turn.lock.release()

    @contextmanager
    def _turn(self, pack: str, tier: str) -> Iterator[_Turn]:
        with self._guard:
            turn = self._turns.setdefault((pack, tier), _Turn())
            turn.moves += 1
        try:
            yield turn
        finally:
            with self._guard:
                turn.moves -= 1
                if not turn.moves:
                    del self._turns[pack, tier]
