"""The manifest in the folder of a batch: read it, and compare the folder with it."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from databuffer.errors import VolumeFailed
from databuffer.storage.files import read_stored, volume_errors
from gwwire.manifest import MANIFEST, decode_manifest, entry_of, wrong_totals
from gwwire.problems import ProblemError
from gwwire.public import Manifest

_SEGMENT_LIKE = re.compile(r"\D+\d+\.json")


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a folder; raise VolumeFailed if it is missing or malformed."""
    with volume_errors():
        content = read_stored(folder / MANIFEST)
    try:
        return decode_manifest(content)
    except ValueError as error:
        raise VolumeFailed(f"{folder / MANIFEST} cannot be understood: {error}") from error


def readable_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a folder, or None if it is missing or malformed."""
    try:
        return read_manifest(folder)
    except VolumeFailed:
        return None


def differences(
    folder: Path, manifest: Manifest, note_file: Callable[[], object] = lambda: None, *, dropped: bool = False
) -> Iterator[str]:
    """Yield a line for each difference between a folder and its manifest; call `note_file` before each file.

    Files without a segment's name, such as the log and the manifest itself, are ignored. Segments of a batch that was
    `dropped` from the disk may be missing.
    """
    listed = {entry.name: entry for entry in manifest.segments}
    present = {path.name for path in folder.iterdir()}
    for name in [] if dropped else sorted(listed.keys() - present):
        yield f"{name} is missing"
    for name in sorted(filter(_SEGMENT_LIKE.fullmatch, present - listed.keys())):
        yield f"{name} is not in the manifest"
    for name in sorted(listed.keys() & present):
        note_file()
        try:
            found = entry_of(name, read_stored(folder / name))
        except (ProblemError, OSError) as error:
            yield f"{name} cannot be read: {getattr(error, 'strerror', error)}"
            continue
        sealed = listed[name]
        if wrong := [field for field in found.__struct_fields__ if getattr(found, field) != getattr(sealed, field)]:
            yield f"{name} differs in {', '.join(wrong)}"
    yield from wrong_totals(manifest)
