"""Staging in a tier whose bytes can always be read."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from databuffer.tiers.tier import Locality, NotThere, Staged, StageState, Stored, TierError

#: A request names its keys, so that nothing has to be remembered.
_REQUEST = "online "


class AlwaysOnline(ABC):
    """The base of such a tier."""

    name: str

    @abstractmethod
    def stat(self, key: str) -> Stored | None:
        """Return what lies under a key, or None."""

    def locality(self, keys: Sequence[str]) -> dict[str, Locality]:
        """Return where the bytes of each key are."""
        return {key: self._locality(key) for key in keys}

    def _locality(self, key: str) -> Locality:
        try:
            return Locality.ONLINE if self.stat(key) else Locality.NONE
        except TierError:
            return Locality.UNAVAILABLE

    def stage(self, keys: Sequence[str]) -> str:
        """Return a request that is complete; raise NotThere if a key is missing."""
        for key in keys:
            if self.stat(key) is None:
                raise NotThere(f"tier {self.name}: there is no {key}")
        return _REQUEST + " ".join(keys)

    def staged(self, request: str) -> dict[str, Staged]:
        """Return that each key of a request is online, if it is still there."""
        if not request.startswith(_REQUEST):
            raise NotThere(f"tier {self.name}: there is no request {request[:100]!r}")
        return {key: self._staged(key) for key in request.removeprefix(_REQUEST).split()}

    def _staged(self, key: str) -> Staged:
        if self.stat(key):
            return Staged(StageState.COMPLETED, 100)
        return Staged(StageState.FAILED, 0, f"there is no {key} any more")

    def release(self, keys: Sequence[str]) -> None:  # noqa: B027 (there is nothing to do)
        """Do nothing."""
