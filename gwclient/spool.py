"""The spool: segments on the disk until the gateway acknowledged them; bounded, and durable."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from gwclient.errors import SpoolError, unwritable
from gwclient.groups import Sendable
from gwclient.strain import recorded_name
from gwfiles.stretches import Span
from gwservice.atomic import locked, replace_file
from gwwire.problems import ProblemError
from gwwire.segment import decode_segment
from gwwire.spans import stop_of


@dataclass(frozen=True)
class Spooled:
    """A segment that waits."""

    span: Span
    recorded: Span  # as a cursor records it
    samples: int
    number: int
    size: int
    path: Path

    def body(self) -> bytes:
        """Return the segment's compact JSON."""
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise SpoolError(f"{self.path} cannot be read: {error.strerror}") from error


class Spool:
    """A folder of segments with up to `most` bytes, one file each, in order; those of an earlier process still wait."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most
        with ExitStack() as stack:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(folder / ".lock"))
            except BlockingIOError as error:
                raise SpoolError(f"another process is using the spool {folder}") from error
            except OSError as error:
                raise unwritable(f"the spool {folder}", error, "used", SpoolError) from error
            self._waiting = {each.number: each for each in map(_read, sorted(folder.glob("[0-9]*.json")))}
            self._lock = stack.pop_all()
        self._next = max(self._waiting, default=-1) + 1
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
        self._waiting[self._next] = Spooled(piece.span, piece.recorded, piece.samples, self._next, len(body), path)
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


def _read(path: Path) -> Spooled:
    try:
        body = path.read_bytes()
        segment = decode_segment(body)
    except OSError as error:
        raise SpoolError(f"{path} in the spool cannot be read: {error.strerror}") from error
    except ProblemError as error:
        raise SpoolError(f"{path} in the spool is not a segment: {error.detail}") from error
    n = len(segment.h)
    span = Span(segment.channel or "", segment.t0, stop_of(segment.t0, n, segment.dt))
    recorded = span._replace(channel=recorded_name(span.channel, segment.dt))
    return Spooled(span, recorded, n, int(path.stem), len(body), path)
