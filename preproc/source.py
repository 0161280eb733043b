"""Where a batch comes from: a directory, or the gateway."""

from pathlib import Path
from typing import Protocol

from preproc.batch import digest_directory
from preproc.progress import Progress


class Source(Protocol):
    """Where a batch comes from."""

    def digest(self, progress: Progress, /) -> str:
        """Return the digest of the batch (see `gwwire.manifest.batch_digest`)."""

    def directory(self, out: Path, progress: Progress, /) -> Path:
        """Return the directory with the segments; those that have to be fetched are stored within `out`."""

    def forget(self, out: Path, /) -> None:
        """Remove what was fetched."""


class DirectorySource:
    """A directory of segment files."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def digest(self, progress: Progress, /) -> str:
        """Return the digest of the files."""
        return digest_directory(self._path, progress)

    def directory(self, _out: Path, _progress: Progress, /) -> Path:
        """Return the directory."""
        return self._path

    def forget(self, _out: Path, /) -> None:
        """Do nothing."""
