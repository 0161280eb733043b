"""Search the catalog by queries, in worker threads."""

import sqlalchemy as sa

from databuffer.queries import Queries
from databuffer.records.selection import segments_matching
from databuffer.search.facets import facets
from databuffer.search.plan import plan
from databuffer.storage.catalog import CataloguedSegment, SegmentFilter
from databuffer.storage.catalog.segments import select_segments
from gwwire.facets import Facets
from gwwire.query import Query


class Search:
    """Searches; every method raises VolumeError if the catalog cannot be read."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries

    async def segments(
        self, query: Query, after: int = 0, limit: int = 1000, before: int | None = None
    ) -> list[CataloguedSegment]:
        """Return the first `limit` segments with a seq above `after`, or the newest ones with a seq below `before`."""
        return await self._queries.read(lambda connection: find_segments(connection, query, after, limit, before))

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
