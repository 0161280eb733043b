"""Writes segments as a batch folder: the files that the buffer would store, and the truth beside them."""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from gwclient.errors import FolderError
from gwclient.segmenting import Piece

_OURS = re.compile(r"gwb\d{19}\.json|glitches\.json")
#: GPS seconds run ahead of Unix time by this: 1980-01-06 in Unix seconds, less the leap seconds since.
_GPS_TO_UNIX_S = 315964800 - 18


def prepare_folder(folder: Path) -> None:
    """Make the folder.

    Raises:
        FolderError: it cannot be made, or holds a batch already, which must not be mixed with another.

    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = [path.name for path in folder.iterdir() if _OURS.fullmatch(path.name)]
    except OSError as error:
        raise FolderError(f"{folder} cannot be used: {error.strerror}") from error
    if held:
        raise FolderError(f"{folder} already holds a batch ({len(held)} files, like {min(held)}); name a new folder")


def write_batch(folder: Path, pieces: Iterable[Piece], on_written: Callable[[Piece, int], object]) -> None:
    """Write each piece to a file `gwb<19 digits>.json`, in their order, whole or not at all.

    The digits follow from the pieces' t0, so that writing the same pieces again gives the same names.
    `on_written` hears of each piece and its size in bytes.

    Raises:
        FolderError: a file cannot be written.

    """
    last = 0
    for piece in pieces:
        unix_ns = round((piece.span.start + _GPS_TO_UNIX_S) * 1e9)
        last = max(last + 1, unix_ns)
        body = piece.body()
        write_whole(folder / f"gwb{last:019d}.json", body)
        on_written(piece, len(body))


def write_whole(path: Path, body: bytes) -> None:
    """Write a file so that it is there whole or not at all, whatever happens.

    Raises:
        FolderError: it cannot be written.

    """
    unfinished = path.with_name(f".{path.name}.part")
    try:
        with unfinished.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise FolderError(f"{path} cannot be written: {error.strerror}") from error
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
