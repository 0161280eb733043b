"""Search the catalog by queries, in worker threads."""

import asyncio
from collections.abc import Callable

import sqlalchemy as sa

from databuffer.coverage import CoverageKeeper
from databuffer.queries import Queries
from databuffer.records.selection import segments_matching
from databuffer.records.table import check_seq
from databuffer.search.coverage import spans_of_segments, spans_of_totals
from databuffer.search.facets import facets
from databuffer.search.plan import plan, totals_of
from databuffer.storage.catalog import CataloguedSegment, SegmentFilter
from databuffer.storage.catalog.segments import select_segments
from gwwire.coverage import coverage
from gwwire.facets import Facets
from gwwire.public import Coverage
from gwwire.query import Query


class Search:
    """Searches; every method raises VolumeError if the catalog cannot be read."""

    def __init__(self, queries: Queries, kept: Callable[[], CoverageKeeper]) -> None:
        self._queries = queries
        self._kept = kept

    async def segments(
        self, query: Query, after: int = 0, limit: int = 1000, before: int | None = None
    ) -> list[CataloguedSegment]:
        """Return the first `limit` segments with a seq above `after`, or the newest ones with a seq below `before`.

        Raise SeqAhead for an `after` that nothing has reached.
        """

        def find(connection: sa.Connection) -> list[CataloguedSegment]:
            check_seq(connection, after, "after")
            return find_segments(connection, query, after, limit, before)

        return await self._queries.read(find)

    async def coverage(self, query: Query, limit: int = 2000) -> Coverage:
        """Return the spans without a gap of what a query selects, at most `limit` of a channel.

        Raise NotFound if it names a batch that does not exist.
        """
        for batch in query.batch:
            await self._queries.batch(batch)
        if query.selects_by_records:
            spans = await self._queries.read(lambda connection: spans_of_segments(connection, query))
        else:
            rows = await self._queries.read(lambda connection: totals_of(connection, query))
            batches = list(dict.fromkeys(row.batch for row in rows))
            kept = dict(zip(batches, await self._queries.look_up(lambda: self._kept().of(batches)), strict=True))
            spans = await self._queries.read(lambda connection: spans_of_totals(connection, query, rows, kept))
        return await asyncio.to_thread(coverage, spans, query, limit)

    async def facets(self, query: Query) -> Facets:
        """Return the filters that narrow a query."""
        return await self._queries.read(lambda connection: facets(connection, query))


def find_segments(
    connection: sa.Connection, query: Query, after: int = 0, limit: int = 1000, before: int | None = None
) -> list[CataloguedSegment]:
    """Return a page of the segments that a query selects, by increasing seq, or with `before` by decreasing seq."""
    clauses = (*plan(connection, query, after, before), *segments_matching(query))
    wanted = SegmentFilter(after=after, limit=limit, before=before, clauses=clauses)
    return select_segments(connection, wanted)
