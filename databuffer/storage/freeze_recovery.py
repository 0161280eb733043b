"""Make the state of the current batch follow the volume: it is frozen if its folder has a manifest with a holder.

If neither the manifest nor Dsstat.json can be read, the catalog decides.
"""

import time
from collections.abc import Iterator
from functools import partial

from msgspec import structs

from databuffer.fingerprint import fingerprint, is_fingerprint
from databuffer.storage.catalog import BatchRow, SegmentFilter
from databuffer.storage.finding import Finding
from databuffer.storage.segment_recovery import is_segment, manifest_of
from databuffer.storage.store import OPERATIONAL, Store
from gwwire.datastore import Description
from gwwire.manifest import MANIFEST, wrong_totals
from gwwire.public import BatchState, DatastoreState, Manifest

#: The holder of a frozen batch if nothing that names the holder can be read.
UNKNOWN = "(unknown)"


def holder(store: Store) -> Iterator[Finding]:
    """Make Dsstat.json follow the manifest of the current batch, which names its holder."""
    written, held = store.metadata.read_description(), _held(store)
    write = partial(store.metadata.write_description, held)
    if written is None:
        yield Finding("the state could not be read", f"it is {_state(held)} now", write)
    elif (written.dstatus, written.user) != (held.dstatus, held.user):
        what = f"the state was {_state(written)}, not {_state(held)} as on the volume"
        if held is OPERATIONAL and _has_grown(store):
            what += ": its batch has segments that were stored later, so an older ADMROOT was restored"
        yield Finding(what, "rewritten", write)
    elif held.token and not is_fingerprint(held.token):  # written by the first release
        hidden = partial(store.metadata.write_description, structs.replace(held, token=fingerprint(held.token)))
        yield Finding("the holder's token was stored in clear", "its fingerprint is stored now", hidden)


def seals(store: Store, *, thorough: bool) -> Iterator[Finding]:
    """Make manifest and catalog follow the state; if `thorough`, the manifest's segments are compared, too."""
    current, manifest = store.load(store.current), manifest_of(store.current.folder)
    row = store.catalog.batches.get(current.id)
    description = store.metadata.read_description() or OPERATIONAL
    path = store.current.folder / MANIFEST
    # A manifest that was altered has frozen the batch nevertheless.
    if manifest and (any(wrong_totals(manifest)) or (thorough and _misdescribes(store, manifest))):
        manifest = None
    if manifest is None and path.exists():
        set_aside = partial(store.volume.set_aside, path, "cannot be read, or does not describe its segments")
        what = "the manifest of the current batch cannot be read, or does not describe its segments"
        yield Finding(what, "moved to quarantine", set_aside)
    if description.dstatus is DatastoreState.OPERATIONAL:
        if path.exists() or row is None or row.state is not BatchState.OPEN:
            unseal = partial(store.unseal, current)
            yield Finding("the batch was being frozen, thawed or archived", "it is open", unseal)
    elif manifest is None:
        seal = partial(store.seal, current, description.user, time.time_ns())
        what = f"the batch is {_state(description)}, but had no manifest"
        yield Finding(what, "rewritten; if ADMROOT was restored from before a thaw, thaw the batch again", seal)
    elif row is None or (row.state, row.digest) != (BatchState.FROZEN, manifest.digest):
        note = partial(store.note_seal, current, manifest)
        yield Finding("the batch was not frozen in the catalog", "it is now", note)


def _held(store: Store) -> Description:
    """Return the state of the current batch according to the volume.

    If the manifest is missing, a freeze recorded in Dsstat.json was interrupted, or belongs to another batch, unless
    the catalog records this batch as frozen, or knows no other batch that it could belong to. If segments were stored
    in the batch after that, it was thawed, and Dsstat.json and catalog are an older copy.
    """
    written, manifest = store.metadata.read_description(), manifest_of(store.current.folder)
    if manifest and manifest.holder:
        is_known = written and written.dstatus is DatastoreState.FROZEN and written.user == manifest.holder
        return written if written and is_known else Description(DatastoreState.FROZEN, manifest.holder)
    mark = store.volume.marks.read(store.current.folder)
    if written is None:
        return _of_catalog(store, store.catalog.batches.get(mark.id) if mark else None)
    rows = store.catalog.batches.all()
    frozen = {row.id for row in rows if row.state is BatchState.FROZEN}
    is_lost = mark and (mark.id in frozen if frozen else mark.id not in {row.id for row in rows})
    return written if is_lost and not _has_grown(store) else OPERATIONAL


def _of_catalog(store: Store, row: BatchRow | None) -> Description:
    """Return the state of the current batch according to its row.

    Without a row, a damaged manifest or a next batch shows that it was frozen: no open batch has one.
    """
    if row is None:
        is_frozen = (store.current.folder / MANIFEST).exists() or store.next.folder.exists()
        return Description(DatastoreState.FROZEN, UNKNOWN) if is_frozen else OPERATIONAL
    is_frozen = row.state is BatchState.FROZEN and bool(row.holder) and not _has_grown(store)
    return Description(DatastoreState.FROZEN, row.holder) if is_frozen else OPERATIONAL


def _has_grown(store: Store) -> bool:
    """Return whether the current batch has segments that were stored after the catalog had it as frozen.

    They have later numbers than all that the catalog has. Another file was put there by another program.
    """
    folder = store.current.folder
    mark = store.volume.marks.read(folder)
    row = store.catalog.batches.get(mark.id) if mark else None
    if row is None or row.state is not BatchState.FROZEN:
        return False
    known = store.catalog.segments.sizes(row.id)
    last = max((store.volume.number(name) or 0 for name in known), default=0)
    later = (name for name in store.volume.sizes(folder) if (store.volume.number(name) or 0) > last)
    return any(is_segment(store, folder / name) for name in later)


def _state(description: Description) -> str:
    return f"{description.dstatus} by {description.user}" if description.user else description.dstatus


def _misdescribes(store: Store, manifest: Manifest) -> bool:
    """Return whether channel, t0, dt or n of a segment are not those in the catalog, which follows the files."""
    rows = store.catalog.segments.find(SegmentFilter(batch=manifest.batch, limit=-1))
    described = {row.name: (row.channel, row.t0, row.dt, row.n) for row in rows}
    listed = {entry.name: (entry.channel, entry.t0, entry.dt, entry.n) for entry in manifest.segments}
    return any(listed[name] != described[name] for name in listed.keys() & described.keys())
