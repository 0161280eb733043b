"""Find archived batches and their replicas again, by the listings of the tiers.

A pack has the manifest of its batch at its head, so that the tiers alone are enough: the folder of a batch is restored
with MANIFEST.json and a TIERS.json that names the replicas, as if the disk had dropped the batch. A start then adds the
batch to the catalog and the replicas to the ledger, and compares every byte of them. The manifests of packs of files
are restored in the same way; a start makes the holdings again that the catalog does not have. In a folder that exists,
a manifest that is missing or malformed is restored.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from databuffer.amounts import count
from databuffer.errors import VolumeFailed
from databuffer.holdings.contents import PACKS_FOLDER
from databuffer.storage.dropped import TIERS, Dropped, encode_dropped, is_dropped, read_dropped
from databuffer.storage.files import make_folder, replace_file, volume_errors
from databuffer.storage.finding import Finding
from databuffer.storage.manifest import read_manifest
from databuffer.storage.segment_recovery import check_reachable
from databuffer.storage.store import Store
from databuffer.storage.volume import archive_name
from databuffer.tiers.packs.heads import AnyPack, checked_head, restore_manifest
from databuffer.tiers.packs.pack import (
    PREFIXES,
    FilesPack,
    SegmentPack,
    files_key,
    files_pack,
    key_of,
    read_head,
    tier_range,
)
from databuffer.tiers.tier import Locality, StageState, Stored, Tier, TierError
from gwservice.atomic import sync as sync_folder
from gwwire.manifest import MANIFEST
from gwwire.public import BatchState
from gwwire.tiering import Replica, ReplicaState

#: The interval at which a tape is asked which packs can be read.
_POLL_SECONDS = 0.5


def rebuild(store: Store, tiers: Collection[Tier]) -> Iterator[Finding]:
    """Yield each pack in the tiers whose manifest the volume lacks; the repair restores it, with the folder if needed.

    The folders whose manifest cannot be restored come last. The store is not open. Its catalog, if there is one, says
    how the folder was named. Raise VolumeError, or TierError if a tier cannot be listed.
    """
    store.volume.lock()
    with volume_errors():
        make_folder(store.volume.incoming)
    known, broken = _manifests(store)
    listed = _listed(tiers, known)
    names = _names(store) if listed else {}
    # Packs that are on tape only have to be staged.
    for tier in sorted(tiers, key=lambda tier: tier.kind == "tape"):
        for key, found in _heads(tier, [key for key, packs in listed.items() if tier.name in packs]):
            try:
                pack = checked_head(key, found)
            except (TierError, ValueError) as error:
                yield Finding(f"{key} in tier {tier.name} cannot be used: {error}")
                continue
            folder = next((folder for folder in broken if _is_of(store, folder, pack, names)), None)
            for finding in _restoring(store, pack, listed.pop(key), names, folder):
                if folder and finding.repair:
                    broken.pop(folder, None)
                yield finding
    for folder, reason in broken.items():
        if _had_manifest(folder):
            yield Finding(f"{reason}; it cannot be restored from the tiers")


def _listed(tiers: Iterable[Tier], known: Collection[str]) -> dict[str, dict[str, Stored]]:
    """Return by key and tier what the tiers list besides the known keys."""
    listed: dict[str, dict[str, Stored]] = {}
    for tier in tiers:
        for prefix in PREFIXES:
            for stored in tier.list(prefix):
                if stored.key not in known:
                    listed.setdefault(stored.key, {})[tier.name] = stored
    return listed


def _manifests(store: Store) -> tuple[set[str], dict[Path, str]]:
    """Return the keys of the packs whose manifests are on the volume, and the folders without one, with the reasons.

    Raise VolumeError if a manifest is there that cannot be read: it may be whole.
    """
    known: set[str] = set()
    broken: dict[Path, str] = {}
    with volume_errors():
        of_files = [path for path in store.volume.holdings.glob(f"{PACKS_FOLDER}/*") if path.is_dir()]
    for folder in [*store.volume.archives(), *of_files]:
        try:
            if folder in of_files:
                files_pack(folder)
                known.add(files_key(folder.name))
            else:
                known.add(key_of(read_manifest(folder).batch))
        except VolumeFailed as error:
            check_reachable(error)
            if folder not in of_files or _had_manifest(folder):
                broken[folder] = error.detail
    return known, broken


def _had_manifest(folder: Path) -> bool:
    """Return whether a folder has had a manifest for sure; an archive needs none."""
    return is_dropped(folder) or (folder / MANIFEST).exists()


def _is_of(store: Store, folder: Path, pack: AnyPack, names: Mapping[str, str]) -> bool:
    """Return whether a folder without a manifest is that of a pack: by TIERS.json, the catalog or its segments."""
    if isinstance(pack, FilesPack):
        return folder == store.volume.holdings / PACKS_FOLDER / pack.manifest.transaction
    if folder.parent != store.volume.root:
        return False
    if not is_dropped(folder):
        present = store.volume.sizes(folder).items()
        return bool(present) and present <= {(each.name, each.size) for each in pack.manifest.segments}
    dropped = _readable_dropped(folder)
    return dropped.batch == pack.manifest.batch if dropped else names.get(pack.manifest.batch) == folder.name


def _readable_dropped(folder: Path) -> Dropped | None:
    """Return what TIERS.json says, or None if it is missing or malformed."""
    try:
        return read_dropped(folder)
    except VolumeFailed:
        return None


def _open_ids(store: Store) -> set[str]:
    slots = [slot for slot in (store.current, store.next) if slot.folder.exists()]
    return {mark.id for slot in slots if (mark := store.volume.marks.read(slot.folder))}


def _names(store: Store) -> Mapping[str, str]:
    """Return the names of the folders of archived batches, by batch, as far as there is a catalog."""
    if not store.catalog.database.path.exists():
        return {}
    store.catalog.open()
    return {row.id: row.path for row in store.catalog.batches.all() if row.state is BatchState.ARCHIVED}


def _restoring(
    store: Store, pack: AnyPack, found: Mapping[str, Stored], names: Mapping[str, str], folder: Path | None
) -> Iterator[Finding]:
    """Yield what is wrong with the replicas of a pack, and its restoration; `folder`: only its manifest is missing."""
    whole = {tier: stored for tier, stored in found.items() if stored.size == pack.size}
    for tier in sorted(found.keys() - whole.keys()):
        size = f"{found[tier].size} bytes, not {pack.size}"
        yield Finding(f"{found[tier].key} in tier {tier} has {size}")
    if folder:
        dropped = _readable_dropped(folder)
        if dropped and pack.size not in {each.size for each in dropped.replicas}:
            yield Finding(f"{pack.text}: {pack.size} bytes in {', '.join(found)}, not as {folder / TIERS} says")
        elif whole:
            what = f"{pack.text}: in {', '.join(whole)}, and the manifest in {folder.name!r} is missing or malformed"
            yield Finding(what, "its manifest is restored", partial(restore_manifest, folder, pack))
        return
    if isinstance(pack, FilesPack):
        if whole:
            what = f"{pack.text}: in {', '.join(whole)}, and the manifest is not on the volume"
            yield Finding(what, f"restored; a pack of {pack.size} bytes", partial(_restore_files, store, pack, whole))
        return
    batch = pack.manifest.batch
    if batch in _open_ids(store):
        yield Finding(f"batch {batch} is in {', '.join(found)}, and open or frozen on the volume, an older copy")
    elif whole:
        what = f"batch {batch} is in {', '.join(whole)}, but has no folder on the volume"
        remedy = f"restored; {count(pack.manifest.n_itm, 'segment')}, a pack of {pack.size} bytes"
        yield Finding(what, remedy, partial(_restore, store, pack, whole, names.get(batch)))


def _restore(store: Store, pack: SegmentPack, found: Mapping[str, Stored], name: str | None) -> None:
    """Write the folder of a batch; `name` is what it was called, or None if nobody knows."""
    sealed = datetime.fromisoformat(pack.manifest.sealed).astimezone(UTC)
    store.volume.put_archive(name or archive_name(sealed), _files_of(pack, pack.manifest.batch, found))


def _restore_files(store: Store, pack: FilesPack, found: Mapping[str, Stored]) -> None:
    """Write the folder of the pack of a transaction."""
    folder = store.volume.holdings / PACKS_FOLDER / pack.manifest.transaction
    with volume_errors():
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in reversed(_files_of(pack, folder.name, found).items()):  # with the manifest, it is there
            replace_file(folder / name, content, durable=True)
        sync_folder(folder.parent)


def _files_of(pack: AnyPack, name: str, found: Mapping[str, Stored]) -> dict[str, bytes]:
    """Return the files in the folder of a pack that the disk has dropped, by name."""
    replicas = [
        Replica(tier, stored.key, stored.size, None, ReplicaState.WRITTEN, written=stored.modified)
        for tier, stored in found.items()
    ]
    return {MANIFEST: pack.content, TIERS: encode_dropped(Dropped(name, replicas))}


# ---- the heads of packs


@dataclass
class _Request:
    """Packs that a tape brings online, and those of them that were not released yet."""

    tier: Tier
    id: str
    keys: set[str] = field(default_factory=set)

    def release(self, key: str) -> None:
        self.tier.release([key])
        self.keys.discard(key)


def _heads(tier: Tier, keys: list[str]) -> Iterator[tuple[str, Callable[[], AnyPack]]]:
    """Yield each key with a function that reads its head, as soon as the tier can read it."""
    where = tier.locality(keys)
    for key in keys:
        if where[key] is not Locality.NEARLINE:
            yield key, partial(read_head, tier_range(tier, key))
    if on_tape := [key for key in keys if where[key] is Locality.NEARLINE]:
        yield from _staged_heads(tier, on_tape)


def _staged_heads(tier: Tier, keys: list[str]) -> Iterator[tuple[str, Callable[[], AnyPack]]]:
    """Do `_heads` for packs on tape: all are asked for at once, and released one by one."""
    request = _Request(tier, tier.stage(keys), set(keys))
    try:
        while request.keys:
            for key, found in tier.staged(request.id).items():
                if key in request.keys and found.state is StageState.COMPLETED:
                    yield key, partial(read_head, tier_range(tier, key))
                    request.release(key)
                elif key in request.keys and found.state is StageState.FAILED:
                    yield key, partial(_fail, f"it cannot be staged: {found.reason}")
                    request.release(key)
            if request.keys:
                time.sleep(_POLL_SECONDS)
    finally:
        if request.keys:
            tier.release(sorted(request.keys))


def _fail(reason: str) -> SegmentPack:
    raise TierError(reason)
