"""The step `bundle`, in which the datastore builds the strain files of a bundle, and access to files for threads."""

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import sqlalchemy as sa
from msgspec import structs

from databuffer.errors import OnTape, VolumeFailed, VolumeFull
from databuffer.queries import Queries
from databuffer.records.performer import Attempt, OwnStep, Performer
from databuffer.records.records import Records
from databuffer.search import table
from databuffer.search.archive import open_archive
from databuffer.search.cache import Built, BundleCache
from databuffer.search.segment_files import SegmentFiles
from databuffer.search.waiting import BundleChanges
from databuffer.storage.catalog import CataloguedSegment
from databuffer.storage.files import Space
from databuffer.storage.store import Store
from gwwire.bundles import BundleManifest, BundleState, NotIncluded
from gwwire.query import Query
from gwwire.records import BUNDLE, Record, RecordPatch, StepState
from gwwire.segment import Segment, decode_segment

_RECORD = "bundle/"
_ATTEMPTS = 3

#: Bytes of a sample, and of all else in a file, at most.
_SAMPLE_BYTES, _FILE_BYTES = 8, 16 * 1024

Write = Callable[[Callable[[sa.Connection], Any]], Awaitable[Any]]
MakeSpace = Callable[[int, str], Awaitable[None]]
Release = Callable[[str], Awaitable[None]]


def bytes_needed(manifest: BundleManifest) -> int:
    """Return the bytes that the strain files of a bundle take, at most.

    If some gaps were left out of the description, each segment may have a file of its own.
    """
    covered = manifest.info.covered
    files = sum(sum(n for *_, n in each.spans) if each.closed_gaps else len(each.spans) for each in covered)
    return _SAMPLE_BYTES * sum(entry.n for entry in manifest.segments) + _FILE_BYTES * files


def check_space(folder: Path, needed: int = 0) -> None:
    """Raise VolumeFull if strain files of `needed` bytes would take space that is kept for segments."""
    space = Space.of(folder)
    if space.free < needed + space.margin:
        rest = f"{space.free:,} bytes are free on the volume, of which {space.margin:,} are kept for segments"
        raise VolumeFull(f"the strain files need {f'{needed:,} bytes' if needed else 'more space'}, and {rest}")


@dataclass(frozen=True)
class Progress:
    """The progress of the files of a bundle, and the reason of a failure."""

    state: BundleState
    percent: int = 0
    reason: str | None = None


