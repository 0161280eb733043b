"""Copies of packs to tiers: written, read back and compared."""

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass

import sqlalchemy as sa

from databuffer import metrics
from databuffer.errors import MoveFailed, NotFound
from databuffer.records.performer import Attempt
from databuffer.state import State
from databuffer.storage.clock import steady_ns
from databuffer.tiers.ledger import replicas
from databuffer.tiers.ledger.replicas import ReplicaRow
from databuffer.tiers.moves.access import TierAccess
from databuffer.tiers.moves.meter import Meter, counted
from databuffer.tiers.moves.replica_ledger import ReplicaLedger
from databuffer.tiers.moves.turns import Turns
from databuffer.tiers.packs.comparison import Comparison, checked
from databuffer.tiers.packs.pack import PackDamaged
from databuffer.tiers.packs.read_back import Written
from databuffer.tiers.packs.source import PackSource
from databuffer.tiers.tier import Tier
from gwwire.tiering import DISK, ReplicaState

_VERIFIED = ReplicaState.VERIFIED
#: The states in which the replica on the disk is not copied.
_NOT_ON_DISK = frozenset({ReplicaState.DELETING, ReplicaState.WRITING})


@dataclass(frozen=True)
class Copied:
    """The result of a copy; unless it `moved`, a whole replica was there already, and was compared."""

    tier: str
    bytes: int
    sha256: str
    moved: bool


class Copies:
    """Makes replicas in tiers."""

    def __init__(self, state: State, ledger: ReplicaLedger, access: TierAccess, turns: Turns) -> None:
        self._state = state
        self._ledger = ledger
        self._access = access
        self._turns = turns

    def copy(self, tier: Tier, source: PackSource, attempt: Attempt) -> Copied:
        """Make the replica of a pack in a tier, or compare the one that is there."""
        with self._turns.taking(source.id, tier.name, attempt):
            return self._copy_alone(tier, source, attempt)

    def _copy_alone(self, tier: Tier, source: PackSource, attempt: Attempt) -> Copied:
        meter = self._access.meter(attempt, 2 * source.pack.size)
        with self._access.noting_errors(tier):
            sha256 = self._whole(tier, source, meter)
            if moved := sha256 is None:
                self._access.check_not_taken(tier, source, attempt)
                sha256, written = self._write(tier, source, meter)
                with self._access.reading(tier, source, meter) as chunks:
                    written.compare(chunks)
        self._ledger.put_on_disk(source)  # a copy that was only compared has not noted that the disk has the pack
        self._ledger.note_verified(source.in_tier(tier.name, sha256, steady_ns()))
        if source.is_dropped:
            self._ledger.write_dropped(source)
        text = f"{source.text} is verified in tier {tier.name}: {source.pack.size} bytes"
        self._state.log_event("replica-verified", text, **source.fields, tier=tier.name, sha256=sha256, moved=moved)
        return Copied(tier.name, source.pack.size, sha256, moved)

    def _whole(self, tier: Tier, source: PackSource, meter: Meter) -> str | None:
        """Return the SHA-256 of the pack if the tier has it already, or None.

        One that was LOST is written again, unless there is nothing to copy from: then it may be back, as after a file
        system was not mounted for a time. Raise NotFound if it differs still, and another attempt would not help.
        """
        rows = self._ledger.of(source)
        seen = rows.get(tier.name)
        was_lost = seen is not None and seen.state is ReplicaState.LOST
        if was_lost and self._has_whole_origin(source, rows, tier.name):
            return None
        try:
            self._access.check_size(tier, source.key, source.pack.size)
        except PackDamaged as error:
            self._note_lost(seen, error)
            return None
        try:
            return self._access.compare(tier, source, meter)
        except PackDamaged as error:
            self._note_lost(seen, error)
            if was_lost and source.is_dropped:  # else the files on the disk may have been repaired
                raise NotFound(f"no replica of {source.text} is whole; in tier {tier.name}, {error}") from error
            return None

    def _note_lost(self, seen: ReplicaRow | None, error: PackDamaged) -> None:
        if seen and seen.state in {_VERIFIED, ReplicaState.WRITTEN}:
            self._ledger.note_lost(seen, str(error))

    def _write(self, tier: Tier, source: PackSource, meter: Meter) -> tuple[str, Written]:
        """Write a pack to a tier, while its origin is compared; return its SHA-256, and what was written."""
        origin, origin_chunks = self._origin(source, tier.name, meter.attempt)
        size = source.pack.size
        self._ledger.write(lambda c: replicas.begin_write(c, source.id, tier.name, source.key, size))
        comparison = Comparison(source.pack, self._access.known_sha256(self._ledger.of(source)))
        written = Written()
        with self._ledger.losing(source, origin), closing(origin_chunks):
            chunks = written.through(checked(comparison, origin_chunks))
            chunks = counted(chunks, metrics.MOVED_BYTES.labels(tier.name, metrics.WRITTEN))
            with self._access.noting_space(tier, size):
                tier.write(source.key, size, meter.through(chunks))

        def note(connection: sa.Connection) -> None:
            replicas.note_written(connection, source.id, tier.name, comparison.sha256, steady_ns())
            if origin.tier == DISK and not source.is_dropped:  # by now; every byte of it was read and compared
                replicas.note_verified(connection, source.on_disk(_VERIFIED, comparison.sha256, steady_ns()))

        self._ledger.write(note)
        return comparison.sha256, written

    def _has_whole_origin(self, source: PackSource, rows: Mapping[str, ReplicaRow], target: str) -> bool:
        """Return whether there is a replica to copy from that is not LOST."""
        disk = rows.get(DISK)
        is_on_disk = (disk is None or disk.state not in {*_NOT_ON_DISK, ReplicaState.LOST}) and not source.is_dropped
        return is_on_disk or bool(self._access.verified(rows, target))

    def _origin(self, source: PackSource, target: str, attempt: Attempt) -> tuple[ReplicaRow, Generator[bytes]]:
        """Return a replica to copy from and its bytes: the disk's unless it is LOST or dropped, or one in a tier."""
        rows = self._ledger.of(source)
        disk = rows.get(DISK) or source.on_disk(ReplicaState.WRITTEN)
        is_on_disk = disk.state not in _NOT_ON_DISK and not source.is_dropped
        others = self._access.verified(rows, target)
        if is_on_disk and (disk.state is not ReplicaState.LOST or not others):
            return disk, source.chunks()
        if others:
            return others[0], self._access.origin(others[0], attempt)
        raise MoveFailed(f"there is no replica of {source.text} to copy from")
