"""The interface of tiers: they store bytes under a key, whole or not at all, and return them.

A tier knows nothing of batches or packs. Its methods block, and are called in threads, several at a time. The ledger,
not a tier's listing, says what should be where.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from gwwire.tiering import Locality as Locality  # noqa: PLC0414 (backends import it from here)

#: The kind of tiers from which bytes have to be recalled before they are read.
TAPE = "tape"


class TierError(Exception):
    """A tier refused a call or did not answer it; the same call can succeed later."""

    #: True once it is known as the error of its tier: a caller may use another one at the same time.
    is_noted = False


class NotThere(TierError):
    """There is nothing under this key."""


class NotOnline(TierError):
    """The bytes have to be staged before they can be read."""


class StageState(StrEnum):
    """The state of the staging of a key."""

    SUBMITTED = "SUBMITTED"
    STARTED = "STARTED"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Stored:
    """The object under a key; `modified` is in seconds of Unix time."""

    key: str
    size: int
    modified: float


@dataclass(frozen=True, slots=True)
class Staged:
    """The progress of the staging of a key in percent, and the reason of a failure."""

    state: StageState
    percent: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Capacity:
    """Bytes that a tier can hold and holds; None where it cannot say."""

    total: int | None = None
    used: int | None = None

    @property
    def free(self) -> int | None:
        """Return the bytes that are left, or None if the tier cannot say."""
        return None if self.total is None or self.used is None else self.total - self.used


class Tier(Protocol):
    """A place for bytes. Every method raises TierError if the tier refuses the call or does not answer it.

    Keys are relative paths, `a/b.tar`, of ASCII letters, digits and `._-/`.
    """

    #: As in the setting TIERS, such as `object`.
    name: str
    #: `disk`, `object` or `tape`.
    kind: str

    def write(self, key: str, size: int, chunks: Iterable[bytes]) -> None:
        """Store `size` bytes under a key, durably, and replace what is there; nothing appears before all has come."""

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes [start, stop) of a key, by default all; raise NotThere or NotOnline."""

    def stat(self, key: str) -> Stored | None:
        """Return what lies under a key, or None."""

    def delete(self, key: str) -> None:
        """Delete what lies under a key, if there is something."""

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """Yield what lies under keys with a prefix, in the order of the keys."""

    def locality(self, keys: Sequence[str]) -> dict[str, Locality]:
        """Return where the bytes of each key are."""

    def stage(self, keys: Sequence[str]) -> str:
        """Begin to bring keys online, and keep them there until `release`; return the id of the request."""

    def staged(self, request: str) -> dict[str, Staged]:
        """Return how far each key of a request is; raise NotThere if there is no such request."""

    def release(self, keys: Sequence[str]) -> None:
        """Allow keys to go offline that nobody else asked for."""

    def capacity(self) -> Capacity:
        """Return how much the tier can hold and holds."""
