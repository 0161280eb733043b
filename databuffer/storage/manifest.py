"""MANIFEST.json: what a sealed batch holds, and whether a folder still holds just that."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from databuffer.errors import VolumeFailed
from databuffer.storage.volume import volume_errors
from gwwire.problems import ProblemError
from gwwire.public import Manifest, ManifestEntry
from gwwire.segment import decode_segment

MANIFEST = "MANIFEST.json"
_SEGMENT_LIKE = re.compile(r"\D+\d+\.json")


def batch_digest(checksums: Iterable[tuple[str, str]]) -> str:
    """Give the identity of a batch from the (name, SHA-256) of its segments.

    It is what `LC_ALL=C sha256sum gwb*.json | sha256sum` prints in the batch's folder, so that it can be checked
    without any of this software.
    """
    listing = hashlib.sha256()
    for name, sha256 in sorted(checksums):
        listing.update(f"{sha256}  {name}\n".encode())
    return listing.hexdigest()


def seal(*, batch: str, opened: str, sealed: str, holder: str, segments: list[ManifestEntry]) -> Manifest:
    """Make the manifest of a batch; times are UTC (RFC 3339)."""
    digest = batch_digest((segment.name, segment.sha256) for segment in segments)
    size = sum(segment.size for segment in segments)
    return Manifest(batch, opened, sealed, holder, len(segments), size, digest, segments)


def encode_manifest(manifest: Manifest) -> bytes:
    """Write a manifest as JSON, a segment a line, for people and `diff`."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def read_manifest(folder: Path) -> Manifest:
    """Read a folder's manifest.

    Raises:
        VolumeFailed: it is missing, or cannot be understood.

    """
    with volume_errors():
        content = (folder / MANIFEST).read_bytes()
    try:
        return msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise VolumeFailed(f"{folder / MANIFEST} cannot be understood: {error}") from error


def entry_of(name: str, content: bytes) -> ManifestEntry:
    """Describe a segment's file from its bytes.

    Raises:
        MalformedJson, InvalidSegment: the file is no segment.

    """
    segment = decode_segment(content)
    sha256 = hashlib.sha256(content).hexdigest()
    return ManifestEntry(name, len(content), sha256, segment.channel, segment.t0, segment.dt, len(segment.h))


def differences(folder: Path, manifest: Manifest, note_file: Callable[[], object] = lambda: None) -> Iterator[str]:
    """Compare a folder with its manifest, file by file; gives a line for each thing that is not as it was sealed.

    The log of the batch and the manifest itself are no segments; every other file is told as unknown.

    Args:
        folder: of the batch.
        manifest: what was sealed.
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
    yield from _wrong_sums(manifest)


def _wrong_sums(manifest: Manifest) -> Iterator[str]:
    again = seal(
        batch=manifest.batch,
        opened=manifest.opened,
        sealed=manifest.sealed,
        holder=manifest.holder,
        segments=manifest.segments,
    )
    for field in ("n_itm", "buff_size", "digest"):
        if getattr(again, field) != getattr(manifest, field):
            yield f"the manifest's {field} is {getattr(manifest, field)}, its segments make it {getattr(again, field)}"
