"""The members of packs on the disk: written again from a tier, and dropped."""

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import sqlalchemy as sa
from xxhash import xxh3_128

from databuffer.amounts import count
from databuffer.errors import MoveFailed, VolumeFull
from databuffer.records.performer import Attempt
from databuffer.state import State
from databuffer.storage.clock import steady_ns
from databuffer.storage.dropped import remove_dropped
from databuffer.tiers.lanes import Lane
from databuffer.tiers.ledger import replicas
from databuffer.tiers.ledger.replicas import LastReplica
from databuffer.tiers.moves.access import TierAccess
from databuffer.tiers.moves.copies import Copied
from databuffer.tiers.moves.replica_ledger import ReplicaLedger
from databuffer.tiers.moves.staged_reading import online
from databuffer.tiers.moves.turns import Turns
from databuffer.tiers.packs.comparison import compare
from databuffer.tiers.packs.pack import PackDamaged, checked_member, read_members
from databuffer.tiers.packs.read_back import Written
from databuffer.tiers.packs.source import PackSource
from gwwire.tiering import DISK, ReplicaState

log = logging.getLogger(__name__)

_DELETING = ReplicaState.DELETING
_SECOND = 10**9
#: Threads that write members to the disk, and the bytes of members that each writes and syncs at once.
_SYNCED_AT_ONCE, _RUN = 4, 4 << 20


class DiskMoves:
    """Restores the members of packs on the disk, and drops them."""

    def __init__(self, state: State, ledger: ReplicaLedger, access: TierAccess, turns: Turns) -> None:
        self._state = state
        self._ledger = ledger
        self._access = access
        self._turns = turns

    # ---- copy to the disk

    def copy(self, source: PackSource, attempt: Attempt) -> Copied:
        """Write the members of a pack that the disk misses, or that differ there, and compare all of them."""
        with self._turns.taking(source.id, DISK, attempt):
            return self._copy_alone(source, attempt)

    def _copy_alone(self, source: PackSource, attempt: Attempt) -> Copied:
        seen = self._ledger.of(source).get(DISK)
        if seen and seen.state is _DELETING:
            raise MoveFailed(f"{source.text} is being dropped from the disk")
        wrong = [name for name in source.names if not source.has_whole(name, attempt.check)]
        if wrong:
            self._restore(source, wrong, attempt)
        # Every member was compared. The SHA-256 of the whole follows from them, and is computed if it is not known.
        sha256 = self._access.known_sha256(self._ledger.of(source)) or compare(source.pack, source.chunks())
        self._ledger.note_verified(source.on_disk(ReplicaState.VERIFIED, sha256, steady_ns()))
        remove_dropped(source.folder)
        text = f"{source.text} is verified on the disk: {count(len(wrong), 'file')} written"
        self._state.log_event("replica-verified", text, **source.fields, tier=DISK, moved=bool(wrong))
        return Copied(DISK, source.pack.size, sha256, bool(wrong))

    def _restore(self, source: PackSource, names: list[str], attempt: Attempt) -> None:
        """Write members to the disk from a verified replica in a tier, and read them back."""
        others = self._access.verified(self._ledger.of(source), DISK)
        if not others:
            raise MoveFailed(f"{names[0]} is missing or differs, and no other replica is verified")
        origin, tier = others[0], self._access.tiers[others[0].tier]
        begin = partial(replicas.begin_write, pack=source.id, tier=DISK, key=source.folder.name, size=source.pack.size)
        self._ledger.write(begin)
        meter = self._access.meter(attempt, sum(source.pack.member(name).size for name in names))

        distinct = {source.path_of(source.pack.member(name)): name for name in names}.values()
        with ExitStack() as stack:
            stack.enter_context(self._ledger.losing(source, origin))
            stack.enter_context(self._access.noting_errors(tier))
            stack.enter_context(online(tier, origin.key, attempt))
            lane = stack.enter_context(Lane(_SYNCED_AT_ONCE, threads=_SYNCED_AT_ONCE))
            run, size = list[tuple[str, list[bytes]]](), 0
            for name, chunks in read_members(tier, origin.key, source.pack, distinct):
                length, passed = source.pack.member(name).size, meter.through(chunks)
                if length > _RUN:  # not in memory as a whole
                    _put(source, [(name, passed)], attempt)
                    continue
                run.append((name, [b"".join(passed)]))
                size += length
                if size >= _RUN:
                    lane.do(_put, source, run, attempt)
                    run, size = [], 0
            lane.do(_put, source, run, attempt)
            lane.wait()

    # ---- drop from the disk

    def drop(self, source: PackSource, attempt: Attempt) -> dict[str, int]:
        """Delete the members of a pack from the disk, while another replica is verified."""
        with self._turns.taking(source.id, DISK, attempt):
            return self._drop_alone(source, attempt)

    def _drop_alone(self, source: PackSource, attempt: Attempt) -> dict[str, int]:
        seen = self._ledger.of(source).get(DISK)
        if seen is None and source.is_dropped and not source.present():
            return {"files": 0}
        confirm_others(self._ledger, self._access, source, DISK, attempt)
        try:
            # A drop that was begun is finished.
            is_begun = seen is not None and seen.state is _DELETING
            pinned_at = steady_ns() if self._access.cache == DISK and not is_begun else None
            begin = partial(_begin_drop, source=source, unless_pinned_at=pinned_at, among=self._access.tiers)
            self._ledger.write(begin, with_reserve=True)  # it makes space
        except LastReplica:
            if seen and seen.state is _DELETING:
                self._keep(source)
            raise
        self._ledger.write_dropped(source)
        self._keep_meta(source)
        present = source.present()
        source.delete(present, attempt.check)
        self._ledger.write(lambda c: replicas.note_deleted(c, source.id, DISK))
        text = f"{source.text} is dropped from the disk: {count(len(present), 'file')}"
        self._state.log_event("dropped", text, **source.fields)
        return {"files": len(present)}

    @staticmethod
    def _keep_meta(source: PackSource) -> None:
        try:
            source.keep_meta()
        except VolumeFull as error:
            text = "%s is dropped without META.json: if the catalog is lost, searches do not find its meta; %s"
            log.warning(text, source.text, error.detail, extra={"event": "meta-not-kept", **source.fields})

    def _keep(self, source: PackSource) -> None:
        """End a drop that must not be finished, because no other replica is left."""
        try:
            compare(source.pack, source.chunks())
            problem = None
            remove_dropped(source.folder)
        except PackDamaged as error:
            problem = str(error)
            text = f"{source.text} is not whole on the disk, and no other replica is verified: {problem}"
            self._state.log_event("replica-lost", text, logging.ERROR, pack=source.id, tier=DISK)
        self._ledger.write(lambda c: replicas.keep(c, source.id, DISK, steady_ns(), problem))


