"""Files whose bytes have arrived become complete: all that wait at the same time in one commit.

A synced commit takes as long as hundreds of small files.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from databuffer.holdings import orders
from databuffer.holdings.contents import Arriving, Contents
from databuffer.holdings.ledger import HoldingLedger
from databuffer.holdings.rows import FileRow
from databuffer.storage.clock import steady_ns

#: Files of one commit; segments wait for it.
_MOST = 64


@dataclass(frozen=True)
class _Arrived:
    """A file whose bytes have arrived, and whether it waited for them, which is known at the end."""

    arriving: Arriving
    row: FileRow
    digest: str
    done: asyncio.Future[bool]


class Completions:
    """Makes files complete; `on_ended` is called when a transaction has no file any more that waits."""

    def __init__(self, ledger: HoldingLedger, contents: Contents) -> None:
        self.on_ended: Callable[[], object] = lambda: None
        self._ledger = ledger
        self._contents = contents
        self._waiting: list[_Arrived] = []
        self._working: asyncio.Task[None] | None = None

    async def complete(self, arriving: Arriving, row: FileRow, digest: str) -> bool:
        """Make a file complete, durably; return whether it waited for its bytes. Raise VolumeError."""
        arrived = _Arrived(arriving, row, digest, asyncio.get_running_loop().create_future())
        with self._contents.publishing(digest):
            self._waiting.append(arrived)
            if self._working is None or self._working.done():
                self._working = asyncio.create_task(self._work())
            try:
                return await asyncio.shield(arrived.done)
            except asyncio.CancelledError:
                await asyncio.wait([arrived.done])  # its file is in use until then
                raise

    async def _work(self) -> None:
        while self._waiting:
            some, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
            try:
                await self._complete(some)
            except Exception as error:  # noqa: BLE001 (the request of each file raises it)
                for each in some:
                    each.done.set_exception(error)
                    each.done.exception()  # a request that was cancelled does not ask for it

    async def _complete(self, some: Sequence[_Arrived]) -> None:
        await asyncio.to_thread(self._contents.publish, [(each.arriving, each.digest) for each in some])
        rows = [(each.row, each.digest) for each in some]
        outcome = await self._ledger.change(partial(orders.complete, rows=rows, now=steady_ns()))
        for each in some:
            each.done.set_result(each.row.number in outcome.complete)
        if outcome.ended:
            self.on_ended()
