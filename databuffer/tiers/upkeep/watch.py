"""The watch over the tiers: whether each answers, and whether it has the replicas that the ledger names.

A tier can be another place than before under the same name, or have lost files. So its listing is compared with the
ledger when it answers for the first time after a start, and when it answers again after it failed.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import sqlalchemy as sa

from databuffer import metrics
from databuffer.state import State
from databuffer.storage.clock import steady_ns
from databuffer.tiers.ledger import replicas
from databuffer.tiers.ledger.replicas import ReplicaRow
from databuffer.tiers.moves.access import TierAccess
from databuffer.tiers.moves.own_threads import in_own_thread
from databuffer.tiers.moves.probe import TierProbe
from databuffer.tiers.moves.replica_ledger import ReplicaLedger
from databuffer.tiers.packs.pack import PREFIXES, PackDamaged
from databuffer.tiers.tier import Tier, TierError
from gwwire.problems import ProblemError

log = logging.getLogger(__name__)

#: The pauses between two questions to a tier that answered, and to one that failed.
_INTERVAL_SECONDS, _FAILED_SECONDS = 30.0, 10.0
#: The pause after which a tier that refused a copy, and does not say how much space it has, may have space again.
_UNKNOWN_SPACE_SECONDS = 300.0
_SECOND = 10**9
#: Replicas that one transaction marks as LOST.
_PORTION = 500


class TierWatch:
    """Asks each tier again and again whether it answers.

    Attributes:
        outages: the last time of each tier in which it failed or was full, and which is over: from and until when, in
            Unix s.

    """

    def __init__(self, access: TierAccess, ledger: ReplicaLedger, state: State) -> None:
        self._access = access
        self._ledger = ledger
        self._state = state
        self.outages: dict[str, tuple[float, float]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def open(self, on_change: Callable[[], object]) -> None:
        """Begin to ask each tier; call `on_change` when there may be something to copy."""
        self._tasks = [
            asyncio.create_task(self._watch(self._access.tiers[name], probe, on_change))
            for name, probe in self._access.probes.items()
        ]

    async def close(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _watch(self, tier: Tier, probe: TierProbe, on_change: Callable[[], object]) -> None:
        answered, is_compared = 0.0, False  # what failed before the start is tried again
        report = _Report(tier.name)
        while True:
            began = steady_ns() / _SECOND
            await probe.ask()
            report.note(probe)
            await probe.ended()
            report.note(probe)
            if probe.failure:
                is_compared = False
            else:
                if not is_compared:
                    self.outages[tier.name] = answered, steady_ns() / _SECOND
                    is_compared = await self._compare(tier)
                    on_change()
                elif self._has_space_again(tier.name, probe.capacity.free):
                    on_change()
                answered = began
            await asyncio.sleep(_FAILED_SECONDS if probe.failure else _INTERVAL_SECONDS)

    def _has_space_again(self, tier: str, free: int | None) -> bool:
        """Return whether a tier that was full has space for a copy, or may have it; then the outage is over."""
        if tier not in self._access.full:
            return False
        (needed, since), now = self._access.full[tier], steady_ns() / _SECOND
        if now - since < _UNKNOWN_SPACE_SECONDS if free is None else free < needed:
            return False
        del self._access.full[tier]
        self.outages[tier] = since, now
        return True

    async def _compare(self, tier: Tier) -> bool:
        """Mark the replicas as LOST that a tier does not have any more; return False if it cannot be listed."""
        try:
            rows = await asyncio.to_thread(self._ledger.there, tier.name)
            absent = await in_own_thread(f"tier-{tier.name}", partial(self._absent, tier, rows))
            lost = 0
            for at in range(0, len(absent), _PORTION):
                lost += await self._ledger.change(partial(_note_lost, absent=absent[at : at + _PORTION]))
        except TierError as error:
            log.warning("tier %s cannot be listed: %s", tier.name, error, extra={"event": "replicas-unknown"})
            return False
        except ProblemError as error:  # of the volume
            log.warning("tier %s is not compared: %s", tier.name, error.detail, extra={"event": "replicas-unknown"})
            return False
        if lost:
            metrics.LOST_REPLICAS.labels(tier.name).inc(lost)
            what = f"tier {tier.name} does not have {lost} of {len(rows)} packs any more, such as {absent[0][0].key}"
            text = f"{what}; they are LOST, and are copied again from another replica if there is one"
            self._state.log_event("replicas-lost", text, logging.WARNING, tier=tier.name, replicas=lost)
        return True

    def _absent(self, tier: Tier, rows: Sequence[ReplicaRow]) -> list[tuple[ReplicaRow, str]]:
        if not rows:
            return []
        with self._access.noting_errors(tier):
            return absent_from(tier, rows)


class _Report:
    """Logs that a tier fails: once when it does not answer, and once when the reason is known."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._reported = 0

    def note(self, probe: TierProbe) -> None:
        """Log why a tier fails unless that was logged since it answered."""
        known = 2 if probe.failure else int(probe.error is not None)
        if known > self._reported:
            log.warning("%s", probe.error, extra={"event": "tier-unreachable", "tier": self._name})
        elif self._reported and not known:
            log.info("tier %s answers again", self._name, extra={"event": "tier-answers", "tier": self._name})
        self._reported = max(known, self._reported) if known else 0


def absent_from(tier: Tier, rows: Iterable[ReplicaRow]) -> list[tuple[ReplicaRow, str]]:
    """Return the replicas that a tier does not have, or in another size, and what is wrong; raise TierError."""
    listed = {stored.key: stored.size for prefix in PREFIXES for stored in tier.list(prefix)}
    suspects = [row for row in rows if listed.get(row.key) != row.size]
    asked = [(row, _problem(tier, row)) for row in suspects]  # a listing may be older than a replica
    return [(row, problem) for row, problem in asked if problem]


def _problem(tier: Tier, row: ReplicaRow) -> str | None:
    try:
        TierAccess.check_size(tier, row.key, row.size)
    except PackDamaged as error:
        return str(error)
    return None


def _note_lost(connection: sa.Connection, absent: Iterable[tuple[ReplicaRow, str]]) -> int:
    return sum(replicas.note_lost(connection, row, problem) for row, problem in absent)
