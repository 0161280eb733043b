"""The cache of the tape: the space for packs that are recalled, and what leaves it first.

It is an object store, another disk, or, if TIERS names neither, the disk of the volume. From the disk, nothing is
evicted: it drops what its policy says when no reader needs it any more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic, time

import sqlalchemy as sa

from databuffer.errors import MoveFailed, RecallTooLarge
from databuffer.records.performer import Attempt, Stopped
from databuffer.storage.clock import steady_ns
from databuffer.storage.files import Space
from databuffer.storage.store import Store
from databuffer.tiers.ledger import pins, replicas
from databuffer.tiers.ledger.locality import locality_of
from databuffer.tiers.ledger.replicas import ReplicaRow
from databuffer.tiers.moves.mover import Mover
from databuffer.tiers.packs.packs import Packs, public_name
from databuffer.tiers.packs.source import PackSource
from databuffer.tiers.tier import Capacity
from gwwire.tiering import DISK, BatchLocality, ReplicaState

#: The interval at which a recall that waits for space tries again.
_POLL_SECONDS = 0.5
#: The time for which a recall waits for packs that are nowhere else: they may be on their way to the tape.
_PATIENCE_SECONDS = 60.0
#: The time for which a recall waits for pinned packs while other recalls wait for their turn.
_TURN_SECONDS = 10.0
#: Packs that the reason of a recall that waits names.
_MOST_NAMED = 5
_GONE = frozenset({ReplicaState.LOST, ReplicaState.EVICTED})


@dataclass(frozen=True)
class Full:
    """The progress of a recall that waits until readers need less of the cache."""

    tier: str
    missing: int
    #: The pinned packs that could leave, and for whom they are kept.
    kept: str
    #: Unix time.
    since: float

    def __str__(self) -> str:
        what = f"{self.missing:,} bytes of tier {self.tier} have to be released or evicted before it can begin"
        return f"{what}; kept are {self.kept}" if self.kept else what


class TapeCache:
    """Frees space below the high-water mark, a share of what the cache can hold; its methods are called in threads.

    A pack is evicted only if a tier that is not the disk has another VERIFIED replica, and it has no pin. If
    the cache does not say what it can hold, it has no limit.
    """

    def __init__(self, store: Store, packs: Packs, mover: Mover, high_water: float) -> None:
        self._store = store
        self._packs = packs
        self._mover = mover
        self._high_water = high_water
        #: The reasons why recalls wait, by pack.
        self.full: dict[str, Full] = {}

    def check_size(self, *sizes: int, kept: int = 0) -> None:
        """Raise RecallTooLarge for packs that can never be in the cache together, with bytes `kept` by who asks."""
        limit, size = self._limit(self._capacity()), sum(sizes)
        if limit is not None and size + kept > limit:
            several = (len(sizes) > 1 or kept) and max(sizes) <= limit
            fewer = "; ask for fewer batches at once" if several else ""
            where = f"packs in tier {self._mover.cache} may have {limit:,} (OBJECT_HIGH_WATER)"
            others = f" besides {kept:,} that are kept for the same asker, who can release them" if kept else ""
            raise RecallTooLarge(f"a recall of {size:,} bytes{others}: {where}{fewer}")

    def has(self, row: ReplicaRow) -> bool:
        """Return whether a replica is one in the cache, which is not the disk."""
        return row.tier == self._mover.cache != DISK and row.state is ReplicaState.VERIFIED

    def kept_for(self, connection: sa.Connection, asker: str, besides: str) -> int:
        """Return the bytes of the packs but one that an asker keeps in the cache, or recalls to it."""
        kept = pins.packs_for(connection, asker, steady_ns()) - {besides}
        return sum(
            rows[0].size
            for rows in replicas.of_packs(connection, kept).values()
            if any(map(self.has, rows)) or locality_of(rows, self._mover.tiers) is BatchLocality.TAPE
        )

    def free_space(self, source: PackSource, attempt: Attempt, others_wait: Callable[[], bool]) -> None:
        """Evict packs until another one fits; wait while readers need too many.

        Raise Stopped if `others_wait`, which may fit, RecallTooLarge or MoveFailed if there never will be space,
        TierError.
        """
        size, before = source.pack.size, self.full.pop(source.id, None)
        self.check_size(size)
        began, since = monotonic(), before.since if before else time()
        give_up = began + _PATIENCE_SECONDS
        while (missing := size - self._space_left(source.id)) > 0:
            if self._evict_one(source.id, attempt):
                continue
            evictable = self._evictable(source.id)
            kept = sum(row.size for row in evictable)
            if missing <= kept:
                give_up = monotonic() + _PATIENCE_SECONDS
            elif monotonic() > give_up:
                self.full.pop(source.id, None)
                raise MoveFailed(
                    f"tier {self._mover.cache} has no space for {size:,} bytes: {missing - kept:,} bytes above its "
                    "high-water mark are nowhere else, or belong to others"
                )
            self.full[source.id] = Full(self._mover.cache, int(missing), self._keepers(evictable), since)
            attempt.report(self.full[source.id])
            if missing <= kept and monotonic() > began + _TURN_SECONDS and others_wait():
                raise Stopped
            attempt.wait(_POLL_SECONDS)
        self.full.pop(source.id, None)

    def surplus(self) -> list[str]:
        """Return the packs to evict until the cache is below its high-water mark."""
        over = -self._space_left("") if self._mover.cache != DISK else 0
        found: list[str] = []
        for row in self._unpinned("") if over > 0 else ():
            if over <= 0:
                break
            found.append(row.pack)
            over -= row.size
        return found

    def _space_left(self, pack: str) -> float:
        """Return the bytes that are left for a pack, negative above the mark."""
        capacity = self._capacity()
        limit = self._limit(capacity)
        if limit is None:
            return float("inf")
        return limit - (self._held(pack) if capacity.used is None else capacity.used)

    def _capacity(self) -> Capacity:
        if self._mover.cache == DISK:
            space = Space.of(self._store.volume.root)
            return Capacity(space.used + space.free - space.margin, space.used)
        return self._mover.tiers[self._mover.cache].capacity()

    def _limit(self, capacity: Capacity) -> int | None:
        if capacity.total is None or self._mover.cache == DISK:
            return capacity.total
        return int(capacity.total * self._high_water)

    def _held(self, pack: str) -> int:
        """Return the bytes of the packs in the cache but one."""
        with self._store.catalog.database.reading() as connection:
            rows = replicas.in_tier(connection, self._mover.cache)
        return sum(row.size for row in rows if row.pack != pack and row.state not in _GONE)

    def _evict_one(self, pack: str, attempt: Attempt) -> bool:
        evictions = (self._mover.evict(self._packs.get(row.pack), attempt) for row in self._unpinned(pack))
        return any(each.stays is None for each in evictions)

    def _keepers(self, rows: Sequence[ReplicaRow]) -> str:
        """Return which of some packs are pinned, and for whom."""
        with self._store.catalog.database.reading() as connection:
            found = pins.askers(connection, [row.pack for row in rows], steady_ns())
        names = [f"{public_name(pack)} ({', '.join(sorted(askers))})" for pack, askers in found.items()]
        more = [f"{len(names) - _MOST_NAMED} more"] if len(names) > _MOST_NAMED else []
        return ", ".join(names[:_MOST_NAMED] + more)

    def _unpinned(self, pack: str) -> list[ReplicaRow]:
        with self._store.catalog.database.reading() as connection:
            pinned = pins.pinned(connection, steady_ns())
        return [row for row in self._evictable(pack) if row.pack not in pinned]

    def _evictable(self, pack: str) -> list[ReplicaRow]:
        """Return the packs but one that may leave the cache as soon as nobody needs them."""
        if self._mover.cache == DISK:
            return []
        others = [name for name in self._mover.tiers if name != self._mover.cache]
        with self._store.catalog.database.reading() as connection:
            return [row for row in replicas.evictable(connection, self._mover.cache, others) if row.pack != pack]
