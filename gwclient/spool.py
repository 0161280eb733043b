"""The spool: segments on the disk until the gateway acknowledged them; bounded, and durable."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from gwclient.errors import SpoolError, unwritable
from gwclient.groups import Sendable
from gwclient.sources.lines import MAX_LINE
from gwclient.strain import recorded_name
from gwfiles.stretches import Span
from gwservice.atomic import locked, replace_file
from gwservice.regular_file import read_regular
from gwwire.problems import ProblemError
from gwwire.segment import decode_segment
from gwwire.spans import stop_of

#: A segment, or a file that was set aside.
_NAME = re.compile(r"(\d{12,})\.json(\.unusable)?", re.ASCII)


@dataclass(frozen=True)
class Spooled:
    """A segment that waits."""

    span: Span
    recorded: Span  # as a cursor records it
    samples: int
    number: int
    size: int
    path: Path
    set_aside: Callable[["Spooled", OSError], SpoolError]

    def body(self) -> bytes:
        """Return the segment's compact JSON; if the file cannot be read, set it aside and raise SpoolError."""
        try:
            return read_regular(self.path, MAX_LINE)
        except OSError as error:
            raise self.set_aside(self, error) from error


class Spool:
    """A folder of segments with up to `most` bytes, one file each, in order; those of an earlier process still wait.

    A file that is not a segment, or cannot be read, is renamed to `*.unusable`; `unusable` has a line for each.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most
        self.unusable: list[str] = []
        with ExitStack() as stack:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(folder / ".lock"))
                for unfinished in folder.glob(".*.part"):  # a process was killed while it wrote
                    unfinished.unlink()
            except BlockingIOError as error:
                raise SpoolError(f"another process is using the spool {folder}") from error
            except OSError as error:
                raise unwritable(f"the spool {folder}", error, "used", SpoolError) from error
            numbers = {path: int(found[1]) for path in folder.iterdir() if (found := _NAME.fullmatch(path.name))}
            paths = sorted(path for path in numbers if path.suffix == ".json")
            self._waiting = {each.number: each for each in map(self._read, paths) if each}
            self._lock = stack.pop_all()
        self._next = max(numbers.values(), default=-1) + 1  # a file that is kept is not replaced
        self.size = sum(each.size for each in self._waiting.values())

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def spans(self) -> list[Span]:
        """The spans that wait."""
        return [each.span for each in self._waiting.values()]

    def put(self, piece: Sendable) -> bool:
        """Store a piece; return False if the spool is full and the piece was not stored."""
        body = piece.body()
        if self.size + len(body) > self._most:
            return False
        path = self._folder / f"{self._next:012d}.json"
        try:
            replace_file(path, body)
        except OSError as error:
            raise unwritable(path, error, otherwise=SpoolError) from error
        self._waiting[self._next] = Spooled(
            piece.span, piece.recorded, piece.samples, self._next, len(body), path, self._set_entry_aside
        )
        self._next += 1
        self.size += len(body)
        return True

    def remove(self, entry: Sendable) -> None:
        """Remove a piece."""
        if isinstance(entry, Spooled) and self._waiting.pop(entry.number, None) is not None:
            entry.path.unlink(missing_ok=True)
            self.size -= entry.size

    def pending(self) -> Iterator[Spooled | None]:
        """Yield every piece in order, those that are stored meanwhile too, and None while there is none; endless."""
        last = -1
        while True:
            following = next((number for number in self._waiting if number > last), None)
            if following is None:
                yield None
            else:
                last = following
                yield self._waiting[following]

    def close(self) -> None:
        """Release the lock of the folder."""
        self._lock.close()

    def _read(self, path: Path) -> Spooled | None:
        try:
            body = read_regular(path, MAX_LINE)
            segment = decode_segment(body)
        except OSError as error:
            self._set_aside(path, f"cannot be read: {error.strerror}")
            return None
        except ProblemError as error:
            self._set_aside(path, f"is not a segment: {error.detail}")
            return None
        n = len(segment.h)
        span = Span(segment.channel or "", segment.t0, stop_of(segment.t0, n, segment.dt))
        recorded = span._replace(channel=recorded_name(span.channel, segment.dt))
        return Spooled(span, recorded, n, int(path.stem), len(body), path, self._set_entry_aside)

    def _set_entry_aside(self, entry: Spooled, error: OSError) -> SpoolError:
        if self._waiting.pop(entry.number, None) is not None:
            self.size -= entry.size
        return SpoolError(self._set_aside(entry.path, f"cannot be read: {error.strerror}"))

    def _set_aside(self, path: Path, reason: str) -> str:
        """Rename a file, so that it is not read again; return the line that names it."""
        target = path.with_name(f"{path.name}.unusable")
        try:
            path.rename(target)
            kept = f"; it is kept as {target.name}"
        except OSError:
            kept = ""
        self.unusable.append(f"{path} in the spool {reason}{kept}")
        return self.unusable[-1]
