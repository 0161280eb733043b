"""The archive of a bundle: its size and digest, and its bytes from any place on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import msgspec

from databuffer.errors import NotFound, VolumeFailed
from databuffer.search.cache import BundleCache
from databuffer.storage.files import volume_errors
from databuffer.tar import Member, MemberChanged, Part, VirtualTar, read_parts
from gwwire.bundles import INFO, BundleFormat, BundleInfo


@dataclass(frozen=True)
class Archive:
    """An archive that can be read in threads; `digest` is equal for archives with equal bytes."""

    bundle: str
    name: str
    media_type: str
    size: int
    digest: str
    parts: Callable[[int, int], Iterator[Part]]
    open_member: Callable[[Member], BinaryIO]

    def read(self, start: int, stop: int, portion: int) -> Iterator[bytes]:
        """Yield the bytes [start, stop), about `portion` at a time.

        Raise a ProblemError if a file is missing or too short.
        """
        try:
            with volume_errors():
                yield from _portions(read_parts(self.parts(start, stop), self.open_member), portion)
        except MemberChanged as error:
            raise VolumeFailed(str(error)) from error


def open_archive(
    bundle_format: BundleFormat, bundle: str, cache: BundleCache, open_segment: Callable[[str], BinaryIO]
) -> Archive:
    """Return the archive of a bundle whose files are in the cache; `open_segment` opens a segment's file."""
    if bundle_format is BundleFormat.MANIFEST:
        content = cache.content(bundle)
        return Archive(
            bundle, f"bundle-{bundle}.json", "application/json", len(content), Member.of("", content).sha256,
            lambda start, stop: iter([Part(content, start, stop)]), lambda member: open_segment(member.name),
        )  # fmt: skip
    manifest = cache.manifest(bundle)
    if bundle_format is BundleFormat.TAR:
        members = [Member(entry.name, entry.size, entry.sha256) for entry in manifest.segments]
        return _tar(bundle, manifest.info, members, lambda member: open_segment(member.name))
    built = cache.built(bundle)
    info = msgspec.structs.replace(manifest.info, left_out=built.left_out)
    return _tar(bundle, info, built.members(), lambda member: cache.path(bundle, member.name).open("rb"))


def open_file(bundle_format: BundleFormat, bundle: str, name: str, cache: BundleCache) -> Archive:
    """Return one of the HDF5 files of a bundle, or raise NotFound."""
    members = cache.built(bundle).members() if bundle_format is BundleFormat.HDF5 else []
    found = next((member for member in members if member.name == name), None)
    if found is None:
        raise NotFound(f"bundle {bundle} has no file {name!r}")
    return Archive(
        bundle, name, "application/x-hdf5", found.size, found.sha256,
        lambda start, stop: iter([Part(found, start, stop)]), lambda _: cache.path(bundle, name).open("rb"),
    )  # fmt: skip


def _tar(bundle: str, info: BundleInfo, members: list[Member], open_member: Callable[[Member], BinaryIO]) -> Archive:
    content = msgspec.json.format(msgspec.json.encode(info), indent=1) + b"\n"
    tar = VirtualTar([Member.of(INFO, content), *members])
    return Archive(bundle, f"bundle-{bundle}.tar", "application/x-tar", tar.size, tar.digest, tar.parts, open_member)


def _portions(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Join chunks until they have at least `size` bytes."""
    waiting: list[bytes] = []
    length = 0
    for chunk in chunks:
        waiting.append(chunk)
        length += len(chunk)
        if length >= size:
            yield b"".join(waiting)
            waiting, length = [], 0
    if waiting:
        yield b"".join(waiting)
