"""Holdings: put files, find them, read them, delete them, and undo that."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import BinaryIO
from uuid import uuid4

import sqlalchemy as sa

from databuffer.errors import NotFound
from databuffer.holdings import file_table, orders, table
from databuffer.holdings.contents import Contents
from databuffer.holdings.ledger import HoldingLedger
from databuffer.holdings.quotas import Quotas
from databuffer.holdings.rows import Caller, FileRow, TransactionRow
from databuffer.holdings.table import HoldingFilter, TransactionFilter
from databuffer.holdings.uploads import Uploads
from databuffer.storage.catalog.batches import FILES_RECORD
from databuffer.storage.clock import steady_ns
from gwservice.patterns import matcher
from gwwire.holdings import (
    MOST_FILES,
    FilePage,
    FileState,
    Holding,
    HoldingFile,
    HoldingPage,
    HoldingPatch,
    Transaction,
    TransactionMade,
    TransactionOrder,
    TransactionPage,
    TransactionState,
    Upload,
    check_link,
    check_path,
)
from gwwire.problems import ProblemError
from gwwire.tiering import BatchLocality

log = logging.getLogger(__name__)

_SECOND = 10**9
#: s between two looks for what has to be purged, at most.
_INTERVAL = 60.0
_SHORTEST_INTERVAL = 0.5
#: Rows that one page looks at, if an expression selects few of them.
_MOST_LOOKED_AT = 100_000


@dataclass(frozen=True)
class Page:
    """The requested part of a list; `after` is the position at which the previous page ended."""

    limit: int
    after: int | None = None
    descending: bool = False


class Holdings:
    """All holdings; `uploads` takes the bytes, of which each group may have as many as the `quotas` allow.

    Deleted files can be restored for `grace` s; files that were not sent completely fail after it. None: no limit.
    `localities` returns where packs are that tiers have, by their ids.
    """

    def __init__(self, ledger: HoldingLedger, contents: Contents, *, quotas: Quotas, grace: int | None) -> None:
        self.uploads = Uploads(ledger, contents)
        self._ledger = ledger
        self._contents = contents
        self._quotas = quotas
        self._grace = None if grace is None else grace * _SECOND
        self._purging: asyncio.Task[None] | None = None
        self.localities: Callable[[sa.Connection, Iterable[str]], dict[str, BatchLocality]] = _nowhere_else

    def prepare(self) -> None:
        """Create the folders, and remove what no file waits for; raise VolumeError if they cannot be used."""
        self._contents.open()
        self.uploads.tidy()

    def open(self) -> None:
        """Begin to purge; call `prepare` before."""
        if self._grace is not None:
            self._purging = asyncio.create_task(self._purge_regularly(self._grace / _SECOND))

    async def close(self) -> None:
        """Stop purging."""
        if self._purging:
            self._purging.cancel()
            with suppress(asyncio.CancelledError):
                await self._purging

    # ---- changes

    async def put(self, caller: Caller, order: TransactionOrder) -> TransactionMade:
        """Begin a transaction; raise InvalidRequest for an impossible path or link, NotFound for the holding."""
        for each in order.files:
            check_path(each.path)
            check_link(each.link or "")
        now, identity = steady_ns(), order.id or str(uuid4())
        add = partial(orders.add, files=order.files, now=now, quotas=self._quotas)

        def begin(connection: sa.Connection) -> tuple[TransactionRow, tuple[list[FileRow], bool]]:
            begun = orders.begin(connection, caller, order, identity, now)
            return begun, add(connection, begun)

        row, (ended, more) = await self._ledger.change(begin)  # one commit, which takes as long as many files
        await self._drop(ended)
        while more:
            ended, more = await self._ledger.change(partial(add, begun=row))
            await self._drop(ended)
        outcomes = await self._ledger.read(lambda connection: file_table.outcomes(connection, row.number))
        return TransactionMade(await self.transaction(caller, row.id), outcomes)

    async def delete(self, caller: Caller, number: int, path: str | None = None) -> Transaction:
        """Delete a holding, or one of its files; `undo` restores it."""
        change = partial(orders.delete, caller=caller, number=number, identity=str(uuid4()), path=path)
        row, ended = await self._ledger.change(partial(change, now=steady_ns()))
        what = f"holding {number}" if path is None else f"{path!r} of holding {number}"
        fields = {"event": "files-deleted", "holding": number, "transaction": row.id}
        log.info("%s deleted by %s, %d files", what, caller.user or "somebody", row.files, extra=fields)
        await self._drop(ended)
        return row.to_model()

    async def undo(self, caller: Caller, identity: str) -> Transaction:
        """Restore what a transaction deleted."""
        undo = partial(orders.undo, caller=caller, identity=identity, now=steady_ns(), grace=self._grace)
        return (await self._ledger.change(undo)).to_model()

    async def patch(self, caller: Caller, number: int, changes: HoldingPatch) -> Holding:
        """Change label and tags of a holding."""
        await self._ledger.change(partial(orders.patch, caller=caller, number=number, changes=changes))
        return await self.holding(caller, number)

    # ---- queries

    async def holding(self, caller: Caller, number: int) -> Holding:
        """Return a holding, or raise NotFound."""

        def find(connection: sa.Connection) -> Holding:
            row = orders.find_holding(connection, caller, number)
            return row.to_model(table.tags(connection, [number]).get(number, {}))

        return await self._ledger.read(find)

    async def holdings(
        self, caller: Caller, wanted: HoldingFilter, page: Page, *, regex: str | None = None
    ) -> HoldingPage:
        """Return the holdings that a caller may read and a filter selects; `regex` is found in their labels."""
        matches = _matcher(regex)

        def find(connection: sa.Connection) -> HoldingPage:
            rows = table.holdings(connection, caller, wanted, page.after, descending=page.descending)
            found = list(islice((row for row in rows if matches(row.label)), page.limit + 1))
            shown = found[: page.limit]
            tags = table.tags(connection, [row.id for row in shown])
            after = shown[-1].id if shown else page.after or 0
            return HoldingPage([row.to_model(tags.get(row.id, {})) for row in shown], after, len(found) > page.limit)

        return await self._ledger.read(find)

    async def transaction(self, caller: Caller, identity: str) -> Transaction:
        """Return a transaction, or raise NotFound."""
        return (await self._ledger.read(lambda c: orders.find_transaction(c, caller, identity))).to_model()

    async def transactions(
        self, caller: Caller, wanted: TransactionFilter, page: Page, *, state: TransactionState | None = None
    ) -> TransactionPage:
        """Return the transactions that a caller may read, that a filter selects, and that have a state."""

        def find(connection: sa.Connection) -> TransactionPage:
            rows = table.transactions(connection, caller, wanted, page.after, descending=page.descending)
            models = (row.to_model() for row in rows)
            found = list(islice((each for each in models if state in {None, each.state}), page.limit + 1))
            shown = found[: page.limit]
            return TransactionPage(shown, shown[-1].number if shown else page.after or 0, len(found) > page.limit)

        return await self._ledger.read(find)

    async def files(  # noqa: PLR0913 (the parameters of the route)
        self, caller: Caller, number: int, limit: int, *, after: str = "", path: str = "", regex: str | None = None
    ) -> FilePage:
        """Return files of a holding by path: that at `path`, or those below it if it ends with a slash.

        `regex` is found in their paths. A page may have fewer files than the limit though others follow.
        """
        matches = _matcher(regex)

        def find(connection: sa.Connection) -> FilePage:
            orders.find_holding(connection, caller, number)
            if path and not path.endswith("/"):
                row = file_table.file_at(connection, number, path)
                return self._page(
                    connection, [row] if row and row.path > after and matches(path) else [], after, more=False
                )
            looked = islice(file_table.paths_in(connection, number, after, path), _MOST_LOOKED_AT)
            found, last, more = _first(looked, matches, limit, after)
            return self._page(connection, file_table.files(connection, found), last, more=more)

        return await self._ledger.read(find)

    async def files_of(
        self, caller: Caller, identity: str, limit: int, *, after: str = "", state: FileState | None = None
    ) -> FilePage:
        """Return the files that a transaction put or deleted, by path.

        Files of the same path, of which all but one failed, are on one page, though it may have more than `limit` then.
        """

        def find(connection: sa.Connection) -> FilePage:
            of = orders.find_transaction(connection, caller, identity)
            rows = file_table.files_of(connection, of, state, after, limit + 1)
            more = len(rows) > limit
            shown = [row for row in rows if row.path != rows[-1].path] if more else rows
            if more and not shown:
                rows = file_table.files_of(connection, of, state, after, MOST_FILES + 1)
                shown = [row for row in rows if row.path == rows[0].path]
                more = len(rows) > len(shown)
            return self._page(connection, shown, shown[-1].path if shown else after, more=more)

        return await self._ledger.read(find)

    async def file(self, caller: Caller, number: int, path: str) -> tuple[HoldingFile, BinaryIO | None]:
        """Return a complete file, and its bytes if the disk has them; raise NotFound."""

        def find(connection: sa.Connection) -> HoldingFile:
            of = orders.find_holding(connection, caller, number)
            row = None if of.deleted is not None else file_table.file_at(connection, number, path)
            if row is None or row.state is not FileState.COMPLETE:
                why = "is deleted" if of.deleted is not None else f"has no complete file {path}"
                raise NotFound(f"holding {number} {why}")
            return self._models(connection, [row])[0]

        found = await self._ledger.read(find)
        if found.sha256 is None:
            return found, None
        return found, await asyncio.to_thread(self._contents.file, found.sha256, found.size)

    async def upload(self, row: FileRow, received: int) -> Upload:
        """Return the public model of an upload."""
        [found] = await self._ledger.read(lambda c: self._models(c, [row]))
        return Upload(found, received)

    # ---- purge

    async def purge(self) -> None:
        """Delete for good what was deleted HOLDING_GRACE ago, and fail what was not sent completely since."""
        if self._grace is None:
            return
        before = steady_ns() - self._grace
        while expired := await self._ledger.change(partial(orders.expire, before=before)):
            await self._drop(expired)
        while purged := await self._ledger.change(partial(orders.purge, before=before)):
            for digest in {row.sha256 for row in purged if row.sha256}:
                await asyncio.to_thread(self._contents.remove, digest, self.uploads.is_needed)

    async def _purge_regularly(self, grace: float) -> None:
        while True:
            try:
                await self.purge()
            except ProblemError as error:
                log.warning("holdings cannot be purged: %s", error.detail, extra={"event": "purge-error"})
            except Exception:
                log.exception("holdings cannot be purged", extra={"event": "purge-error"})
            await asyncio.sleep(min(_INTERVAL, max(grace, _SHORTEST_INTERVAL)))

    def _page(self, connection: sa.Connection, rows: Sequence[FileRow], after: str, *, more: bool) -> FilePage:
        return FilePage(self._models(connection, rows), after, more)

    def _models(self, connection: sa.Connection, rows: Sequence[FileRow]) -> list[HoldingFile]:
        ids = table.transaction_ids(connection, {row.transaction for row in rows})
        where = self.localities(connection, [FILES_RECORD + each for each in ids.values()])
        of = {number: where.get(FILES_RECORD + each, BatchLocality.DISK) for number, each in ids.items()}
        return [row.to_model(ids[row.transaction], of[row.transaction]) for row in rows]

    async def _drop(self, rows: Sequence[FileRow]) -> None:
        if rows:
            ids = await self._ledger.read(lambda c: table.transaction_ids(c, {row.transaction for row in rows}))
            await self.uploads.drop(rows, ids)


def _matcher(regex: str | None) -> Callable[[str], bool]:
    return (lambda _: True) if regex is None else matcher(regex, "regex")


def _first(
    paths: Iterator[tuple[str, int]], matches: Callable[[str], bool], limit: int, after: str
) -> tuple[list[int], str, bool]:
    """Return the numbers of the first paths that match, the last path looked at, and whether there are more."""
    found: list[int] = []
    looked, last = 0, after
    for path, number in paths:
        if len(found) == limit:
            return found, last, True
        if matches(path):
            found.append(number)
        looked, last = looked + 1, path
    return found, last, looked == _MOST_LOOKED_AT


def _nowhere_else(_: sa.Connection, __: Iterable[str]) -> dict[str, BatchLocality]:
    return {}
