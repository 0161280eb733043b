"""Write output files in one step."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from gwservice.atomic import replacing
from preproc.errors import Unwritable

#: A function as `published`.
Publish = Callable[[Path], AbstractContextManager[Path]]


@contextmanager
def published(path: Path) -> Iterator[Path]:
    """Yield a temporary file that takes the place of `path` at the end of the block, or raise Unwritable."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        raise Unwritable(f"cannot write {path}: {error.strerror or error}") from error


def withdraw(path: Path) -> None:
    """Remove an output file if it is there, or raise Unwritable: in a sticky folder it may be another user's."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise Unwritable(f"cannot remove {path}: {error.strerror or error}") from error
