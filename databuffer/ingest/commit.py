"""The second half of the ingest: sync, name, catalogue and count groups of staged segments."""

import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

from databuffer import metrics
from databuffer.errors import BufferFrozen, KeyReused, VolumeError, volume_error
from databuffer.ingest.incoming import Incoming, refuse_unsettled
from databuffer.ingest.quota import DailyQuota
from databuffer.ingest.staging import Staging, discard
from databuffer.state import State
from databuffer.storage.catalog import IdempotencyKey, SegmentRow
from databuffer.storage.store import OpenBatch, Store
from gwservice.tracing import group_span
from gwwire.segment import KEY_HEADER

#: File systems batch their journal: several syncs in parallel cost little more than one.
_SYNC_THREADS = 8


class GroupCommit:
    """Stores groups of staged segments, on the commit thread."""

    def __init__(self, store: Store, state: State, quota: DailyQuota, staging: Staging) -> None:
        self._store = store
        self._state = state
        self._quota = quota
        self._staging = staging
        self._pool = _SyncPool()

    def close(self) -> None:
        """Stop the sync threads."""
        self._pool.close()

    def store(self, group: Sequence[Incoming]) -> None:
        """Store or refuse every segment of a group."""
        began = time.perf_counter()
        with group_span("commit", [each.span for each in group], segments=len(group)):
            staged = [each for each in group if not each.settled]
            if rejected := [each.size for each in group if isinstance(each.error, VolumeError)]:
                self._state.require_probe(min(rejected))
            try:
                if staged:
                    self._state.run(lambda: self._store_turns(staged))
            except Exception as error:  # noqa: BLE001 (every sender must be answered)
                refuse_unsettled(staged, error)
            for each in group:
                if each.error is not None:
                    discard(each)
        metrics.count_group([each.error for each in group], time.perf_counter() - began)
        if failures := [each.error for each in group if isinstance(each.error, VolumeError)]:
            self._state.record_error(failures[-1])
        self._state.watch_space()

    def _store_turns(self, staged: Sequence[Incoming]) -> None:
        """Store segments in rounds in which no key repeats, so that a repeat sees the outcome of the first."""
        for turn in _turns(staged):
            fresh = self._without_repeats(turn)
            if not fresh:
                continue
            batch = self._state.batch_to_fill()
            if batch is None:
                self._state.refused += len(fresh)
                for each in fresh:
                    each.refuse(BufferFrozen(f"the batch is frozen by {self._state.description.user}"))
                continue
            self._publish(batch, self._sync(self._quota.admit(fresh, time.time_ns())))
        self._store.ledger_backup_due()
        self._state.cover()

    def _without_repeats(self, turn: Sequence[Incoming]) -> list[Incoming]:
        """Answer the segments whose Idempotency-Key is known; return the others."""
        keyed = {each.key: each for each in turn if each.key is not None}
        if not keyed:
            return list(turn)
        known = self._store.catalog.ledger.by_key(keyed)
        for key, each in keyed.items():
            first = known.get(key) or self._claim_recovered(each.sha256, key)
            if first is not None and first.sha256 == each.sha256:
                discard(each)
                each.store_as(first.segment, first.bytes)
            elif first is not None:
                detail = f"Idempotency-Key {key!r} was used for other bytes before"
                each.refuse(KeyReused(detail, field=KEY_HEADER))
        return [each for each in turn if not each.settled]

    def _claim_recovered(self, sha256: str, key: str) -> IdempotencyKey | None:
        """Return the segment with these bytes that recovery found on the volume, or None.

        It was stored right before a crash and never acknowledged; this is its sender's retry.
        """
        if sha256 not in self._state.recovered:
            return None
        claimed = self._store.catalog.ledger.claim_recovered(sha256, key)
        self._state.recovered = self._store.catalog.segments.recovered()
        return claimed

    def _sync(self, group: Sequence[Incoming]) -> list[Incoming]:
        """Make the files of a group durable; return the segments whose files are."""
        for each in group:
            if not each.path:  # segments were refused when it was staged
                self._staging.write(each)
        files = [each for each in group if each.error is None]
        self._pool.sync(files)
        durable = [each for each in files if each.error is None]
        if len(durable) < len(group):
            self._state.require_probe(min(each.size for each in group if each.error is not None))
        return durable

    def _publish(self, batch: OpenBatch, group: Sequence[Incoming]) -> None:
        """Name, catalogue and count durable segments in one step: all of them or, if anything fails, none."""
        if not group:
            return
        volume, catalog, folder = self._store.volume, self._store.catalog, batch.slot.folder
        now = time.time_ns()
        rows = [
            SegmentRow(
                *(volume.name(self._state.next_number()), s.size, s.sha256, s.channel, s.t0, s.dt, s.n, now),
                *(s.key, s.conditions),
            )
            for s in group
        ]
        spent = self._quota.spent(group, now)
        entered = False
        try:
            volume.publish([(each.path, row.name) for each, row in zip(group, rows, strict=True)], folder)
            volume.sync(folder)
            last_seq = catalog.segments.add(batch.id, rows, spent)
            entered = True
            self._state.count(batch, rows, now, last_seq)
        except VolumeError:
            for row in rows:
                with suppress(VolumeError):
                    volume.discard(folder / row.name)
            if entered:
                with suppress(VolumeError):
                    catalog.ledger.subtract_spending(spent)
            raise
        self._quota.add(spent)
        for each, row in zip(group, rows, strict=True):
            each.store_as(row.name, row.bytes)


def _turns(staged: Sequence[Incoming]) -> Iterator[list[Incoming]]:
    while staged:
        keys: set[str] = set()
        turn: list[Incoming] = []
        later: list[Incoming] = []
        for each in staged:
            (later if each.key in keys else turn).append(each)
            if each.key is not None:
                keys.add(each.key)
        yield turn
        staged = later


class _SyncPool:
    """Syncs the files of a group in parallel; `queue.SimpleQueue` costs a tenth of the futures of an executor."""

    def __init__(self) -> None:
        self._shares: queue.SimpleQueue[Sequence[Incoming]] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def sync(self, files: Sequence[Incoming]) -> None:
        shares = [files[start::_SYNC_THREADS] for start in range(min(_SYNC_THREADS, len(files)))]
        while len(self._threads) < len(shares) - 1:  # this thread syncs the first share
            self._threads.append(threading.Thread(target=self._work, name="fsync", daemon=True))
            self._threads[-1].start()
        for share in shares[1:]:
            self._shares.put(share)
        errors = [_sync_share(share) for share in shares[:1]] + [self._done.get() for _ in shares[1:]]
        for error in filter(None, errors):
            raise error

    def close(self) -> None:
        for _ in self._threads:
            self._shares.put(())
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while share := self._shares.get():
            self._done.put(_sync_share(share))


def _sync_share(share: Sequence[Incoming]) -> BaseException | None:
    try:
        for each in share:
            began = time.perf_counter()
            _sync(each)
            metrics.FSYNC_SEGMENT.observe(time.perf_counter() - began)
    except BaseException as error:  # noqa: BLE001 (`sync` raises it)
        return error
    return None


def _sync(incoming: Incoming) -> None:
    file, incoming.file = incoming.file, -1
    try:
        os.fsync(file)
    except OSError as error:
        incoming.refuse(volume_error(error))
    finally:
        os.close(file)
