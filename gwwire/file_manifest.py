"""The MANIFEST.json of a pack of files, which lists the files that a transaction has put into a holding.

It has all that is known about them, so that a holding can be made again from its packs.
"""

import re
from collections.abc import Iterable, Iterator

import msgspec
from msgspec import UNSET, UnsetType, structs

from gwwire.decoding import InvalidRequest, parse_json
from gwwire.holdings import PathType, check_path
from gwwire.manifest import batch_digest

#: The first part of the name of a file in a pack; its absolute path follows.
_FILES = "files"
_TOO_LARGE = 2**53  # for the numbers of JSON
#: Of ids and modes, and of times, which are stored in ns.
_LARGEST, _LATEST = 2**62, 2**33
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ManifestFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file, directory or link; times are Unix seconds."""

    path: str
    type: PathType = PathType.FILE
    size: int = 0
    sha256: str | None = None
    mode: int = 0o644
    mtime: float = 0
    link: str | None = None
    stored: float | None = None


class FileManifest(msgspec.Struct, frozen=True):
    """The files of a transaction that were complete when it was sealed, and the holding that they were put into.

    `digest` is that of `gwwire.manifest.batch_digest` over the members of the pack, `bytes` their size.
    """

    transaction: str
    holding: int
    label: str
    user: str
    group: str | None
    tags: dict[str, str]
    job_label: str | None
    begun: float
    sealed: float
    bytes: int
    digest: str
    files: list[ManifestFile]


class _Kind(msgspec.Struct):
    transaction: str | UnsetType = UNSET


_decoder = msgspec.json.Decoder(FileManifest)


def member_name(path: str) -> str:
    """Return the name in a pack of the file at an absolute path."""
    return _FILES + path


def totals(files: Iterable[ManifestFile]) -> tuple[int, str]:
    """Return the bytes and the digest of files."""
    found = [each for each in files if each.type is PathType.FILE]
    digest = batch_digest((member_name(each.path), each.sha256 or "") for each in found)
    return sum(each.size for each in found), digest


def with_totals(manifest: FileManifest) -> FileManifest:
    """Return a manifest with the bytes and the digest of its files."""
    size, digest = totals(manifest.files)
    return structs.replace(manifest, bytes=size, digest=digest)


def encode_file_manifest(manifest: FileManifest) -> bytes:
    """Return a manifest as JSON for people and `diff`."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def is_file_manifest(content: bytes) -> bool:
    """Return whether a manifest is that of files, and not of a batch."""
    try:
        return parse_json(content, _Kind).transaction is not UNSET
    except msgspec.DecodeError:
        return False


def decode_file_manifest(content: bytes) -> FileManifest:
    """Parse a manifest; raise ValueError if it is not JSON, or not a manifest of files."""
    try:
        manifest = _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"it is not the manifest of files: {error}") from error
    for each in manifest.files:
        _check(each)
    if not (0 < manifest.holding < _LARGEST and all(map(_is_time, (manifest.begun, manifest.sealed)))):
        raise ValueError("its holding or its times are out of range")
    if len({each.path for each in manifest.files}) < len(manifest.files):
        raise ValueError("a path is listed twice")
    return manifest


def wrong_file_totals(manifest: FileManifest) -> Iterator[str]:
    """Yield a line for each total of a manifest that its files do not add up to."""
    size, digest = totals(manifest.files)
    if manifest.bytes != size:
        yield f"the manifest's bytes are {manifest.bytes}; its files have {size}"
    if manifest.digest != digest:
        yield f"the manifest's digest is {manifest.digest}; its files have {digest}"


def _check(each: ManifestFile) -> None:
    try:
        check_path(each.path)
    except InvalidRequest as error:
        raise ValueError(error.detail) from error
    if (each.type is PathType.FILE) != (each.sha256 is not None):
        raise ValueError(f"{each.path}: a FILE has a SHA-256, and nothing else has one")
    if each.sha256 is not None and not _SHA256.fullmatch(each.sha256):
        raise ValueError(f"{each.path}: its SHA-256 is malformed")
    if not 0 <= each.size < _TOO_LARGE:
        raise ValueError(f"{each.path}: its size is out of range")
    if not (0 <= each.mode < _LARGEST and (each.stored is None or _is_time(each.stored))):
        raise ValueError(f"{each.path}: its mode or its time is out of range")


def _is_time(seconds: float) -> bool:
    return 0 <= seconds < _LATEST
