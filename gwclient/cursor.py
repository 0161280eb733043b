"""Cursor files: what was acknowledged of a source, so that an interrupted push continues where it stopped.

A cursor belongs to one source and one gateway. It is advanced only after an acknowledgement and replaced as a whole, so
that it never claims too much; what it does not contain yet is sent again under the same Idempotency-Key.
"""

import hashlib
import math
import re
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Self
from uuid import uuid4

import msgspec

from gwclient.client import GlitchflowClient
from gwclient.errors import CursorError, GatewayRefused, NoStateFolder, unwritable
from gwclient.groups import Sendable
from gwclient.pieces import Length
from gwclient.push import Listener
from gwclient.strain import join_spans
from gwfiles.stretches import Span
from gwservice.atomic import locked, replace_file
from gwservice.regular_file import read_regular
from gwwire.decoding import parse_json
from gwwire.public import BatchState

#: s between two replacements of the file.
_PAUSE_S = 0.5
#: Bytes of a cursor file: 100,000 spans of a source have 5 MB.
_MOST_BYTES = 2**30

Spans = dict[str, list[tuple[float, float]]]


class CursorState(msgspec.Struct):
    """The content of a cursor file."""

    source: str
    gateway: str
    length: str
    datastore: str = ""  # the id of one of its batches; empty if unknown
    newest: tuple[str, str] | None = None  # name and SHA-256 of the newest segment of those acknowledged
    began: float = 0.0  # when the last push began, in Unix s; a file that changed later was not sent as it is now
    salt: str = ""  # a part of the idempotency keys that differs from that of a discarded cursor
    acknowledged: Spans = {}
    settled: Spans = {}  # acknowledged in segments of another length, and not sent again


