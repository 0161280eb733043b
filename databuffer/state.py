"""The state in memory: the current and the next batch, and whether memory and volume agree.

Only the commit thread changes it. It replaces what other threads read at the end of a step.
"""

import logging
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import Enum, auto
from typing import TypeVar

from databuffer import metrics
from databuffer.coverage import CoverageKeeper
from databuffer.errors import Refused, VolumeError, VolumeFull
from databuffer.ingest.quota import DailyQuota
from databuffer.settings import OnFrozen
from databuffer.storage.catalog import SegmentRow
from databuffer.storage.files import PROBE_SIZE, Space
from databuffer.storage.metadata import stored_entries
from databuffer.storage.recovery import left_out, recover, retry_if_catalog_damaged
from databuffer.storage.spending import day_of
from databuffer.storage.store import OPERATIONAL, OpenBatch, Store
from databuffer.storage.tally import counted
from gwservice.logs import LogLimit
from gwwire.datastore import Description
from gwwire.overview import ErrorOverview, EventOverview
from gwwire.problems import ProblemError
from gwwire.public import DatastoreState, Stats

T = TypeVar("T")
log = logging.getLogger(__name__)

_LOG_SECONDS = 60.0
#: s after a write in which the volume is expected to take the next one: it may become read-only while nothing arrives.
_PROVEN_SECONDS = 60.0
#: Events in the overview.
_MOST_EVENTS = 30


class Agreement(Enum):
    """The agreement of memory and volume; `State` makes every transition.

    UNREAD → UNPROVEN by `recover`; UNPROVEN → PROVEN by a stored group or a probe; PROVEN → UNPROVEN by a file that
    could not be written; any → UNREAD by a step that failed half-way.
    """

    UNREAD = auto()
    """The volume must be read before the next step."""
    UNPROVEN = auto()
    """They agree, but nothing was written since the start or since the last failure."""
    PROVEN = auto()
    """They agree, and the last write succeeded."""


