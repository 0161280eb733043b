"""The tiers as moves use them: with the errors of each, one rate for all, and comparisons with packs."""

import asyncio
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

from databuffer import metrics
from databuffer.errors import MoveFailed
from databuffer.records.performer import Attempt
from databuffer.storage.clock import steady_ns
from databuffer.tiers.ledger.locality import is_whole
from databuffer.tiers.ledger.replicas import ReplicaRow
from databuffer.tiers.moves.meter import Meter, Throttle
from databuffer.tiers.moves.probe import TierProbe
from databuffer.tiers.moves.staged_reading import online, reading_staged
from databuffer.tiers.packs.comparison import compare
from databuffer.tiers.packs.pack import PackDamaged, read_head, tier_range
from databuffer.tiers.packs.source import PackSource
from databuffer.tiers.tier import TAPE, Stored, Tier, TierError
from gwwire.tiering import DISK, ReplicaState

_SECOND = 10**9
#: The age of an answer that is taken for one of now.
_JUST_NOW_SECONDS = 2.0


def cache_of(tiers: Mapping[str, Tier]) -> str:
    """Return the tier to which packs on tape are brought to be read: the first that is no tape, else the disk."""
    return next((tier.name for tier in tiers.values() if tier.kind != TAPE), DISK)


class TierAccess:
    """The tiers besides the disk, which moves read and write as fast as a throttle allows.

    Attributes:
        tiers: by name.
        cache: the tier, or the disk, to which packs on tape are brought to be read.
        probes: whether each tier answers, by name.
        errors: why the last call of a tier failed, for those where it did.
        full: the bytes that a tier refused, and since when, in Unix s, for those that had too little space, or do not
            say how much they have.

    """

    def __init__(self, tiers: Mapping[str, Tier], throttle: Throttle) -> None:
        self.tiers = tiers
        self.cache = cache_of(tiers)
        self.probes = {name: TierProbe(tier) for name, tier in tiers.items()}
        self.errors: dict[str, str] = {}
        self.full: dict[str, tuple[int, float]] = {}
        self._throttle = throttle

    def meter(self, attempt: Attempt, size: int) -> Meter:
        """Return the meter of a move of some bytes."""
        return Meter(attempt, self._throttle, size)

    @contextmanager
    def noting_errors(self, tier: Tier) -> Iterator[None]:
        """Keep the error of a tier in `errors`, until a block succeeds.

        An error that another such block inside this one has noted is that of another tier.
        """
        try:
            yield
        except TierError as error:
            if not error.is_noted:
                error.is_noted = True
                self.errors[tier.name] = str(error)
                metrics.TIER_FAILURES.labels(tier.name).inc()
            raise
        self.errors.pop(tier.name, None)

    @contextmanager
    def noting_space(self, tier: Tier, size: int) -> Iterator[None]:
        """Note in `full` if a write of some bytes fails, unless the tier has space for them."""
        try:
            yield
        except TierError:
            with suppress(TierError):
                free = tier.capacity().free
                if free is None or free < size:
                    smallest, since = self.full.get(tier.name, (size, steady_ns() / _SECOND))
                    self.full[tier.name] = min(size, smallest), since
            raise

    async def ask(self, tiers: Iterable[str]) -> None:
        """Find out whether some tiers answer now; one that hangs is not waited for."""
        await asyncio.gather(*(self.probes[name].ask(_JUST_NOW_SECONDS) for name in tiers if name in self.probes))

    def problem(self, row: ReplicaRow) -> str | None:
        """Return why a replica cannot be read now, or None if nothing is known against it; no tier is asked."""
        if row.tier not in {DISK, *self.tiers}:
            return f"{row.tier}: TIERS does not name it"
        if not is_whole(row):
            return f"{row.tier}: {row.error or row.state}"
        return None if row.tier == DISK else self.probes[row.tier].error

    def problems(self, rows: Iterable[ReplicaRow]) -> str | None:
        """Return why none of some replicas can be read now, or None if one can."""
        found = [self.problem(row) for row in rows]
        return None if None in found else "; ".join(filter(None, found))

    def verified(self, rows: Mapping[str, ReplicaRow], target: str) -> list[ReplicaRow]:
        """Return the verified replicas in tiers other than the target, those that are read fastest first."""
        found = [row for row in rows.values() if row.state is ReplicaState.VERIFIED and row.tier in self.tiers]
        return sorted((row for row in found if row.tier != target), key=lambda row: self.tiers[row.tier].kind == TAPE)

    @staticmethod
    def known_sha256(rows: Mapping[str, ReplicaRow]) -> str | None:
        """Return the SHA-256 of a pack from a verified replica, or None; it is the same for all replicas."""
        return next((row.sha256 for row in rows.values() if row.state is ReplicaState.VERIFIED and row.sha256), None)

    @staticmethod
    def check_size(tier: Tier, key: str, size: int) -> Stored:
        """Return what a tier says about a pack; raise PackDamaged unless it has one of this size."""
        found = tier.stat(key)
        if found is None:
            raise PackDamaged([f"it is not in tier {tier.name}"])
        if found.size != size:
            raise PackDamaged([f"it has {found.size} bytes in tier {tier.name}, not {size}"])
        return found

    @staticmethod
    def check_not_taken(tier: Tier, source: PackSource, attempt: Attempt) -> None:
        """Raise MoveFailed if a tier has the whole pack of another manifest under the key of a pack.

        It may be the only copy of what another datastore has archived, or this one before an older state was restored.
        """
        if (found := tier.stat(source.key)) is None:
            return
        try:
            with online(tier, source.key, attempt):
                other = read_head(tier_range(tier, source.key))
                if other.content == source.pack.content or other.size != found.size:
                    return
                compare(other, tier.read(source.key))
        except (ValueError, PackDamaged):
            return
        else:
            what = f"tier {tier.name} has another pack as {source.key} ({other.text}), which is not replaced"
            raise MoveFailed(f"{what}; give each datastore a prefix of its own, or move that pack away")

    def origin(self, row: ReplicaRow, attempt: Attempt) -> Generator[bytes]:
        """Yield the pack in the tier of a replica, for a copy to another tier; an error is that of the first.

        It stays online until the generator is closed.
        """
        tier = self.tiers[row.tier]
        with self.noting_errors(tier), reading_staged(tier, row.key, attempt) as chunks:
            yield from chunks

    @staticmethod
    @contextmanager
    def reading(tier: Tier, source: PackSource, meter: Meter) -> Iterator[Iterator[bytes]]:
        """Read the pack in a tier, staged before; raise TierError if it cannot be read."""
        with reading_staged(tier, source.key, meter.attempt) as chunks:
            yield meter.through(chunks)

    def compare(self, tier: Tier, source: PackSource, meter: Meter) -> str:
        """Compare the pack in a tier with its manifest; return its SHA-256, or raise PackDamaged or TierError."""
        with self.reading(tier, source, meter) as chunks:
            return compare(source.pack, chunks)
