"""Where a batch comes from: a directory, or the gateway."""

from pathlib import Path
from typing import Protocol

from preproc.batch import digest_directory
from preproc.progress import Progress


class Source(Protocol):
    """A batch that can be told from others before it is read."""

    def digest(self, progress: Progress, /) -> str:
        """Return the digest of the batch (see `gwwire.manifest.batch_digest`)."""

    def directory(self, out: Path, progress: Progress, /) -> Path:
        """Give the directory with the segments; what has to be brought goes to a place of its own within `out`."""

    def forget(self, out: Path, /) -> None:
        """Throw away what was brought."""


class DirectorySource:
    """A directory of segment files."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def digest(self, progress: Progress, /) -> str:
        """Hash the files."""
        return digest_directory(self._path, progress)

    def directory(self, _out: Path, _progress: Progress, /) -> Path:
        """Give the directory as it is."""
        return self._path

    def forget(self, _out: Path, /) -> None:
        """Leave it as it is."""
