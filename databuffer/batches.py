"""Orders about batches: freeze, thaw, flush.

Each order waits in the ingest queue, after the segments that arrived before it.
"""

import asyncio
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from databuffer.errors import (
    BatchChanged,
    NotHolder,
    VolumeFailed,
)
from databuffer.fingerprint import fingerprint, matches
from databuffer.ingest.pipeline import Ingest
from databuffer.queries import Queries
from databuffer.records.steps import reopen_dependents
from databuffer.state import State
from databuffer.storage.catalog.batches import BATCH_RECORD
from databuffer.storage.clock import steady_ns
from databuffer.storage.manifest import read_manifest
from databuffer.storage.store import OPERATIONAL, OpenBatch, Seal, Store
from databuffer.tiers.ledger.replicas import put_tiering
from gwwire.datastore import Description, FlushOrder, FreezeOrder
from gwwire.public import DatastoreState, Manifest, Stats, ThawOrder
from gwwire.records import SEALED

T = TypeVar("T")


@dataclass(frozen=True)
class Frozen:
    """A frozen batch, with its counts at that moment."""

    stats: Stats
    holder: str
    batch: str
    digest: str


@dataclass(frozen=True)
class Archived:
    """The counts of an archived batch, and its folder, or None if there was nothing to archive."""

    stats: Stats
    folder: Path | None