class Builder:
    """Builds the strain files of bundles, one bundle at a time."""

    def __init__(
        self, store: Store, records: Records, queries: Queries, performer: Performer, cache: BundleCache
    ) -> None:
        self.cache = cache
        self.files = SegmentFiles(queries)
        self.changes = BundleChanges()
        self._store = store
        self._records = records
        self._performer = performer
        performer.add(
            OwnStep(
                BUNDLE, self._perform, kind=_RECORD[:-1], on_request=True, attempts=_ATTEMPTS, ended=self._announce_end
            )
        )

    def open(self, write: Write, make_space: MakeSpace, release: Release) -> None:
        """Use the running event loop, and `write` for changes of the table of bundles.

        `make_space` is called before a build, `release` when the segments of a bundle are not needed any more.
        """
        self._loop, self._write = asyncio.get_running_loop(), write
        self._make_space, self._release = make_space, release
        self.files.begin()

    async def request(self, bundle: str, conditions: dict[str, Any]) -> None:
        """Order that the files of a bundle are built; its record has these conditions.

        An attempt that is running is that of an order which was cancelled: it may end without building them.
        """
        await self._records.patch(_RECORD + bundle, RecordPatch(conditions=conditions))
        found = await self._records.request(_RECORD + bundle, BUNDLE)
        if any(step.name == BUNDLE and step.state is StepState.RUNNING for step in found.steps):
            await self._records.redo(_RECORD + bundle, BUNDLE)

    def stop(self, bundle: str) -> None:
        """Stop building the files of a bundle."""
        if attempt := self._performer.attempt(BUNDLE, _RECORD + bundle):
            attempt.stop()

    async def progress(self, bundle: str) -> Progress:
        """Return how far the files of a bundle are built that were requested."""
        step = (await self._records.steps_named(BUNDLE, [_RECORD + bundle])).get(_RECORD + bundle)
        attempt = self._performer.attempt(BUNDLE, _RECORD + bundle)
        state = BundleState.FAILED if step and step.state is StepState.FAILED else BundleState.BUILDING
        return Progress(state, attempt.progress or 0 if attempt else 0, step.reason if step else None)

    async def is_ordered(self, bundle: str) -> bool:
        """Return whether the files of a bundle wait to be built, are built, or could not be built."""
        step = (await self._records.steps_named(BUNDLE, [_RECORD + bundle])).get(_RECORD + bundle)
        return step is not None and step.state is not StepState.DONE

    # ---- in threads

    def _open_recalled(self, name: str, attempt: Attempt) -> BinaryIO:
        """Open a segment's file; if its batch went to tape meanwhile, wait for the recall."""
        while True:
            try:
                return self.files.open(name)
            except OnTape as error:
                attempt.wait(error.retry_after or 1)

    def _perform(self, record: Record, attempt: Attempt) -> dict[str, int] | None:
        """Build the files of a bundle; return their number and bytes, or None if it was cancelled."""
        bundle = record.id.removeprefix(_RECORD)
        if not self._is_wanted(bundle):
            return None
        try:
            manifest = self.cache.manifest(bundle)
            self._wait(self._make_space(bytes_needed(manifest), bundle))
            built = self._build(bundle, manifest, attempt)
        except BaseException:
            if self._is_wanted(bundle):
                raise
            return None
        archive = open_archive(manifest.info.format, bundle, self.cache, self.files.opener)
        ready = partial(
            table.change,
            bundle=bundle,
            only_if=BundleState.BUILDING,
            state=BundleState.READY,
            size=archive.size,
            info=msgspec.json.encode(structs.replace(manifest.info, left_out=built.left_out)).decode(),
            held=sum(member.size for member in built.members()),
        )
        self._wait(self._write(ready))
        self._wait(self._release(bundle))
        self._announce(bundle)
        return {"files": len(built.files), "bytes": archive.size}

    def _announce(self, bundle: str) -> None:
        self._loop.call_soon_threadsafe(self.changes.announce, bundle)

    def _announce_end(self, record: Record) -> None:
        self.changes.announce(record.id.removeprefix(_RECORD))

    def _wait(self, work: Awaitable[Any]) -> None:
        asyncio.run_coroutine_threadsafe(_awaited(work), self._loop).result()

    def _is_wanted(self, bundle: str) -> bool:
        with self._store.catalog.database.reading() as connection:
            row = table.get(connection, bundle)
        return row is not None and row.state is BundleState.BUILDING

    def _build(self, bundle: str, manifest: BundleManifest, attempt: Attempt) -> Built:
        from databuffer.search.strain import FORMATS, write_files  # noqa: PLC0415 (NumPy and h5py, 40 MB that few buffers need)

        digests = {entry.name: entry.sha256 for entry in manifest.segments}
        read = 0

        def read_segment(name: str) -> Segment:
            nonlocal read
            check_space(self._store.volume.root)
            with self._open_recalled(name, attempt) as file:
                content = file.read()
            if hashlib.sha256(content).hexdigest() != digests[name]:
                raise VolumeFailed(f"segment {name} differs from its SHA-256: verify its batch")
            read += 1
            before, percent = attempt.progress, 100 * read // (len(digests) + 1)
            attempt.report(percent)
            if percent != before:
                self._announce(bundle)
            return decode_segment(content)

        query = manifest.info.query or Query()
        span = (-math.inf if query.start is None else query.start, math.inf if query.stop is None else query.stop)
        segments = [
            CataloguedSegment(i, "", each.name, each.size, each.sha256, each.channel, each.t0, each.dt, each.n, 0)
            for i, each in enumerate(manifest.segments)
        ]
        with self.cache.building(bundle) as folder:
            written = write_files(segments, span, folder, read_segment, FORMATS[manifest.info.format])
            left_out = [NotIncluded(*each.span, each.reason) for each in written.left_out]
            built = Built([(each.name, each.size, each.sha256) for each in written.files], left_out)
            self.cache.finish(bundle, built)
        return built


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work
