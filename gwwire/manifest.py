"""MANIFEST.json, which lists the segments of a sealed batch, and the digest that identifies the batch."""

import hashlib
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import msgspec

from gwwire.public import Manifest, ManifestEntry
from gwwire.segment import decode_segment

#: The name of the manifest's file in the batch's folder.
MANIFEST = "MANIFEST.json"

_TOO_LARGE = 2**53  # for the numbers of JSON
#: The field that an error of msgspec is about.
_FIELD = re.compile(r"(?:at `\$\.|field `)([^`]+)`$")
_decoder = msgspec.json.Decoder(Manifest)


def sha256sum_lines(checksums: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Return the lines that `LC_ALL=C sha256sum` prints, from the (name, SHA-256) of files."""
    return (f"{sha256}  {name}\n" for name, sha256 in sorted(checksums))


def batch_digest(checksums: Iterable[tuple[str, str]]) -> str:
    """Return the digest of a batch from the (name, SHA-256) of its segments.

    It is what `LC_ALL=C sha256sum gwb*.json | sha256sum` prints in the batch's folder, so that it can be checked
    without this software.
    """
    digest = hashlib.sha256()
    for line in sha256sum_lines(checksums):
        digest.update(line.encode())
    return digest.hexdigest()


def seal(*, batch: str, opened: str, sealed: str, holder: str, segments: list[ManifestEntry]) -> Manifest:
    """Return the manifest of a batch; times are UTC (RFC 3339)."""
    digest = batch_digest((segment.name, segment.sha256) for segment in segments)
    size = sum(segment.size for segment in segments)
    return Manifest(batch, opened, sealed, holder, len(segments), size, digest, segments)


def encode_manifest(manifest: Manifest) -> bytes:
    """Return a manifest as JSON, one segment a line, for people and `diff`."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def decode_manifest(content: bytes) -> Manifest:
    """Parse a manifest; raise ValueError if it is not JSON, or not a manifest."""
    try:
        manifest = _decoder.decode(content)
    except msgspec.ValidationError as error:
        field = _FIELD.search(str(error))
        raise ValueError(f"{field[1]} is missing or wrong" if field else "it is not a JSON object") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("it is not JSON") from error
    for time in (manifest.opened, manifest.sealed):
        if not _has_zone(time):
            raise ValueError(f"{time!r} is not a time with a time zone")
    if len({entry.name for entry in manifest.segments}) < len(manifest.segments):
        raise ValueError("a segment is listed twice")
    if any(not 0 <= number < _TOO_LARGE for entry in manifest.segments for number in (entry.size, entry.n)):
        raise ValueError("a size or a number of samples is out of range")
    if sum(entry.size for entry in manifest.segments) >= _TOO_LARGE:
        raise ValueError("the sizes of the segments are out of range")
    return manifest


def _has_zone(time: str) -> bool:
    try:
        moment = datetime.fromisoformat(time)
        return moment.tzinfo is not None and moment.astimezone(UTC) == moment  # not before the year 1
    except (ValueError, OverflowError):
        return False


def entry_of(name: str, content: bytes) -> ManifestEntry:
    """Return the entry of a segment from its file's content; raise MalformedJson or InvalidSegment if invalid."""
    segment = decode_segment(content)
    sha256 = hashlib.sha256(content).hexdigest()
    return ManifestEntry(name, len(content), sha256, segment.channel, segment.t0, segment.dt, len(segment.h))


def wrong_totals(manifest: Manifest) -> Iterator[str]:
    """Return a line for each total of a manifest that its segments do not add up to."""
    again = seal(
        batch=manifest.batch, opened=manifest.opened, sealed=manifest.sealed, holder=manifest.holder,
        segments=manifest.segments,
    )  # fmt: skip
    for field in ("n_itm", "buff_size", "digest"):
        if getattr(again, field) != getattr(manifest, field):
            yield f"the manifest's {field} is {getattr(manifest, field)}; its segments have {getattr(again, field)}"
