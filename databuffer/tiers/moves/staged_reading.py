"""Reading bytes that a tier may have to stage first."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from databuffer.metrics import MOVED_BYTES, READ
from databuffer.records.performer import Attempt
from databuffer.tiers.moves.meter import counted
from databuffer.tiers.tier import Locality, StageState, Tier, TierError

#: The first and the longest interval between two questions about the progress; each is twice the last one.
_FIRST_POLL_SECONDS, _POLL_SECONDS = 0.005, 0.5


@dataclass(frozen=True)
class Staging:
    """The progress of a tier that brings a key online, in percent."""

    percent: int


@contextmanager
def online(tier: Tier, key: str, attempt: Attempt) -> Iterator[None]:
    """Wait until a key of a tier can be read, and keep it online for the block.

    Raise TierError if it cannot be staged, Stopped if the attempt must end before.
    """
    if tier.locality([key])[key] is not Locality.NEARLINE:
        yield  # the read finds out what is wrong
        return
    request = tier.stage([key])
    pause = _FIRST_POLL_SECONDS
    try:
        while (found := tier.staged(request)[key]).state is not StageState.COMPLETED:
            if found.state is StageState.FAILED:
                raise TierError(f"tier {tier.name}: {key} cannot be staged: {found.reason}")
            attempt.report(Staging(found.percent))
            attempt.wait(pause)
            pause = min(2 * pause, _POLL_SECONDS)
        yield
    finally:
        tier.release([key])


@contextmanager
def reading_staged(tier: Tier, key: str, attempt: Attempt) -> Iterator[Iterator[bytes]]:
    """Read what lies under a key, once it can be read, and release it when the block ends."""
    with online(tier, key, attempt):
        yield counted(tier.read(key), MOVED_BYTES.labels(tier.name, READ))
