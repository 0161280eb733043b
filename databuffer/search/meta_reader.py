"""Make the `meta` of segments searchable that an earlier version stored: read their files in the background.

The catalog has the range of seqs that is left. It shrinks in the transaction that adds what was read of some segments:
after a crash, the work goes on where it was.
"""

import asyncio
import logging
import time
from contextlib import suppress
from functools import partial

from databuffer.errors import VolumeError
from databuffer.ingest.pipeline import Ingest
from databuffer.queries import Queries
from databuffer.search.segment_files import SegmentFiles
from databuffer.state import State
from databuffer.storage.files import volume_errors
from databuffer.storage.scalars import Scalars, scalars_of_file
from databuffer.storage.store import Store
from databuffer.tar import Member, Part
from gwwire.problems import ProblemError

log = logging.getLogger(__name__)

#: Segments that are read at a time; a progress is logged after so many.
_PORTION, _LOGGED = 200, 10_000
#: After an error of the volume.
_PAUSE_SECONDS = 5.0


class MetaReader:
    """Reads the `meta` of segments in a thread, half of the time at most; `State.unread_meta` of them are left."""

    def __init__(self, store: Store, state: State, ingest: Ingest, queries: Queries) -> None:
        self._catalog = store.catalog
        self._state = state
        self._ingest = ingest
        self._queries = queries
        self._files = SegmentFiles(queries, recalls=False)
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Begin to read, if there is something left."""
        self._files.begin()
        self._state.unread_meta = await self._queries.look_up(self._catalog.segments.number_of_unread)
        if self._state.unread_meta:
            self._task = asyncio.create_task(self._read_all())

    async def close(self) -> None:
        """Stop reading."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _read_all(self) -> None:
        total = self._state.unread_meta
        self._state.log_event("meta", f"the meta of {total} segments of an earlier version is being read", left=total)
        logged, more = total, True
        while more:
            began = time.monotonic()
            try:
                more = await self._read_some()
            except VolumeError as error:
                log.warning("the meta of segments cannot be read now: %s", error.detail, extra={"event": "meta"})
                await asyncio.sleep(_PAUSE_SECONDS)
            if (left := self._state.unread_meta) <= logged - _LOGGED:
                log.info("the meta of %d of %d segments is read", total - left, total, extra={"event": "meta"})
                logged = left
            await asyncio.sleep(time.monotonic() - began)
        self._state.log_event("meta", f"the meta of all {total} segments of an earlier version can be searched")

    async def _read_some(self) -> bool:
        """Read the next segments; return whether there may be more."""
        segments = self._catalog.segments
        some = await self._queries.look_up(segments.unread, _PORTION)
        found = await asyncio.to_thread(self._conditions, [name for _, name in some])
        conditions = {seq: found[name] for seq, name in some if name in found}
        more = len(some) == _PORTION
        last = some[-1][0] if more else None
        await self._ingest.perform(partial(self._state.run, partial(segments.add_conditions, conditions, last)))
        self._state.unread_meta = max(self._state.unread_meta - len(some), 0) if more else 0
        return more

    def _conditions(self, names: list[str]) -> dict[str, Scalars]:
        """Return what the `meta` of segments has, by name, of those whose files can be read."""
        opened = self._files.opener([Part(Member(name, 0, ""), 0, 0) for name in names])
        found: dict[str, Scalars] = {}
        errors: list[str] = []
        for name in names:
            try:
                with volume_errors(), opened(Member(name, 0, "")) as file:
                    found[name] = scalars_of_file(file.read())
            except ProblemError as error:  # the file is on tape only, or the verification of the batch reports it
                errors.append(error.detail)
        if errors:
            text = "the meta of %d segments cannot be read, the first because %s"
            log.warning(text, len(errors), errors[0], extra={"event": "meta"})
        return found
