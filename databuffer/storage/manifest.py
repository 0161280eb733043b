"""The manifest in a batch's folder: reading it, and comparing the folder with it."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from databuffer.errors import VolumeFailed
from databuffer.storage.volume import volume_errors
from gwwire.manifest import MANIFEST, batch_digest, decode_manifest, encode_manifest, entry_of, seal, wrong_totals
from gwwire.problems import ProblemError
from gwwire.public import Manifest

__all__ = ["MANIFEST", "batch_digest", "differences", "encode_manifest", "entry_of", "read_manifest", "seal"]

_SEGMENT_LIKE = re.compile(r"\D+\d+\.json")


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a folder.

    Raises:
        VolumeFailed: it is missing, or not a manifest.

    """
    with volume_errors():
        content = (folder / MANIFEST).read_bytes()
    try:
        return decode_manifest(content)
    except ValueError as error:
        raise VolumeFailed(f"{folder / MANIFEST} cannot be understood: {error}") from error


def differences(folder: Path, manifest: Manifest, note_file: Callable[[], object] = lambda: None) -> Iterator[str]:
    """Compare a folder with its manifest, file by file; yields a line for each difference.

    Files that are not named like segments, as the log and the manifest itself, are ignored.

    Args:
        folder: the batch's folder.
        manifest: its manifest.
        note_file: called before each file is read.

    """
    listed = {entry.name: entry for entry in manifest.segments}
    present = {path.name for path in folder.iterdir()}
    for name in sorted(listed.keys() - present):
        yield f"{name} is missing"
    for name in sorted(filter(_SEGMENT_LIKE.fullmatch, present - listed.keys())):
        yield f"{name} is not in the manifest"
    for name in sorted(listed.keys() & present):
        note_file()
        try:
            found = entry_of(name, (folder / name).read_bytes())
        except (ProblemError, OSError) as error:
            yield f"{name} cannot be read: {error}"
            continue
        sealed = listed[name]
        if wrong := [field for field in found.__struct_fields__ if getattr(found, field) != getattr(sealed, field)]:
            yield f"{name} differs in {', '.join(wrong)}"
    yield from wrong_totals(manifest)
