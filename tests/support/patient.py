"""A tier whose calls are repeated while they raise TierError, for tiers that fail now and then."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from databuffer.tiers.tier import Capacity, Locality, NotOnline, NotThere, Staged, Stored, Tier, TierError

T = TypeVar("T")
#: Errors that are answers, not failures.
_ANSWERS = ("is not the key of a tier", "expected ")
_MOST = 200


class Patient:
    """Calls `begin(attempt)` before each attempt, with 0 before the first, and `ended` after the last.

    Each answer is read completely before it is returned, so that a read that fails in the middle can be repeated.
    Whatever an attempt returns counts, also if a fault was caused meanwhile: faults never lead to wrong results.
    """

    def __init__(
        self, tier: Tier, begin: Callable[[int], None] = lambda _: None, ended: Callable[[], None] = lambda: None
    ) -> None:
        self._tier = tier
        self._begin = begin
        self._ended = ended
        self.name = tier.name
        self.kind = tier.kind
        self.failures = 0

    def write(self, key: str, size: int, chunks: Iterable[bytes]) -> None:
        """Write; the source has to be repeatable too, so it is read first. It may end with its own exception."""
        came: list[bytes] = []
        failure: Exception | None = None
        try:
            came.extend(chunks)
        except Exception as error:  # noqa: BLE001 (of the source, whatever it is)
            failure = error

        def source() -> Iterator[bytes]:
            yield from came
            if failure:
                raise failure

        self._repeat(lambda: self._tier.write(key, size, source()))

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Read everything, then yield it."""
        return iter(self._repeat(lambda: list(self._tier.read(key, start, stop))))

    def stat(self, key: str) -> Stored | None:
        """See `Tier`."""
        return self._repeat(lambda: self._tier.stat(key))

    def delete(self, key: str) -> None:
        """See `Tier`."""
        self._repeat(lambda: self._tier.delete(key))

    def list(self, prefix: str = "") -> Iterator[Stored]:
        """See `Tier`."""
        return iter(self._repeat(lambda: [*self._tier.list(prefix)]))

    def locality(self, keys: Sequence[str]) -> dict[str, Locality]:
        """See `Tier`; UNAVAILABLE is a failure."""

        def known() -> dict[str, Locality]:
            found = self._tier.locality(keys)
            if Locality.UNAVAILABLE in found.values():
                raise TierError("unavailable")
            return found

        return self._repeat(known)

    def stage(self, keys: Sequence[str]) -> str:
        """See `Tier`."""
        return self._repeat(lambda: self._tier.stage(keys))

    def staged(self, request: str) -> dict[str, Staged]:
        """See `Tier`."""
        return self._repeat(lambda: self._tier.staged(request))

    def release(self, keys: Sequence[str]) -> None:
        """Release once: whether a release that failed had its effect is not known."""
        self._begin(0)
        try:
            self._tier.release(keys)
        except TierError:
            self.failures += 1
        finally:
            self._ended()

    def capacity(self) -> Capacity:
        """See `Tier`."""
        return self._repeat(self._tier.capacity)

    def _repeat(self, call: Callable[[], T]) -> T:
        for attempt in range(_MOST):
            self._begin(attempt)
            try:
                return call()
            except (NotThere, NotOnline):
                raise
            except TierError as error:
                if any(text in str(error) for text in _ANSWERS):
                    raise
                self.failures += 1
            finally:
                self._ended()
        raise AssertionError("the call never succeeded")