def _put(source: PackSource, run: Iterable[tuple[str, Iterable[bytes]]], attempt: Attempt) -> None:
    """Write members to the disk, if they are those of the manifest, and read them back."""
    written = defaultdict[str, Written](Written)
    checked = ((name, checked_member(source.pack.member(name), chunks)) for name, chunks in run)
    source.put((name, written[name].through(chunks)) for name, chunks in checked)
    for name, each in written.items():
        if source.digest(name, xxh3_128(), attempt.check) != each.digest:
            raise MoveFailed(f"{name} differs on the disk after it was written")


def confirm_others(
    ledger: ReplicaLedger, access: TierAccess, source: PackSource, leaving: str, attempt: Attempt
) -> None:
    """Ask the tiers whether the verified replicas besides one are still as they were compared; else they become LOST.

    One with another size is not, and one that was written since then is compared again.
    """
    for row in access.verified(ledger.of(source), leaving):
        tier = access.tiers[row.tier]
        with access.noting_errors(tier):
            try:
                stored = access.check_size(tier, source.key, source.pack.size)
                if stored.modified * _SECOND > (row.verified or 0):
                    sha256 = access.compare(tier, source, access.meter(attempt, source.pack.size))
                    found = replace(row, sha256=sha256, verified=steady_ns())
                    ledger.write(partial(replicas.note_verified, found=found, only_if=ReplicaState.VERIFIED))
            except PackDamaged as error:
                ledger.note_lost(row, str(error))


def _begin_drop(
    connection: sa.Connection, source: PackSource, unless_pinned_at: int | None, among: Collection[str]
) -> None:
    if replicas.get(connection, source.id, DISK) is None:
        replicas.put(connection, source.on_disk(ReplicaState.WRITTEN))
    replicas.begin_delete(connection, source.id, DISK, unless_pinned_at=unless_pinned_at, among=among)
