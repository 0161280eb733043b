"""The eviction of packs from the cache of the tape."""

from dataclasses import dataclass
from functools import partial

from databuffer.records.performer import Attempt
from databuffer.state import State
from databuffer.storage.clock import steady_ns
from databuffer.tiers.ledger import replicas
from databuffer.tiers.ledger.replicas import LastReplica, Pinned
from databuffer.tiers.moves.access import TierAccess
from databuffer.tiers.moves.disk import confirm_others
from databuffer.tiers.moves.replica_ledger import ReplicaLedger
from databuffer.tiers.moves.turns import Turns
from databuffer.tiers.packs.pack import PackDamaged
from databuffer.tiers.packs.source import PackSource
from databuffer.tiers.tier import Tier
from gwwire.tiering import ReplicaState

_VERIFIED, _DELETING = ReplicaState.VERIFIED, ReplicaState.DELETING


@dataclass(frozen=True)
class Evicted:
    """The result of an eviction; a pack that a reader needs by now stays."""

    bytes: int
    stays: str | None = None


class Eviction:
    """Deletes replicas from the cache."""

    def __init__(self, state: State, ledger: ReplicaLedger, access: TierAccess, turns: Turns) -> None:
        self._state = state
        self._ledger = ledger
        self._access = access
        self._turns = turns

    def evict(self, source: PackSource, attempt: Attempt) -> Evicted:
        """Delete the replica of a pack from the cache, while another one is verified and no reader needs it."""
        tier = self._access.tiers[self._access.cache]
        with self._turns.taking(source.id, tier.name, attempt):
            seen = self._ledger.of(source).get(tier.name)
            if seen is None or seen.state not in {_VERIFIED, _DELETING}:
                return Evicted(0, "it is not there")
            confirm_others(self._ledger, self._access, source, tier.name, attempt)
            try:
                pinned_at = None if seen.state is _DELETING else steady_ns()  # one that was begun is finished
                begin = partial(replicas.begin_delete, pack=source.id, tier=tier.name, among=self._access.tiers)
                self._ledger.write(partial(begin, unless_pinned_at=pinned_at))
            except (LastReplica, Pinned) as reason:
                if seen.state is _DELETING:
                    self._keep(tier, source, attempt)
                return Evicted(0, reason.detail)
            if source.is_dropped:
                self._ledger.write_dropped(source)
            with self._access.noting_errors(tier):
                tier.delete(source.key)
            self._ledger.write(lambda c: replicas.note_evicted(c, source.id, tier.name))
        text = f"{source.text} is evicted from tier {tier.name}: {seen.size} bytes"
        self._state.log_event("evicted", text, **source.fields, tier=tier.name)
        return Evicted(seen.size)

    def _keep(self, tier: Tier, source: PackSource, attempt: Attempt) -> None:
        """End an eviction that must not be finished."""
        problem = None
        with self._access.noting_errors(tier):
            try:
                self._access.check_size(tier, source.key, source.pack.size)
                self._access.compare(tier, source, self._access.meter(attempt, source.pack.size))
            except PackDamaged as error:
                problem = str(error)
        self._ledger.write(lambda c: replicas.keep(c, source.id, tier.name, steady_ns(), problem))