def state_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder that cursors are kept in (XDG Base Directory Specification)."""
    home = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "gwclient"


def source_digest(gateway: str, source: str) -> str:
    """Return the part of file names that stands for a source and a gateway."""
    return hashlib.sha256(_as_bytes(f"{gateway}\n{source}")).hexdigest()[:16]


def _as_bytes(source: str) -> bytes:
    """Return a text with paths, which may have any bytes, as bytes."""
    return source.encode(errors="surrogateescape")


class Cursor:
    """The segments of one source that one gateway has acknowledged; use `open`, and `close` it."""

    def __init__(self, path: Path, state: CursorState, lock: ExitStack) -> None:
        self.path, self.state, self._lock = path, state, lock
        self._pending: list[Span] = []
        self._newest: tuple[str, bytes] | None = None
        self._saved = -math.inf
        self._failed = False

    @classmethod
    def open(cls, folder: Path, source: str, gateway: str, length: Length, *, restart: bool = False) -> Self:
        """Open the cursor of a source, or create it; with `restart` discard it, and store the same strain again."""
        words = re.sub(r"\W+", "-", source.rpartition("/")[2])[:40].strip("-")
        path = folder / f"{words}-{source_digest(gateway, source)}.json"
        with ExitStack() as lock:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                lock.enter_context(locked(path.with_suffix(".lock")))
            except BlockingIOError as error:
                raise CursorError(f"another process is sending this source right now ({path})") from error
            except OSError as error:
                raise NoStateFolder(f"what is acknowledged cannot be kept in {folder}: {error.strerror}") from error
            shown = _as_bytes(source).decode(errors="backslashreplace")
            fresh = CursorState(shown, gateway, str(length), salt=uuid4().hex if restart else "")
            state = fresh if restart else _read(path) or fresh
            if state.length != str(length):
                settled = join_spans(_flat(state.acknowledged) + _flat(state.settled))
                state = msgspec.structs.replace(state, length=str(length), acknowledged={}, settled=settled)
            return cls(path, state, lock.pop_all())

    @property
    def empty(self) -> bool:
        """Return whether nothing has been acknowledged."""
        return not (self.state.acknowledged or self.state.settled)

    def covers(self, span: Span) -> bool:
        """Return whether a span was acknowledged, as part of a whole segment of the present length."""
        spans = self.state.acknowledged.get(span.channel, [])
        i = bisect_right(spans, (span.start, math.inf)) - 1
        return i >= 0 and spans[i][0] <= span.start and span.stop <= spans[i][1]

    def belong_to(self, datastore: str) -> None:
        """Empty the cursor, and assign it to another datastore."""
        self.state = msgspec.structs.replace(self.state, datastore=datastore, newest=None, acknowledged={}, settled={})
        self._pending, self._newest = [], None

    def forget(self, spans: Iterable[Span]) -> bool:
        """Remove spans from what was acknowledged; return whether any of it was."""
        before = self.state.acknowledged, self.state.settled
        for span in spans:
            self.state.acknowledged = _without(self.state.acknowledged, span)
            self.state.settled = _without(self.state.settled, span)
        return (self.state.acknowledged, self.state.settled) != before

    def note_stored(self, name: str, body: bytes) -> None:
        """Note the name of a segment; a datastore that is restored from before the newest lacks it."""
        known = self._newest or self.state.newest
        if known is None or _age(known[0]) < _age(name):
            self._newest = name, body

    def acknowledge(self, span: Span) -> None:
        """Add a span; the file is replaced at most every half second, and when the cursor is closed."""
        self._pending.append(span)
        if time.monotonic() - self._saved > _PAUSE_S:
            self.save()

    def save(self) -> None:
        """Replace the file, or raise CursorError."""
        joined = join_spans(_flat(self.state.acknowledged) + self._pending)
        self.state.acknowledged, self._pending = joined, []
        if self._newest:
            name, body = self._newest
            self.state.newest, self._newest = (name, hashlib.sha256(body).hexdigest()), None
        try:
            replace_file(self.path, msgspec.json.encode(self.state))
        except OSError as error:
            self._failed = True
            raise unwritable(self.path, error, otherwise=CursorError) from error
        self._saved = time.monotonic()

    def close(self) -> None:
        """Save the cursor, unless that failed before, and release its lock."""
        try:
            if not self._failed:
                self.save()
        finally:
            self._lock.close()


class CursorListener(Listener):
    """Advances a cursor by what is acknowledged, and passes every event on to another listener."""

    def __init__(self, shown: Listener, cursor: Cursor) -> None:
        super().__init__(shown)
        self._cursor = cursor

    def stored(self, name: str, body: bytes) -> None:
        """Note the segment in the cursor."""
        self._cursor.note_stored(name, body)
        super().stored(name, body)

    def acknowledged(self, piece: Sendable) -> None:
        """Add the piece to the cursor."""
        self._cursor.acknowledge(piece.recorded)
        super().acknowledged(piece)


async def check_datastore(client: GlitchflowClient, cursor: Cursor, say: Callable[[str], None] = lambda _: None) -> str:
    """Empty the cursor if another datastore acknowledged what it holds, or one that was restored from before that.

    Return what happened for people, or nothing. If the key may not read, that is said instead.
    """
    try:
        batches = await client.batches()
        known = [batch.id for batch in batches]
        newest = cursor.state.newest
        is_same = await client.has_segment(*newest) if newest else cursor.state.datastore in known
    except GatewayRefused as refusal:
        if refusal.status == HTTPStatus.FORBIDDEN and not cursor.empty:
            unknown = f"whether {client.base_url} still has what it acknowledged is not known"
            say(f"{unknown}: the key does not have the scope read; --restart sends everything again")
        return ""  # the original system's gateway has no batches
    if not known or is_same:
        return ""
    what = "is not the datastore that acknowledged before, or was restored from before that"
    news = "" if cursor.empty else f"{client.base_url} {what}"
    open_ones = [batch.id for batch in batches if batch.state is not BatchState.ARCHIVED]
    cursor.belong_to((open_ones or known)[-1])
    return news


def _age(name: str) -> int:
    """Return the number in a segment's name, which grows with each segment of a datastore."""
    numbers = re.findall(r"\d+", name)
    return int(numbers[-1]) if numbers else 0


def _read(path: Path) -> CursorState | None:
    try:
        return parse_json(read_regular(path, _MOST_BYTES), CursorState)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CursorError(f"{path} cannot be read as a cursor ({reason}); --restart forgets it") from error


def _without(spans: Spans, span: Span) -> Spans:
    if span.channel not in spans:
        return spans
    parts = [
        part
        for start, stop in spans[span.channel]
        for part in ((start, min(stop, span.start)), (max(start, span.stop), stop))
        if part[0] < part[1]
    ]
    return {**spans, span.channel: parts}


def _flat(spans: Spans) -> list[Span]:
    return [Span(channel, start, stop) for channel, of_channel in spans.items() for start, stop in of_channel]
