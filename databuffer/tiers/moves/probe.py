"""Questions to a tier that may not answer."""

import asyncio
import time

from databuffer.storage.clock import utc_text
from databuffer.tiers.moves.own_threads import in_own_thread
from databuffer.tiers.tier import Capacity, Tier, TierError

#: A tier that answered is asked again after this time.
_FRESH_SECONDS = 30.0
#: A request waits this long for a tier; what it answers later is used by the next one.
_WAIT_SECONDS = 3.0
_PROBE = "probe"


class TierProbe:
    """The capacity of a tier and why it does not answer; asked in a thread, once at a time."""

    def __init__(self, tier: Tier) -> None:
        self._tier = tier
        self._task: asyncio.Task[None] | None = None
        self._asked = 0.0
        self._since = ""
        #: The reason if the tier did not answer last time, or None.
        self.failure: str | None = None
        self.capacity = Capacity()

    @property
    def error(self) -> str | None:
        """Return why the tier does not answer, or None; during the next probe, that is the last failure."""
        is_asked = self._task is not None and not self._task.done()
        if not self.failure and is_asked and time.monotonic() >= self._asked + _WAIT_SECONDS:
            return f"tier {self._tier.name} has not answered since {self._since}"
        return self.failure

    def begin(self, fresh: float | None = None) -> None:
        """Begin to ask the tier unless it is being asked, or answered less than `fresh` seconds ago, by default 30."""
        fresh = _FRESH_SECONDS if fresh is None else fresh
        is_fresh = self._task is not None and not self.failure and time.monotonic() < self._asked + fresh
        if (self._task is None or self._task.done()) and not is_fresh:
            self._asked, self._since = time.monotonic(), utc_text(time.time_ns())
            self._task = asyncio.create_task(self._ask())

    async def ask(self, fresh: float | None = None) -> None:
        """Renew what is known if it is older than `fresh` seconds; a tier that hangs is not waited for."""
        self.begin(fresh)
        if self._task:
            await asyncio.wait({self._task}, timeout=_WAIT_SECONDS)

    async def ended(self) -> None:
        """Wait until the tier has answered, or failed."""
        if self._task:
            await asyncio.wait({self._task})

    async def _ask(self) -> None:
        try:
            self.capacity = await in_own_thread(f"tier-{self._tier.name}", self._look)
            self.failure = None
        except TierError as error:
            self.failure = str(error)

    def _look(self) -> Capacity:
        self._tier.stat(_PROBE)  # an object store has no other way to find out
        return self._tier.capacity()
