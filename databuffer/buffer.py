"""The buffer: it connects its parts, opens and closes them."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress

from databuffer.batches import Batches
from databuffer.errors import VolumeError
from databuffer.holdings.contents import Contents
from databuffer.holdings.holdings import Holdings
from databuffer.holdings.ledger import HoldingLedger
from databuffer.holdings.quotas import Quotas
from databuffer.ingest.commit import GroupCommit
from databuffer.ingest.pipeline import Ingest
from databuffer.ingest.quota import DailyQuota
from databuffer.ingest.staging import Staging
from databuffer.queries import Queries
from databuffer.records.feed import ChangeFeed
from databuffer.records.performer import Performer
from databuffer.records.records import Records
from databuffer.search.builder import Builder
from databuffer.search.bundles import Bundles
from databuffer.search.cache import BundleCache
from databuffer.search.meta_reader import MetaReader
from databuffer.search.quota import BundleQuota
from databuffer.search.search import Search
from databuffer.settings import OnFrozen
from databuffer.state import Agreement, State
from databuffer.storage.store import Store
from databuffer.tiers.moves.mover import Mover
from databuffer.tiers.moves.replica_ledger import ReplicaLedger
from databuffer.tiers.orders.orders import TierOrders
from databuffer.tiers.orders.overview import TiersOverview
from databuffer.tiers.orders.stage_requests import StageRequests
from databuffer.tiers.packs.file_pack import FilePacks
from databuffer.tiers.packs.packs import Packs
from databuffer.tiers.recalls.cache import TapeCache
from databuffer.tiers.recalls.reading import TierReader
from databuffer.tiers.recalls.recall import Recalls
from databuffer.tiers.tier import Tier
from databuffer.tiers.upkeep.discards import Discards
from databuffer.tiers.upkeep.file_seals import FileSeals
from databuffer.tiers.upkeep.lost_holdings import LostHoldings
from databuffer.tiers.upkeep.sweep import Sweep
from databuffer.tiers.upkeep.watch import TierWatch
from databuffer.verifier import Verifier
from gwwire.segment import SegmentLimits
from gwwire.tiering import Tiering

log = logging.getLogger(__name__)

NO_TIERS: Mapping[str, Tier] = {}
NO_QUOTAS = Quotas()


class Buffer:
    """Stores segments by `ingest`, carries out orders by `batches` and `records`, answers by `queries` and `search`.

    `tiers` says where packs lie, `tier_overview` what the tiers hold, `tier_reader` reads them; `holdings` has the
    files of users.
    Quotas are bytes, 0: unlimited: what a group may store a day, and what the files of its bundles may take. Those of
    all bundles have at most `bundle_cache` bytes. What is deleted in holdings can be restored for `holding_grace`
    seconds, None: forever; `holding_tiering` is the policy of their files, None: none.
    Packs of archived batches are moved to and from `tiers`, at most `move_rate` bytes/s in all, 0: unlimited; each
    replica is read again after `scrub_every` seconds, None: never. What is recalled from tape is kept for its readers
    for `recall_pin` seconds, in a tier that packs may fill up to the share `high_water`.
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
        bundle_quota: int = 0,
        tiers: Mapping[str, Tier] = NO_TIERS,
        move_rate: int = 0,
        scrub_every: int | None = None,
        high_water: float = 0.8,
        recall_pin: int = 86_400,
        holding_quotas: Quotas = NO_QUOTAS,
        holding_grace: int | None = 7 * 86_400,
        holding_tiering: Tiering | None = None,
    ) -> None:
        quota = DailyQuota(group_quota)
        self._store = store
        self.state = State(store, quota, on_frozen)
        staging = Staging(store.volume, self.state, limits)
        self._commit = GroupCommit(store, self.state, quota, staging)
        self.ingest = Ingest(staging.stage, self._commit.store, queue_size)
        self.queries = Queries(store, self.state, self.ingest, quota)
        self.records = Records(store, self.state, self.ingest, self.queries)
        self.feed = ChangeFeed(self.records)
        self.performer = Performer(self.records)
        self._replicas = ReplicaLedger(store, self.state, self.ingest)
        contents = Contents(store.volume.holdings)
        file_packs = FilePacks(store, contents)
        packs = Packs(store, file_packs)
        mover = Mover(
            *(packs, self.state, self._replicas, self.performer),
            tiers=tiers,
            rate=move_rate,
            arrivals=lambda: self.ingest.accepted,
        )
        self._watch = TierWatch(mover.access, self._replicas, self.state)
        cache = TapeCache(store, packs, mover, high_water)
        grace = None if holding_grace is None else holding_grace * 10**9
        seals = FileSeals(store, file_packs, self._replicas, policy=holding_tiering, grace=grace)
        discards = Discards(store, self.state, file_packs, self._replicas, self.performer, mover, grace=grace)
        lost = LostHoldings(store, self.state, self._replicas, seals)
        self._sweep = Sweep(
            store, self.records, self.queries, mover, self._watch, cache, seals, discards, lost, scrub_every=scrub_every
        )
        self.recalls = Recalls(
            store, packs, self.queries, self.records, self._replicas, self.performer, mover, cache, recall_pin
        )
        self.tier_reader = TierReader(packs, self._replicas, mover, self.recalls)
        self.queries.elsewhere = self.tier_reader.open
        self.verifier = Verifier(store, self.state, self.records, self.queries, self.performer, mover)
        self.search = Search(self.queries, lambda: self.state.coverage)
        builder = Builder(store, self.records, self.queries, self.performer, BundleCache(store.volume.bundles))
        self.bundles = Bundles(
            store,
            self.state,
            self.ingest,
            self.queries,
            builder,
            self.recalls,
            bundle_cache,
            BundleQuota(bundle_quota),
        )
        self.meta_reader = MetaReader(store, self.state, self.ingest, self.queries)
        self.tiers = TierOrders(store, packs, self.queries, self._replicas, mover, self._sweep)
        self.stage_requests = StageRequests(self.queries, self._replicas, self.tiers, self.recalls)
        self.tier_overview = TiersOverview(self.state, self.queries, self.performer, mover, self._sweep, holding_quotas)
        ledger = HoldingLedger(store, self.state, self.ingest, self.queries)
        self.holdings = Holdings(ledger, contents, quotas=holding_quotas, grace=holding_grace)
        self.holdings.localities = self.tiers.localities_of_packs
        self.holdings.uploads.completions.on_ended = self._sweep.ask
        self.batches = Batches(store, self.state, self.ingest, self.queries, self._sweep.ask)

    def recover(self) -> None:
        """Lock and recover the volume, and create its folders; raise VolumeError if they cannot be used."""
        self.state.recover()
        self.holdings.prepare()

    async def open(self) -> None:
        """Recover the volume unless that is done, and start the ingest."""
        if self.state.agreement is Agreement.UNREAD:
            await asyncio.to_thread(self.recover)
        self.ingest.start()
        self._replicas.open()
        await self.recalls.open()
        await self.bundles.open()
        self.holdings.open()
        await self.performer.open()
        await self.tier_overview.open()
        self._sweep.open()
        await self.meta_reader.open()
        current, state = self.state.current, self.state.description.dstatus
        n_itm, size = current.stats.n_itm, current.stats.buff_size
        text = f"{state}, {n_itm} segments, {size} bytes in {self._store.current.folder}"
        self.state.log_event("open", text, state=state, batch=current.id, n_itm=n_itm, buff_size=size)

    def stop_waiting(self) -> None:
        """Answer every request that waits for a change: the service is stopping."""
        self.records.stop_waiting()
        self.bundles.stop_waiting()

    async def close(self) -> None:
        """Finish accepted work, record a clean stop, and unlock the volume."""
        await self.stage_requests.close()
        await self._sweep.close()
        await self.meta_reader.close()
        await self.performer.close()
        await self.holdings.close()
        await self.bundles.close()
        await self.ingest.close()
        self._commit.close()
        if self.state.agreement is not Agreement.UNREAD:
            with suppress(VolumeError):
                if not self._store.volume.check_open_folders():  # the trace of another would hide what is missing
                    self._store.catalog.note_clean_stop(self._store.trace())
        self._store.close()
