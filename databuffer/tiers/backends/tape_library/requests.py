"""Requests to bring keys from tape online."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import RLock
from uuid import uuid4


@dataclass(frozen=True)
class TapeRequest:
    """Keys that a request keeps online, and why some of them did not come online."""

    keys: tuple[str, ...]
    failed: Mapping[str, str] = field(default_factory=dict)


class TapeRequests:
    """The requests of this process, the oldest first. They are in memory: nobody would release those of an ended one.

    The `lock` makes several calls one step.
    """

    def __init__(self) -> None:
        self.lock = RLock()
        self._requests: dict[str, TapeRequest] = {}

    def add(self, keys: Sequence[str]) -> str:
        """Note a request; return its id."""
        request = uuid4().hex
        with self.lock:
            self._requests[request] = TapeRequest(tuple(dict.fromkeys(keys)))
        return request

    def get(self, request: str) -> TapeRequest | None:
        """Return a request, or None if it does not exist or released all its keys."""
        with self.lock:
            return self._requests.get(request)

    def wanted(self) -> list[str]:
        """Return the keys to bring online and keep there, the oldest request first."""
        with self.lock:
            requests = self._requests.values()
            return list(dict.fromkeys(key for one in requests for key in one.keys if key not in one.failed))

    def fail(self, key: str, reason: str) -> None:
        """Note why a key did not come online, in every request that waits for it."""
        with self.lock:
            for request, one in list(self._holding(key)):
                self._requests[request] = TapeRequest(one.keys, {key: reason, **one.failed})

    def release(self, keys: Sequence[str]) -> None:
        """Take each key from the oldest request that has it, if there is one."""
        with self.lock:
            for key in keys:
                for request, one in list(self._holding(key))[:1]:
                    self._requests[request] = TapeRequest(tuple(kept for kept in one.keys if kept != key), one.failed)
                    if one.keys == (key,):
                        del self._requests[request]

    def _holding(self, key: str) -> Iterator[tuple[str, TapeRequest]]:
        return ((request, one) for request, one in self._requests.items() if key in one.keys)
