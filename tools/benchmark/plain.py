"""Plain copies of the bytes of a pack: what is written and synced once, and neither compared nor noted.

And copies of the same bytes by rclone, which compares checksums if both sides have one, and syncs nothing. Its own
`check --download` reads back what it wrote, and compares that with the source.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from databuffer.tar import VirtualTar, in_portions, read_parts
from databuffer.tiers.backends.object_store import ObjectStoreTier

_CHUNK = 1 << 20


class Place(Protocol):
    """The target of plain copies, each under a name of its own."""

    def write(self, name: str, tar: VirtualTar, chunks: Iterable[bytes]) -> None:
        """Write the bytes of a tar."""

    def read(self, name: str) -> Iterator[bytes]:
        """Yield what was written."""

    def target(self, name: str) -> str:
        """Return a folder beside the copies, as rclone names it."""

    def source(self, path: Path, tar: VirtualTar) -> Path:
        """Return the file or folder that rclone copies to have here what a move of the tar at a path leaves."""


class FilePlace:
    """Files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, tar: VirtualTar, chunks: Iterable[bytes]) -> None:  # noqa: ARG002 (as in Place)
        """Write and sync a file."""
        with self.path(name).open("wb", buffering=0) as file:
            for chunk in chunks:
                rest = memoryview(chunk)
                while rest:
                    rest = rest[file.write(rest) :]
            os.fsync(file.fileno())

    def read(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of a file."""
        return file_chunks(self.path(name))

    def path(self, name: str) -> Path:
        """Return the file of a copy."""
        return self._folder / name

    def target(self, name: str) -> str:
        """Return a path."""
        return str(self.path(f"rclone-{name}"))

    def source(self, path: Path, tar: VirtualTar) -> Path:  # noqa: ARG002 (as in Place)
        """Return the tar itself."""
        return path


class StorePlace:
    """Objects, written in parts as the tier does."""

    def __init__(self, store: ObjectStoreTier, bucket: str) -> None:
        self._store = store
        self._bucket = bucket

    def write(self, name: str, tar: VirtualTar, chunks: Iterable[bytes]) -> None:
        """Upload an object."""
        self._store.write(name, tar.size, chunks)

    def read(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of an object."""
        return self._store.read(name)

    def target(self, name: str) -> str:
        """Return an object of an S3 server that the environment names."""
        return f":s3,provider=Other,env_auth,force_path_style,no_check_bucket:{self._bucket}/rclone/{name}"

    def source(self, path: Path, tar: VirtualTar) -> Path:  # noqa: ARG002 (as in Place)
        """Return the tar itself."""
        return path


class UnpackedPlace:
    """The files of a tar, which are synced when all are written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, name: str, tar: VirtualTar, chunks: Iterable[bytes]) -> None:
        """Unpack a tar into a folder."""
        folder = self._folder / name
        folder.mkdir()
        content, position = bytearray(), 0
        stream = iter(chunks)
        for index, member in enumerate(tar.members):
            start = tar.offset(index)
            while position + len(content) < start + member.size:
                content += next(stream)
            del content[: start - position]
            (folder / member.name).write_bytes(memoryview(content)[: member.size])
            position = start
        os.sync()

    def read(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of the files."""
        for path in sorted((self._folder / name).iterdir()):
            yield path.read_bytes()

    def target(self, name: str) -> str:
        """Return a path."""
        return str(self._folder / f"rclone-{name}")

    def source(self, path: Path, tar: VirtualTar) -> Path:
        """Return a folder with the files of the tar, because rclone unpacks nothing."""
        self.write(name := f"unpacked-{path.name}", tar, file_chunks(path))
        return self._folder / name


def rclone() -> str | None:
    """Return the program rclone (Debian: `apt-get install rclone`), or None."""
    return shutil.which("rclone")


def copy_by_rclone(program: str, source: Path, target: str, *, check: bool) -> None:
    """Copy a file, or the files of a folder, into a folder; raise OSError if rclone fails, or finds a difference.

    With `check`, it downloads what it has written, and compares it.
    """
    settings = {"RCLONE_CONFIG": os.devnull, "RCLONE_S3_ENDPOINT": os.environ.get("AWS_ENDPOINT_URL", "")}
    known = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}  # old versions refuse it
    for command in [["copy"], ["check", "--download", "--one-way"]][: 1 + check]:
        words = [program, *command, "--quiet", str(source), target]
        done = subprocess.run(words, check=False, env=known | settings, capture_output=True, text=True)
        if done.returncode:
            raise OSError(f"rclone ended with status {done.returncode}: {done.stderr.strip()}")


def file_chunks(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file."""
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def folder_chunks(folder: Path, tar: VirtualTar) -> Iterator[bytes]:
    """Yield the tar of the files in a folder, as `tar` does."""
    return in_portions(read_parts(tar.parts(), lambda member: (folder / member.name).open("rb", buffering=0)), _CHUNK)
