"""Replicas that are read again and compared."""

from dataclasses import dataclass, field, replace

from databuffer.errors import MoveFailed, NotFound
from databuffer.records.performer import Attempt
from databuffer.storage.clock import steady_ns
from databuffer.tiers.ledger import replicas
from databuffer.tiers.ledger.locality import is_whole
from databuffer.tiers.ledger.replicas import ReplicaRow
from databuffer.tiers.moves.access import TierAccess
from databuffer.tiers.moves.replica_ledger import ReplicaLedger
from databuffer.tiers.packs.comparison import compare
from databuffer.tiers.packs.pack import PackDamaged
from databuffer.tiers.packs.source import PackSource
from databuffer.tiers.tier import TierError
from gwwire.tiering import DISK, ReplicaState

_VERIFIED = ReplicaState.VERIFIED


@dataclass(frozen=True)
class Compared:
    """The tiers whose replicas of a pack were read, the differences, and why others could not be read."""

    tiers: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


class Scrub:
    """Compares replicas with the manifests of their packs."""

    def __init__(self, ledger: ReplicaLedger, access: TierAccess) -> None:
        self._ledger = ledger
        self._access = access

    def scrub(self, source: PackSource, attempt: Attempt) -> dict[str, str | None]:
        """Read and compare the replica of a pack that was verified longest ago, or never on the disk."""
        rows = [row for row in self._ledger.of(source).values() if is_whole(row)]
        readable = [row for row in rows if row.tier == DISK or row.tier in self._access.tiers]
        if not readable:
            return {"tier": None}
        oldest = min(readable, key=lambda row: row.verified or 0)
        return {"tier": oldest.tier, "problem": self._check(source, oldest, attempt)}

    def compare_all(self, source: PackSource, attempt: Attempt) -> Compared:
        """Compare every verified replica of a pack in the tiers besides the disk.

        Of a pack that the disk has dropped, one is needed: raise MoveFailed if none can be read now, or NotFound if
        TIERS has to be changed first.
        """
        rows = self._ledger.of(source)
        others = self._access.verified(rows, DISK)
        if not others and source.is_dropped:
            reasons = self._access.problems(rows.values()) or "none is known"
            can_change = self._access.tiers and (not rows or self._access.tiers.keys() & rows)
            failure = MoveFailed if can_change else NotFound
            raise failure(f"{source.text} was dropped from the disk, and no replica can be read: {reasons}")
        found = Compared()
        for row in others:
            try:
                problem = self._check(source, row, attempt)
            except TierError as error:
                found.unread.append(str(error))
            else:
                found.tiers.append(row.tier)
                found.problems.extend([f"the replica in {row.tier}: {problem}"] if problem else [])
        return found

    def note_disk(self, source: PackSource, problems: list[str]) -> None:
        """Note that every byte of a pack on the disk was compared with its manifest, if it was ever given to a tier."""
        rows = self._ledger.of(source)
        if not (rows or self._access.tiers):
            return
        seen = rows.get(DISK)
        if not problems:
            found = replace(seen or source.on_disk(ReplicaState.WRITTEN), verified=steady_ns())
            self._ledger.write(lambda c: not source.is_dropped and replicas.note_verified(c, found))
        elif seen and seen.state is _VERIFIED:
            self._ledger.note_lost(seen, problems[0])

    def _check(self, source: PackSource, seen: ReplicaRow, attempt: Attempt) -> str | None:
        """Read and compare a replica, and note the result in the ledger; return what is wrong, or None."""
        meter = self._access.meter(attempt, source.pack.size)
        try:
            with self._ledger.losing(source, seen):
                if seen.tier == DISK:
                    sha256 = compare(source.pack, meter.through(source.chunks()))
                else:
                    with self._access.noting_errors(self._access.tiers[seen.tier]):
                        self._access.check_size(self._access.tiers[seen.tier], source.key, source.pack.size)
                        sha256 = self._access.compare(self._access.tiers[seen.tier], source, meter)
        except PackDamaged as error:
            return str(error)
        self._ledger.write(
            lambda c: replicas.note_verified(c, replace(seen, sha256=sha256, verified=steady_ns()), only_if=seen.state)
        )
        return None
