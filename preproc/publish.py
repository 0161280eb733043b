"""Put a file in its place whole, or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from preproc.errors import OutputFailed


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """Give the path of a temporary file next to `path`; when the block ends well, the file takes the place of `path`.

    Raises:
        OutputFailed: the file could not be written or moved; what was at `path` before is still there.

    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            _sync(partial)
            partial.replace(path)
            _sync(path.parent)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise OutputFailed(f"cannot write {path}: {error.strerror or error}") from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
