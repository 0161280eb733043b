"""Bundles that wait until the batches of their segments are back from tape."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

from databuffer.errors import NoReplica, NotFound, RecallTooLarge
from databuffer.search.waiting import BundleChanges
from databuffer.tiers.recalls.reading import not_readable
from databuffer.tiers.recalls.recall import Recalls
from gwwire.problems import ProblemError
from gwwire.tiering import Recall, RecallState

log = logging.getLogger(__name__)

#: The interval at which a waiting bundle reads the progress of its recalls.
_POLL_SECONDS = 0.5
#: The pause after an error of the catalog or of a tier.
_PAUSE_SECONDS = 5.0
#: Errors that waiting does not end.
_FOR_GOOD = (NotFound, NoReplica, RecallTooLarge)

#: Called when the batches of a bundle can be read, or with the reason why they cannot be brought back.
Then = Callable[[str | None], Awaitable[None]]


@dataclass(frozen=True)
class Waiting:
    """The progress of the recalls of a bundle in percent, and the reason why they wait."""

    percent: int
    reason: str


class BundleRecalls:
    """Recalls the batches of bundles, and continues each bundle when all of them can be read."""

    def __init__(self, recalls: Recalls, changes: BundleChanges) -> None:
        self._recalls = recalls
        self._changes = changes
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._waiting: dict[str, Waiting] = {}

    @property
    def are_possible(self) -> bool:
        """Return whether there is a tape."""
        return self._recalls.has_tape

    async def begin(self, bundle: str, batches: Collection[str]) -> bool:
        """Ask for those batches of a bundle that are on tape only; return whether there are any.

        A recall that has failed is begun again. Raise RecallTooLarge if they cannot be readable at the same time.
        """
        return bool(await self._recalls.ask_for_all(batches, _asker(bundle), again=True))

    async def check(self, bundle: str, batches: Collection[str]) -> None:
        """Raise OnTape if batches of a bundle are on tape only, and begin their recall; TierFailed if one failed."""
        if missing := await self._recalls.ask_for_all(batches, _asker(bundle)):
            raise not_readable(max(missing, key=lambda each: (each.state is RecallState.FAILED, each.seconds)))

    def wait(self, bundle: str, batches: Collection[str], then: Then) -> None:
        """Do `then` as soon as the batches of a bundle can be read, or one of them cannot be brought back."""
        self.stop(bundle)
        self._waiting[bundle] = Waiting(0, "its batches are recalled from tape")
        self._tasks[bundle] = asyncio.create_task(self._wait(bundle, batches, then))

    def waiting(self, bundle: str) -> Waiting | None:
        """Return how far the recalls of a bundle are, or None if it does not wait."""
        return self._waiting.get(bundle)

    def stop(self, bundle: str) -> None:
        """End the waiting of a bundle."""
        self._waiting.pop(bundle, None)
        if task := self._tasks.pop(bundle, None):
            task.cancel()

    async def release(self, bundle: str) -> None:
        """Release the batches of a bundle."""
        await self._recalls.release_all(_asker(bundle))

    async def close(self) -> None:
        """End all waiting; the next process begins again."""
        tasks = list(self._tasks.values())
        for bundle in list(self._tasks):
            self.stop(bundle)
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def _wait(self, bundle: str, batches: Collection[str], then: Then) -> None:
        while True:
            try:
                missing, failure = await self._ask(bundle, batches)
                if failure:
                    await self.release(bundle)
                if failure or not missing:
                    await then(failure)
                    break
                self._tell(bundle, _waiting(missing, len(batches)))
                pause = _POLL_SECONDS
            except ProblemError as error:
                log.warning("bundle %s waits: %s", bundle, error.detail, extra={"event": "recall-error"})
                self._tell(bundle, Waiting(0, error.detail))
                pause = _PAUSE_SECONDS
            await asyncio.sleep(pause)
        self._waiting.pop(bundle, None)
        self._tasks.pop(bundle, None)
        self._changes.announce(bundle)

    async def _ask(self, bundle: str, batches: Collection[str]) -> tuple[Sequence[Recall], str | None]:
        """Return the batches that are not back yet, and the reason why one of them cannot be brought back."""
        try:
            missing = await self._recalls.ask_for_all(batches, _asker(bundle))
        except _FOR_GOOD as error:
            return [], error.detail
        failed = next((each for each in missing if each.state is RecallState.FAILED), None)
        return missing, not_readable(failed).detail if failed else None

    def _tell(self, bundle: str, now: Waiting) -> None:
        if self._waiting.get(bundle) != now:
            self._waiting[bundle] = now
            self._changes.announce(bundle)


def _waiting(missing: Sequence[Recall], of: int) -> Waiting:
    done = 100 * (of - len(missing)) + sum(each.percent for each in missing)
    failed = next((each.reason for each in missing if each.reason), None)
    reason = f"{len(missing)} of {of} batches are recalled from tape"
    return Waiting(min(done // of, 99), f"{reason}; {failed}" if failed else reason)


def _asker(bundle: str) -> str:
    return f"bundle/{bundle}"
