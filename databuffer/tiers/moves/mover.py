"""The steps that make, check and delete replicas: `copy:TIER`, `copy:disk`, `drop:disk`, `drop:TIER`, `scrub`.

A replica counts once its bytes were read back and compared with the manifest. Every step can be interrupted at any
point and performed again: what is whole already is only compared, and what was being deleted is deleted, or kept if
no other replica is left.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from databuffer import metrics
from databuffer.errors import MoveFailed
from databuffer.records.performer import Attempt, OwnStep, Performer
from databuffer.state import State
from databuffer.tiers.ledger import replicas
from databuffer.tiers.ledger.wanted import DROP_DISK, copy_step, evict_step
from databuffer.tiers.moves.access import TierAccess
from databuffer.tiers.moves.copies import Copied, Copies
from databuffer.tiers.moves.disk import DiskMoves
from databuffer.tiers.moves.eviction import Evicted, Eviction
from databuffer.tiers.moves.meter import Throttle
from databuffer.tiers.moves.reconcile import reconcile
from databuffer.tiers.moves.replica_ledger import ReplicaLedger
from databuffer.tiers.moves.scrub import Compared, Scrub
from databuffer.tiers.moves.turns import Turns
from databuffer.tiers.packs.pack import PackDamaged
from databuffer.tiers.packs.packs import Packs
from databuffer.tiers.packs.source import PackSource
from databuffer.tiers.tier import TAPE, Tier, TierError
from gwwire.records import ARCHIVED, SCRUB, Record
from gwwire.tiering import DISK

#: Packs that are copied to a tier at the same time; a tape has few drives.
_AT_ONCE = {TAPE: 1}
_USUALLY_AT_ONCE = 2


class Mover:
    """Moves packs between the disk and the tiers, at most `rate` bytes/s in all; 0: unlimited.

    Moves give way to segments, of which `arrivals` returns the number so far.

    Attributes:
        tiers: the tiers besides the disk, by name.
        cache: the tier, or the disk, to which packs on tape are brought to be read.
        errors: why the last call of a tier failed, for those where it did.
        access, turns: what else works on the tiers uses them too.
        steps: the names of the steps that it performs.
        on_change: called in any thread when something has changed, such as when the end of a step is stored.

    """

    def __init__(  # noqa: PLR0913 (the parts of the buffer)
        self,
        packs: Packs,
        state: State,
        ledger: ReplicaLedger,
        performer: Performer,
        *,
        tiers: Mapping[str, Tier],
        rate: int = 0,
        arrivals: Callable[[], int] = lambda: 0,
    ) -> None:
        self._packs = packs
        self._ledger = ledger
        self.access, self.turns = TierAccess(tiers, Throttle(rate, arrivals)), Turns()
        self.tiers, self.cache, self.errors = tiers, self.access.cache, self.access.errors
        self.steps: set[str] = set()
        self.on_change: Callable[[], object] = lambda: None
        parts = state, ledger, self.access, self.turns
        self._copies = Copies(*parts)
        self._disk = DiskMoves(*parts)
        self._eviction = Eviction(*parts)
        self._scrub = Scrub(ledger, self.access)
        for tier in tiers.values():
            metrics.begin_tier(tier.name)
            at_once = _AT_ONCE.get(tier.kind, _USUALLY_AT_ONCE)
            performer.add(self._step(copy_step(tier.name), partial(self._copies.copy, tier), at_once))
        if tiers:
            metrics.LOST_REPLICAS.labels(DISK)
            performer.add(self._step(copy_step(DISK), self._disk.copy))
            performer.add(self._step(DROP_DISK, self._disk.drop))
            performer.add(self._step(SCRUB, self._scrub.scrub))
        if self.cache != DISK:
            performer.add(self._step(evict_step(self.cache), self._eviction.evict))

    def bring_to_cache(self, source: PackSource, attempt: Attempt) -> Copied:
        """Copy a pack to the cache, or compare the replica that is there; raise MoveFailed."""
        with _converting():
            if self.cache == DISK:
                return self._disk.copy(source, attempt)
            return self._copies.copy(self.tiers[self.cache], source, attempt)

    def evict(self, source: PackSource, attempt: Attempt) -> Evicted:
        """Delete the replica of a pack from the cache, while another one is verified and no reader needs it."""
        return self._eviction.evict(source, attempt)

    def is_dropped(self, record: str) -> bool:
        """Return whether the disk has dropped a pack."""
        return self._packs.get(record).is_dropped

    def compare_all(self, record: str, attempt: Attempt) -> Compared:
        """Compare every verified replica of a pack in the tiers besides the disk.

        Raise MoveFailed or NotFound if the disk has dropped the pack, and no replica can be read.
        """
        try:
            return self._scrub.compare_all(self._packs.get(record), attempt)
        finally:
            self.on_change()

    def note_disk(self, record: str, problems: list[str]) -> None:
        """Note that every byte of a pack on the disk was compared with its manifest."""
        self._scrub.note_disk(self._packs.get(record), problems)
        self.on_change()

    def reconcile(self) -> None:
        """Add to the ledger the replicas that it does not know, after a start or a repair of the catalog."""
        reconcile(self._ledger, self.access, self._packs.all())

    def correct_times(self, latest: int) -> None:
        """Correct the times that are after `latest`: the clock was ahead."""
        self._ledger.write(partial(replicas.correct_times, latest=latest), with_reserve=True)

    def _step(self, name: str, perform: Callable[[PackSource, Attempt], Any], at_once: int = 1) -> OwnStep:
        self.steps.add(name)

        def run(record: Record, attempt: Attempt) -> Any:
            with _converting():
                return perform(self._packs.get(record.id), attempt)

        return OwnStep(name, run, (ARCHIVED,), on_request=True, at_once=at_once, ended=lambda _record: self.on_change())


@contextmanager
def _converting() -> Iterator[None]:
    """Raise MoveFailed for the errors of tiers and packs."""
    try:
        yield
    except (TierError, PackDamaged) as error:
        raise MoveFailed(str(error)) from error
