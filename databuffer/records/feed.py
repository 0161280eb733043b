"""The change feed: records that match, in their latest versions, by increasing seq.

Readers with the same filter share one look at the catalog, and its lines, while nothing changes.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import NamedTuple
from weakref import WeakValueDictionary

import msgspec

from databuffer.records.records import Records
from databuffer.records.scan import Scan
from databuffer.records.selection import Selection, sources
from gwwire.records import Feed, Mark

#: Records in memory at a time, per filter and for each reader that is behind.
_PAGE = 100
_LOOK_SECONDS = 0.05


class _Page(NamedTuple):
    """The changes between two seqs: a line per record with its seq; a later change sets `change`."""

    since: int
    lines: list[tuple[int, bytes]]
    end: int
    complete: bool
    change: asyncio.Future[None]

    def part(self, since: int) -> bytes:
        """Return the lines after a seq, and a mark of what does not match."""
        lines = [line for seq, line in self.lines if seq > since]
        if self.end > (self.lines[-1][0] if lines else since):
            lines.append(msgspec.json.encode(Mark(self.end)))
        return b"\n".join([*lines, b""]) if lines else b""


class _Shared:
    """The looks of all readers with one filter, one at a time.

    A reader whose position lies within the last look gets its result, so that readers get the same position. `began` is
    when the last look began that found all changes.
    """

    def __init__(self, records: Records, wanted: Selection) -> None:
        self._records = records
        self._scan = Scan(sources(wanted))
        self._turn = asyncio.Lock()
        self._last: _Page | None = None
        self.began = 0.0

    async def page(self, since: int) -> _Page:
        """Return the first changes after a seq."""
        async with self._turn:
            last = self._last
            if last and last.since <= since <= last.end and not last.change.done():
                return last
            began, change = asyncio.get_running_loop().time(), self._records.next_change(self._scan)
            found, look = await self._records.changes(self._scan, since, _PAGE)
            lines = [(record.seq, msgspec.json.encode(record)) for record in found]
            page = _Page(since, lines, look.end, look.complete, change)
            if page.complete:
                self._last, self.began = page, began
            return page


class ChangeFeed:
    """The readers of changes, by filter."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._shared: WeakValueDictionary[tuple[object, ...], _Shared] = WeakValueDictionary()

    async def read(self, wanted: Selection, since: int, feed: Feed, heartbeat: float) -> AsyncIterator[bytes]:
        """Yield NDJSON: records that changed after a seq, marks of what does not match, an empty line if all is quiet.

        The first part comes at once. Nothing is looked up while the reader has not taken the last part. Raise SeqAhead
        for a seq that nothing has reached.
        """
        loop, shared = asyncio.get_running_loop(), self._of(wanted)
        sent = -heartbeat
        while True:
            now = loop.time()
            page = await shared.page(since)
            part = page.part(since)
            if part or (feed is Feed.CONTINUOUS and now - sent >= heartbeat):
                yield part or b"\n"
                sent = now
            since = page.end
            if not page.complete:
                continue
            if feed is Feed.ONCE or self._records.stopping:
                return
            await asyncio.wait([page.change], timeout=sent + heartbeat - now)
            await asyncio.sleep(shared.began + _LOOK_SECONDS - loop.time())

    def _of(self, wanted: Selection) -> _Shared:
        key = (wanted.kind, wanted.query.canonical(), wanted.after, wanted.before, wanted.virtual_segments)
        shared = self._shared.get(key)
        if shared is None:
            shared = self._shared[key] = _Shared(self._records, wanted)
        return shared
