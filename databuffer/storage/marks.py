"""The ids of the batches that are not archived, in files beside their folders."""

from pathlib import Path
from typing import Annotated

import msgspec

from databuffer.storage.files import read_stored, replace_file, volume_errors
from gwservice.regular_file import UnusableFile
from gwwire.decoding import parse_json


class BatchMark(msgspec.Struct, frozen=True):
    """The id of the batch in a folder, and its opening time in nanoseconds of Unix time."""

    id: str
    opened: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Marks:
    """The marks of the batches in the folders below `root`; each method raises VolumeError if it fails."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, folder: Path) -> Path:
        """Return the path of the file with the mark of the batch in a folder."""
        return self._root / f".{folder.name}.batch.json"

    def read(self, folder: Path) -> BatchMark | None:
        """Return the mark of the batch in a folder, or None if it has none."""
        with volume_errors():
            try:
                return parse_json(read_stored(self.path(folder)), BatchMark)
            except (FileNotFoundError, UnusableFile, ValueError):
                return None

    def write(self, folder: Path, mark: BatchMark) -> None:
        """Store the mark of the batch in a folder, durably."""
        with volume_errors():
            replace_file(self.path(folder), msgspec.json.encode(mark), durable=True)
