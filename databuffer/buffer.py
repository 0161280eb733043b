"""The buffer: it connects its parts, opens and closes them."""

import asyncio
import logging
from contextlib import suppress

from databuffer.batches import Batches
from databuffer.errors import VolumeError
from databuffer.ingest.commit import GroupCommit
from databuffer.ingest.pipeline import Ingest
from databuffer.ingest.quota import DailyQuota
from databuffer.ingest.staging import Staging
from databuffer.queries import Queries
from databuffer.records.performer import Performer
from databuffer.records.records import Records
from databuffer.search.builder import Builder
from databuffer.search.bundles import Bundles
from databuffer.search.cache import BundleCache
from databuffer.search.search import Search
from databuffer.settings import OnFrozen
from databuffer.state import Agreement, State
from databuffer.storage.store import Store
from databuffer.verifier import Verifier
from gwwire.segment import SegmentLimits

log = logging.getLogger(__name__)


class Buffer:
    """Stores segments by `ingest`, carries out orders by `batches` and `records`, answers by `queries` and `search`.

    Quotas are bytes that a group may store a day; 0: unlimited. The files of bundles have at most `bundle_cache` bytes.
    """

    def __init__(  # noqa: PLR0913 (each is a setting)
        self,
        store: Store,
        *,
        queue_size: int,
        on_frozen: OnFrozen = OnFrozen.REJECT,
        limits: SegmentLimits | None = None,
        group_quota: int = 0,
        bundle_cache: int = 10**10,
    ) -> None:
        quota = DailyQuota(group_quota)
        self._store = store
        self.state = State(store, quota, on_frozen)
        staging = Staging(store.volume, self.state, limits)
        self._commit = GroupCommit(store, self.state, quota, staging)
        self.ingest = Ingest(staging.stage, self._commit.store, queue_size)
        self.queries = Queries(store, self.state, self.ingest, quota)
        self.records = Records(store, self.state, self.ingest, self.queries)
        self.performer = Performer(self.records)
        self.verifier = Verifier(store, self.state, self.records, self.queries, self.performer)
        self.search = Search(self.queries)
        builder = Builder(store, self.records, self.queries, self.performer, BundleCache(store.volume.bundles))
        self.bundles = Bundles(store, self.state, self.ingest, self.queries, builder, bundle_cache)
        self.batches = Batches(store, self.state, self.ingest, self.queries)

    async def open(self) -> None:
        """Recover the volume unless that is done, and start the ingest."""
        if self.state.agreement is Agreement.UNREAD:
            await asyncio.to_thread(self.state.recover)
        self.ingest.start()
        await self.bundles.open()
        await self.performer.open()
        current, state = self.state.current, self.state.description.dstatus
        n_itm, size = current.stats.n_itm, current.stats.buff_size
        text = f"{state}, {n_itm} segments, {size} bytes in {self._store.current.folder}"
        self.state.log_event("open", text, state=state, batch=current.id, n_itm=n_itm, buff_size=size)

    async def close(self) -> None:
        """Finish accepted work, record a clean stop, and unlock the volume."""
        await self.performer.close()
        await self.bundles.close()
        await self.ingest.close()
        self._commit.close()
        if self.state.agreement is not Agreement.UNREAD:
            with suppress(VolumeError):
                self._store.catalog.note_clean_stop(self._store.trace())
        self._store.close()