class Batches:
    """Carries out orders about batches; each raises VolumeError if the volume rejects it."""

    def __init__(
        self, store: Store, state: State, ingest: Ingest, queries: Queries, on_archived: Callable[[], object]
    ) -> None:
        self._store = store
        self._state = state
        self._ingest = ingest
        self._queries = queries
        self._on_archived = on_archived

    async def freeze(self, order: FreezeOrder) -> Frozen:
        """Freeze and seal the current batch, or raise BatchChanged; a batch that is frozen keeps its holder."""
        return await self._perform_with_reserve(lambda: self._freeze(order))

    async def thaw(self, order: ThawOrder) -> Stats | None:
        """Open the frozen batch again for its holder, or raise NotHolder; the segments of the next batch join it.

        Return its counts, or None if it was open already.
        """
        # The token is compared outside the queue: guessing tokens must not delay segments.
        held = self._state.description
        is_holder = await asyncio.to_thread(_is_holder, held, order)
        return await self._perform_with_reserve(lambda: self._thaw(order, held, is_holder=is_holder))

    async def flush(self, order: FlushOrder = FlushOrder()) -> Archived:  # noqa: B008 (it is immutable)
        """Archive the batch that the order names, or raise BatchChanged; the next batch becomes the current one."""
        archived = await self._perform_with_reserve(lambda: self._flush(order))
        self._on_archived()
        return archived

    async def _perform(self, step: Callable[[], T]) -> T:
        return await self._ingest.perform(lambda: self._state.run(step))

    async def _perform_with_reserve(self, step: Callable[[], T]) -> T:
        """Perform a step that has to succeed on a full volume too."""

        def with_reserve() -> T:
            with self._store.reserve.released():
                return step()

        return await self._perform(with_reserve)

    def _freeze(self, order: FreezeOrder) -> Frozen:
        manifest = self._manifest()
        current, held = self._state.current, self._state.description
        if manifest:
            return Frozen(current.stats, held.user, current.id, manifest.digest)
        if current.stats.buff_size < order.at_least:
            raise BatchChanged(f"the current batch has {current.stats.buff_size} bytes, fewer than {order.at_least}")
        now = time.time_ns()
        # The manifest freezes the batch; without the description, which is written first, nobody could thaw it.
        description = Description(DatastoreState.FROZEN, order.user, fingerprint(order.token))
        self._store.metadata.write_description(description)
        manifest = self._store.seal(current, order.user, now)
        self._state.freeze(replace(current, seal=Seal(now, manifest.digest)), description)
        text, fields = f"frozen by {order.user}: {_size(current.stats)}", _counts(current)
        self._state.log_event("freeze", text, user=order.user, digest=manifest.digest, **fields)
        return Frozen(current.stats, order.user, current.id, manifest.digest)

    def _thaw(self, order: ThawOrder, held: Description, *, is_holder: bool) -> Stats | None:
        if not self._state.frozen:
            return None
        if self._state.description != held:  # frozen again while the token was compared
            is_holder = _is_holder(self._state.description, order)
        if not self._state.description.token:
            detail = f"the batch is held by {self._state.description.user}, whose token is lost with Dsstat.json"
            raise NotHolder(f"{detail}; it can only be archived (gwclient clean)")
        if not is_holder:
            raise NotHolder(
                f"the batch is held by {self._state.description.user}; the user or the token is not the holder's"
            )
        self._keep_marks()
        with self._store.catalog.database.writing_synced() as connection:  # before the batch can change
            reopen_dependents(connection, BATCH_RECORD + self._state.current.id, SEALED, steady_ns())
        self._store.unseal(self._state.current)
        self._store.metadata.write_description(OPERATIONAL)
        current = replace(self._state.current, seal=None)
        if self._state.next is not None:
            current = self._store.merge()
            self._store.metadata.write_stats(current.stats)
        self._state.reopen(current)
        text, fields = f"thawed by {order.user}: {_size(current.stats)}", _counts(current)
        self._state.log_event("thaw", text, user=order.user, **fields)
        return current.stats

    def _flush(self, order: FlushOrder) -> Archived:
        manifest = self._manifest()
        current, now = self._state.current, time.time_ns()
        self._check_is_meant(order)
        self._keep_marks()
        folder = None
        if current.stats.n_itm:
            if order.tiering:  # before the batch is archived, so that no archive is without its policy
                with self._store.catalog.database.writing_synced() as connection:
                    put_tiering(connection, BATCH_RECORD + current.id, order.tiering)
            folder = self._store.archive(current, manifest or self._store.seal(current, "", now), now)
            self._state.archived += 1
        else:
            self._store.drop_empty(current)
            self._state.quarantined = self._store.volume.quarantined()
        self._state.reopen(self._store.advance())
        text = f"archived {_size(current.stats)} in {folder}" if folder else "there was nothing to archive"
        self._state.log_event("flush", text, folder=folder and folder.name, **_counts(current))
        return Archived(current.stats, folder)

    def _manifest(self) -> Manifest | None:
        """Return the manifest of the frozen batch, or None; recovery rewrites one that was deleted or damaged."""
        if not self._state.frozen:
            return None
        try:
            return read_manifest(self._state.current.slot.folder)
        except VolumeFailed:
            self._state.recover()
        return read_manifest(self._state.current.slot.folder) if self._state.frozen else None

    def _check_is_meant(self, order: FlushOrder) -> None:
        batch, holder = self._state.current.id, self._state.description.user
        if order.batch not in {None, batch}:
            raise BatchChanged(f"the current batch is {batch!r}, not {order.batch!r}")
        if order.holder not in {None, holder}:
            raise BatchChanged(f"the current batch is {_held_by(holder)}, not {_held_by(order.holder)}")

    def _keep_marks(self) -> None:
        for batch in self._state.open_batches:
            self._store.keep_mark(batch)


def _size(stats: Stats) -> str:
    return f"{stats.n_itm} segments, {stats.buff_size} bytes"


def _held_by(holder: str | None) -> str:
    return f"frozen by {holder}" if holder else "open"


def _counts(batch: OpenBatch) -> dict[str, str | int]:
    return {"batch": batch.id, "n_itm": batch.stats.n_itm, "buff_size": batch.stats.buff_size}


def _is_holder(held: Description, order: ThawOrder) -> bool:
    return hmac.compare_digest(held.user.encode(), order.user.encode()) and matches(held.token, order.token)