class State:
    """The batches that are not archived, and counts of the others.

    Attributes:
        next: the batch that is filled while the current one is frozen, or None.
        last_error: the last error of the volume, or None.
        events: the newest events, the oldest first.
        refused: the number of segments refused since the freeze.
        recovered: digests of segments that recovery found and that no Idempotency-Key belongs to.
        left_out: the archives that cannot be read, and are not in the catalog.
        unknown_holdings: the transactions that cannot be restored from the manifests of their packs.
        unread_meta: the number of segments of an earlier version whose `meta` cannot be searched yet.
        make_space: begins to delete files that can be made again; called while the volume has little space.

    """

    def __init__(self, store: Store, quota: DailyQuota, on_frozen: OnFrozen) -> None:
        self._store = store
        self._quota = quota
        self._on_frozen = on_frozen
        self._current: OpenBatch | None = None
        self._last_number = 0
        self._rejected_size = 0
        self._log_limit = LogLimit(most=1, seconds=_LOG_SECONDS)
        self.agreement = Agreement.UNREAD
        self._proven_at = 0.0
        self.next: OpenBatch | None = None
        self.description = OPERATIONAL
        self.last_seq = 0
        self.last_error: ErrorOverview | None = None
        self.events: Sequence[EventOverview] = ()
        self.refused = 0
        self.archived = 0
        self.quarantined = 0
        self.left_out: Collection[str] = ()
        self.unknown_holdings: Collection[str] = ()
        self.recovered: frozenset[str] = frozenset()
        self.coverage = CoverageKeeper(store.catalog)
        self.unread_meta = 0
        self.make_space: Callable[[], object] = lambda: None

    @property
    def current(self) -> OpenBatch:
        """The current batch."""
        if self._current is None:
            raise RuntimeError("the buffer was not opened")
        return self._current

    @property
    def open_batches(self) -> list[OpenBatch]:
        """The batches that are not archived."""
        return [batch for batch in (self._current, self.next) if batch is not None]

    @property
    def frozen(self) -> bool:
        """Return whether the current batch is frozen."""
        return self.description.dstatus is DatastoreState.FROZEN

    @property
    def refuses_segments(self) -> bool:
        """Return whether a segment would be refused now."""
        return self.frozen and self._on_frozen is OnFrozen.REJECT

    def recover(self) -> None:
        """Lock the volume, make everything agree with it, and log each repair."""
        self.agreement = Agreement.UNREAD  # also if the catalog is damaged: until the end, queries wait
        try:
            retry_if_catalog_damaged(self._store, self._recover)
        except VolumeFull:  # the catalog may be on the volume too, and grow
            self._store.reserve.release()
            retry_if_catalog_damaged(self._store, self._recover)

    def _recover(self) -> None:
        metrics.RECOVERIES.inc()
        for found in recover(self._store):
            metrics.REPAIRS.inc()
            did = "repaired" if found.repair else "not repaired"
            self.log_event("repair", f"{did}: {found.what}; {found.remedy}", logging.WARNING)
        catalog = self._store.catalog
        self.description = self._store.metadata.read_description() or OPERATIONAL
        self._current = self._store.load(self._store.current)
        self.next = self._store.load(self._store.next) if self._store.next.folder.exists() else None
        for batch in self.open_batches:
            self._store.volume.recognise(batch.slot.folder)
            last = catalog.segments.last_name(batch.id)
            self._last_number = max(self._last_number, self._store.volume.number(last or "") or 0)
        self.recovered = catalog.segments.recovered()
        self._quota.spending = catalog.ledger.spending(day_of(time.time_ns()))
        self.last_seq = catalog.segments.last_seq()
        self.coverage = CoverageKeeper(catalog)
        self.archived = catalog.batches.archived()
        self.quarantined = self._store.volume.quarantined()
        self.left_out = left_out(self._store)
        self.agreement = Agreement.UNPROVEN
        self.cover()

    def cover(self) -> None:
        """Reserve the space that freezing and archiving the open batches needs."""
        self._store.reserve.cover(sum(batch.stats.n_itm for batch in self.open_batches))

    def watch_space(self) -> None:
        """Call `make_space` if the volume has less space than is kept for segments."""
        with suppress(VolumeError):
            space = Space.of(self._store.volume.root)
            if space.free < space.margin:
                self.make_space()

    def run(self, step: Callable[[], T]) -> T:
        """Run a step while memory and volume agree; recover if the step fails half-way."""
        try:
            if self._store.volume.check_open_folders():
                self.agreement = Agreement.UNREAD
            if self.must_recover:
                self.recover()
            try:
                return step()
            except Refused:
                raise
            except Exception:
                self.agreement = Agreement.UNREAD
                with suppress(ProblemError):
                    self._store.volume.check_open_folders()
                    self.recover()
                raise
        except VolumeError as error:
            self.record_error(error)
            raise

    @property
    def must_recover(self) -> bool:
        """Return whether the next step begins with a recovery."""
        return self.agreement is Agreement.UNREAD or self._store.catalog.database.damage is not None

    def repair_catalog(self) -> None:
        """Recover if the file of the catalog cannot be used any more."""
        if self._store.catalog.fault():
            self.agreement = Agreement.UNREAD
            self.run(lambda: None)

    def probe(self) -> None:
        """Write and sync what a segment needs; raise VolumeError if that fails."""
        self._store.probe(max(self._rejected_size, PROBE_SIZE))
        self._proven_at = time.monotonic()
        if self.agreement is Agreement.UNPROVEN:
            self.agreement, self._rejected_size = Agreement.PROVEN, 0

    @property
    def needs_probe(self) -> bool:
        """Return whether a probe has to show that the volume can be written: the last write failed, or is long ago."""
        return self.agreement is Agreement.UNPROVEN or time.monotonic() - self._proven_at > _PROVEN_SECONDS

    def require_probe(self, size: int = 0) -> None:
        """Make readiness probe the volume: a segment of `size` bytes could not be written."""
        self._rejected_size = size
        if self.agreement is Agreement.PROVEN:
            self.agreement = Agreement.UNPROVEN

    def record_error(self, error: VolumeError) -> None:
        """Store the last error of the volume for the overview, and log it."""
        self.last_error = ErrorOverview(time.time(), error.code, error.detail)
        self.log_rejection(error)

    def log_rejection(self, error: VolumeError) -> None:
        """Log that segments cannot be stored; at most one line a minute."""
        if self._log_limit.admit("rejection") is not None:
            self.log_event("cannot-store", f"segments cannot be stored: {error.detail}", logging.ERROR, code=error.code)

    def log_event(self, event: str, detail: str, level: int = logging.INFO, /, **fields: object) -> None:
        """Log an event, and keep it for the overview."""
        self.events = (*self.events, EventOverview(time.time(), event, detail))[-_MOST_EVENTS:]
        log.log(level, "%s", detail, extra={"event": event, **fields})

    def batch_to_fill(self) -> OpenBatch | None:
        """Return the batch that segments are added to now, or None if they are refused."""
        if not self.frozen:
            return self.current
        if self.refuses_segments:
            return None
        if self.next is None:
            self.next = self._store.begin(self._store.next)
        return self.next

    def next_number(self) -> int:
        """Return the number of the next segment's file: nanoseconds of Unix time, strictly growing."""
        self._last_number = max(self._last_number + 1, time.time_ns())
        return self._last_number

    def count(self, batch: OpenBatch, rows: Sequence[SegmentRow], now: int, last_seq: int) -> None:
        """Count segments that were added to a batch, in memory, in its log and in the state file."""
        size = sum(row.bytes for row in rows)
        stats = Stats(batch.stats.n_itm + len(rows), batch.stats.buff_size + size)
        batch.slot.log.append(stored_entries([(row.name, row.bytes) for row in rows], now))
        grown = replace(batch, stats=stats, tally=counted(batch.tally, rows))
        if batch is self._current:
            self._store.metadata.write_stats(stats)
            self._current = grown
        else:
            self.next = grown
        metrics.STORED.inc(len(rows))
        metrics.STORED_BYTES.inc(size)
        self.last_seq = last_seq
        self.agreement, self._rejected_size, self._proven_at = Agreement.PROVEN, 0, time.monotonic()

    def freeze(self, current: OpenBatch, description: Description) -> None:
        """Set the current batch, which is frozen, and its holder."""
        self._current, self.description, self.refused = current, description, 0

    def reopen(self, current: OpenBatch) -> None:
        """Set the current batch, which is open, without a next one."""
        self._current, self.next, self.description = current, None, OPERATIONAL
