"""The archive of a bundle: its size and digest, and its bytes from any place on."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

import msgspec

from databuffer.errors import NotFound, VolumeFailed
from databuffer.search.cache import BundleCache
from databuffer.storage.files import open_stored, volume_errors
from databuffer.tar import Member, MemberChanged, Part, VirtualTar, in_portions, read_parts
from gwwire.bundles import INFO, BundleFormat, BundleInfo

_MEDIA_TYPES = {BundleFormat.HDF5: "application/x-hdf5", BundleFormat.GWF: "application/octet-stream"}
#: Returns the function that opens the members of some parts.
Opener = Callable[[Sequence[Part]], Callable[[Member], BinaryIO]]
#: Parts whose members are looked up at once.
_PARTS = 3000
#: Bytes that a member takes in memory, about: most are in its SHA-256 and its name.
_MEMBER_BYTES = 350


@dataclass(frozen=True)
class Archive:
    """An archive that can be read in threads; `digest` is equal for archives with equal bytes."""

    bundle: str
    name: str
    media_type: str
    size: int
    digest: str
    parts: Callable[[int, int], Iterator[Part]]
    opener: Opener
    #: Bytes that this object takes, about.
    memory: int

    def read(self, start: int, stop: int, portion: int) -> Iterator[bytes]:
        """Yield the bytes [start, stop), about `portion` at a time.

        Raise a ProblemError if a file is missing or too short.
        """
        try:
            with volume_errors():
                parts = self.parts(start, stop)
                while some := list(islice(parts, _PARTS)):
                    yield from in_portions(read_parts(some, self.opener(some)), portion)
        except MemberChanged as error:
            raise VolumeFailed(str(error)) from error


def open_archive(bundle_format: BundleFormat, bundle: str, cache: BundleCache, segments: Opener) -> Archive:
    """Return the archive of a bundle whose files are in the cache; `segments` opens files of segments."""
    if bundle_format is BundleFormat.MANIFEST:
        content = cache.content(bundle)
        return Archive(
            bundle, f"bundle-{bundle}.json", "application/json", len(content), Member.of("", content).sha256,
            lambda start, stop: iter([Part(content, start, stop)]), segments, len(content),
        )  # fmt: skip
    manifest = cache.manifest(bundle)
    if bundle_format is BundleFormat.TAR:
        members = [Member(entry.name, entry.size, entry.sha256) for entry in manifest.segments]
        return _tar(bundle, manifest.info, members, segments)
    built = cache.built(bundle)
    info = msgspec.structs.replace(manifest.info, left_out=built.left_out)
    return _tar(bundle, info, built.members(), _opener_of_files(bundle, cache))


def open_file(bundle_format: BundleFormat, bundle: str, name: str, cache: BundleCache) -> Archive:
    """Return the strain file of a bundle of one channel, to be downloaded under a name, or raise NotFound.

    It is the largest: of several sample spacings, that of the shortest.
    """
    built = cache.built(bundle) if bundle_format.is_built else None
    if built is None or not built.files:
        reason = f": {built.left_out[0].reason}" if built and built.left_out else ""
        raise NotFound(f"bundle {bundle} has no strain file{reason}")
    found = max(built.members(), key=lambda member: member.size)
    return Archive(
        bundle, name, _MEDIA_TYPES[bundle_format], found.size, found.sha256,
        lambda start, stop: iter([Part(found, start, stop)]), _opener_of_files(bundle, cache), _MEMBER_BYTES,
    )  # fmt: skip


def _opener_of_files(bundle: str, cache: BundleCache) -> Opener:
    return lambda _: lambda member: open_stored(cache.path(bundle, member.name))


def _tar(bundle: str, info: BundleInfo, members: list[Member], opener: Opener) -> Archive:
    content = msgspec.json.format(msgspec.json.encode(info), indent=1) + b"\n"
    tar = VirtualTar([Member.of(INFO, content), *members])
    name, memory = f"bundle-{bundle}.tar", len(content) + _MEMBER_BYTES * len(members)
    return Archive(bundle, name, "application/x-tar", tar.size, tar.digest, tar.parts, opener, memory)
