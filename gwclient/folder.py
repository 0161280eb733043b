"""Batch folders: segments as the files that the buffer would store, and the truth about them."""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from gwclient.errors import FolderError, unwritable, write_errors
from gwclient.pieces import Piece
from gwservice.atomic import replace_file
from gwwire.gps import unix_of_gps

_OURS = re.compile(r"gwb\d{19}\.json|glitches\.json")


def prepare_folder(folder: Path) -> None:
    """Create the folder, or raise FolderError if that fails or it holds a batch already."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = [path.name for path in folder.iterdir() if _OURS.fullmatch(path.name)]
    except OSError as error:
        raise unwritable(folder, error, "used") from error
    if held:
        raise FolderError(f"{folder} already holds a batch ({len(held)} files, like {min(held)}); name a new folder")


def write_batch(folder: Path, pieces: Iterable[Piece], on_written: Callable[[Piece, int], object]) -> None:
    """Write each piece to a file `gwb<19 digits>.json`, in their order; the digits follow from its t0.

    `on_written` is called with each piece and its size in bytes.
    """
    last = 0
    for piece in pieces:
        last = max(last + 1, round(unix_of_gps(piece.span.start) * 1e9))
        body = piece.body()
        write_file(folder / f"gwb{last:019d}.json", body)
        on_written(piece, len(body))


def write_file(path: Path, content: bytes) -> None:
    """Write a file in one step, or raise FolderError or OutputError; it exists completely or not at all."""
    try:
        replace_file(path, content)
    except OSError as error:
        raise unwritable(path, error) from error


def check_writable(path: Path) -> None:
    """Raise FolderError or OutputError if a file cannot be written; a file that exists is left as it is."""
    with write_errors(path):
        if not path.exists():
            new = Path(os.path.realpath(path))  # a link may lead to it
            new.touch(exist_ok=False)
            new.unlink()
        elif not path.is_fifo():  # opening one would wait for its reader
            path.open("ab").close()
