"""The change feed: records that match, in their latest versions, by increasing seq."""

import asyncio
from collections.abc import AsyncIterator

import msgspec

from databuffer.records.records import Records
from databuffer.records.scan import Scan
from databuffer.records.selection import Selection, sources
from gwwire.records import Feed, Mark

#: Records in memory at a time, per reader.
_PAGE = 100
_LOOK_SECONDS = 0.05


async def changes(
    records: Records, wanted: Selection, since: int, feed: Feed, heartbeat: float
) -> AsyncIterator[bytes]:
    """Yield NDJSON: records that changed after `since`, marks of what does not match, an empty line if all is quiet.

    The first part comes at once. Nothing is looked up while the reader has not taken the last part.
    """
    loop, scan = asyncio.get_running_loop(), Scan(sources(wanted))
    sent = -heartbeat
    while True:
        began, change = loop.time(), records.next_change(scan)
        found, look = await records.changes(scan, since, _PAGE)
        lines = [msgspec.json.encode(record) for record in found]
        if look.end > (found[-1].seq if found else since):
            lines.append(msgspec.json.encode(Mark(look.end)))
        if lines or (feed is Feed.CONTINUOUS and began - sent >= heartbeat):
            yield b"\n".join([*lines, b""]) if lines else b"\n"
            sent = began
        since = look.end
        if not look.complete:
            continue
        if feed is Feed.ONCE or records.stopping:
            return
        await asyncio.wait([change], timeout=sent + heartbeat - began)
        await asyncio.sleep(began + _LOOK_SECONDS - loop.time())
