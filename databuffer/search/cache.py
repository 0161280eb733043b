"""The files of bundles on the volume: `.bundles/ID/` has the list of the segments, and the strain files once built."""

import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from databuffer.errors import VolumeFailed
from databuffer.storage.files import make_folder, read_stored, replace_file, volume_errors
from databuffer.tar import Member
from gwservice.atomic import sync
from gwwire.bundles import BundleManifest, NotIncluded
from gwwire.decoding import parse_json

_Shape = TypeVar("_Shape")

_MANIFEST, _BUILT, _FILES, _UNFINISHED = "manifest.json", "built.json", "files", "files.part"


class Built(msgspec.Struct, frozen=True):
    """The strain files of a bundle as (name, size, SHA-256), and what is in none of them."""

    files: list[tuple[str, int, str]]
    left_out: list[NotIncluded]

    def members(self) -> list[Member]:
        """Return the files as members of an archive."""
        return [Member(*file) for file in self.files]


class BundleCache:
    """The files of bundles in a folder; every method raises VolumeError if the volume rejects it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put_manifest(self, bundle: str, manifest: BundleManifest) -> None:
        """Store the list of the segments of a bundle, without files that were built before."""
        self.remove(bundle)
        with volume_errors():
            make_folder(self.folder / bundle)
            replace_file(self.folder / bundle / _MANIFEST, msgspec.json.encode(manifest), durable=True)

    def has(self, bundle: str) -> bool:
        """Return whether the list of the segments of a bundle is stored."""
        return (self.folder / bundle / _MANIFEST).exists()

    def content(self, bundle: str) -> bytes:
        """Return the list of the segments of a bundle as it is stored."""
        with volume_errors():
            return read_stored(self.folder / bundle / _MANIFEST)

    def manifest(self, bundle: str) -> BundleManifest:
        """Return the list of the segments of a bundle."""
        return _decoded(self.content(bundle), BundleManifest)

    def built(self, bundle: str) -> Built:
        """Return what was built of a bundle."""
        with volume_errors():
            return _decoded(read_stored(self.folder / bundle / _BUILT), Built)

    def path(self, bundle: str, file: str) -> Path:
        """Return the path of a strain file."""
        return self.folder / bundle / _FILES / file

    @contextmanager
    def building(self, bundle: str) -> Iterator[Path]:
        """Yield an empty folder for strain files; it is removed if the block fails."""
        folder = self.folder / bundle / _UNFINISHED
        shutil.rmtree(folder, ignore_errors=True)
        with volume_errors():
            folder.mkdir()
        try:
            with volume_errors():
                yield folder
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def finish(self, bundle: str, built: Built) -> None:
        """Make the files in the folder of `building` those of a bundle, durably."""
        folder = self.folder / bundle
        with volume_errors():
            for file in (folder / _UNFINISHED).iterdir():
                sync(file)
            sync(folder / _UNFINISHED)
            shutil.rmtree(folder / _FILES, ignore_errors=True)
            (folder / _UNFINISHED).rename(folder / _FILES)
            replace_file(folder / _BUILT, msgspec.json.encode(built), durable=True)

    def remove(self, *bundles: str) -> None:
        """Delete the files of some bundles; without its list, which goes first, a bundle is made again."""
        for bundle in bundles:
            with suppress(OSError):
                (self.folder / bundle / _MANIFEST).unlink()
            shutil.rmtree(self.folder / bundle, ignore_errors=True)

    def sizes(self) -> dict[str, int]:
        """Return the bytes on the volume of each bundle that has files."""
        if not self.folder.is_dir():
            return {}
        with volume_errors():
            return {
                each.name: sum(file.stat().st_size for file in each.rglob("*") if file.is_file())
                for each in self.folder.iterdir()
            }


def to_delete(sizes: Mapping[str, int], ordered: Iterable[str], keep: Collection[str], allowed: int) -> Iterator[str]:
    """Yield bundles in an order, other than those to keep, until the others have at most `allowed` bytes."""
    total = sum(sizes.values())
    for bundle in ordered:
        if total <= allowed:
            return
        if bundle in sizes and bundle not in keep:
            total -= sizes[bundle]
            yield bundle


def _decoded(content: bytes, shape: type[_Shape]) -> _Shape:
    try:
        return parse_json(content, shape)
    except msgspec.MsgspecError as error:
        raise VolumeFailed(f"the files of a bundle cannot be understood: {error}") from error
