"""Write output files in one step."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gwservice.atomic import replacing
from preproc.errors import Unwritable


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """Yield a temporary file that takes the place of `path` at the end of the block, or raise Unwritable."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        raise Unwritable(f"cannot write {path}: {error.strerror or error}") from error
