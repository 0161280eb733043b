"""The stage requests that a tier has open at its server: which keys each of them keeps online."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic

from databuffer.tiers.tier import Staged, StageState

#: A server is asked for the progress after 1/20 of the time that has gone by, and at least every 30 s.
_PATIENCE, _LONGEST_PAUSE = 20, 30.0
#: States that do not change.
ENDED = frozenset({StageState.COMPLETED, StageState.FAILED})


@dataclass
class OpenStage:
    """A request, by the id of the server, and its keys that are not released."""

    id: str
    keys: set[str]
    completed: set[str] = field(default_factory=set)
    _told: Mapping[str, Staged] = field(default_factory=dict)
    _begun: float = field(default_factory=monotonic)
    _asked: float = 0.0

    def told(self) -> Mapping[str, Staged] | None:
        """Return the last answer of the server, or None if it is to be asked again."""
        now = monotonic()
        pause = min((now - self._begun) / _PATIENCE, _LONGEST_PAUSE)
        is_waiting = any(found.state not in ENDED for found in self._told.values())
        return self._told if is_waiting and now < self._asked + pause else None

    def note(self, told: Mapping[str, Staged]) -> None:
        """Keep an answer of the server."""
        self._told, self._asked = told, monotonic()
        self.completed |= {key for key, found in told.items() if found.state is StageState.COMPLETED}


@dataclass(frozen=True, slots=True)
class Ending:
    """Keys that leave a request: those that may still be staged, and whether no other key is left."""

    id: str
    keys: tuple[str, ...]
    waiting: tuple[str, ...]
    is_last: bool


class OpenStages:
    """The open requests, the oldest first. They are in memory: what a crash leaves open ends by its lifetime."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._stages: dict[str, OpenStage] = {}

    def add(self, request: str, keys: Iterable[str]) -> None:
        """Note a new request."""
        with self._lock:
            self._stages[request] = OpenStage(request, set(keys))

    def get(self, request: str) -> OpenStage | None:
        """Return a request, or None if it is not known or all its keys are released."""
        with self._lock:
            return self._stages.get(request)

    def release(self, keys: Iterable[str]) -> list[Ending]:
        """Take each key from the oldest request that has it; return what that ends."""
        left: dict[str, list[str]] = {}
        with self._lock:
            for key in dict.fromkeys(keys):
                for stage in self._holding(key):
                    stage.keys.discard(key)
                    left.setdefault(stage.id, []).append(key)
                    break
            return [self._ending(self._stages[request], some) for request, some in left.items()]

    def _holding(self, key: str) -> Iterator[OpenStage]:
        return (stage for stage in self._stages.values() if key in stage.keys)

    def _ending(self, stage: OpenStage, keys: list[str]) -> Ending:
        if not stage.keys:
            del self._stages[stage.id]
        waiting = tuple(key for key in keys if key not in stage.completed)
        return Ending(stage.id, tuple(keys), waiting, is_last=not stage.keys)
