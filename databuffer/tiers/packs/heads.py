"""The manifests at the heads of packs: a manifest on the volume that is missing or malformed is restored from there."""

from collections.abc import Callable
from pathlib import Path

from databuffer.storage.files import move_unusable_aside, replace_file, volume_errors
from databuffer.tiers.packs.pack import FilesPack, SegmentPack, files_key, key_of
from gwwire.manifest import MANIFEST

AnyPack = SegmentPack | FilesPack


def checked_head(key: str, read: Callable[[], AnyPack]) -> AnyPack:
    """Return the pack under a key; raise TierError, or ValueError if it is not that of the key."""
    pack = read()
    if problem := next(pack.wrong_totals(), None):
        raise ValueError(problem)
    if isinstance(pack, FilesPack):
        if files_key(pack.manifest.transaction) != key:
            raise ValueError(f"it is the pack of transaction {pack.manifest.transaction}")
    elif key_of(pack.manifest.batch) != key:
        raise ValueError(f"it is the pack of batch {pack.manifest.batch!r}")
    return pack


def restore_manifest(folder: Path, pack: AnyPack) -> None:
    """Write the manifest of a pack to its folder, which has everything else."""
    with volume_errors():
        move_unusable_aside(folder / MANIFEST)
        replace_file(folder / MANIFEST, pack.content, durable=True)
