"""The gateway's routes of queries as coroutines: segments, filters, and what of the time is covered."""

from collections.abc import AsyncGenerator, Sequence
from typing import Annotated
from urllib.parse import urlencode

from msgspec import Meta, Struct

from gwclient.bundles import Bundles
from gwclient.connection import GatewayConnection
from gwwire.facets import Facet, Facets
from gwwire.public import ChannelCoverage, ChannelGaps, Coverage, SegmentPage, SegmentRecord
from gwwire.query import CONDITION, Query, grouped


class SearchResult(Struct, frozen=True):
    """The totals of what a query selects, and some of its segments."""

    segments: Annotated[int, Meta(description="all matching segments; if `cut`, there are more")]
    covered: list[ChannelCoverage]
    gaps: list[ChannelGaps]
    more_channels: Annotated[int, Meta(description="channels whose coverage is not listed")]
    records: list[SegmentRecord]
    after: Annotated[int, Meta(description="the next page begins after this seq")]
    more: Annotated[bool, Meta(description="whether there is a next page")]
    cut: Annotated[bool, Meta(description="whether only the newest segments were counted, because it took long")]
    conditions: Annotated[list[Facet], Meta(description="the conditions that these segments have, as facets")]


class SearchClient(GatewayConnection):
    """The part of the client that reads what queries select."""

    async def segments(  # noqa: PLR0913 (the parameters of the route)
        self,
        *,
        batch: str | None = None,
        channel: str | Sequence[str] | None = None,
        start: float | None = None,
        stop: float | None = None,
        query: Query | None = None,
        after: int = 0,
        page: int = 1000,
    ) -> AsyncGenerator[SegmentRecord, None]:
        """Yield the stored segments in the order they were stored, requesting one page at a time.

        Every segment comes once, also while others are being stored.

        Args:
            batch: only this batch (id).
            channel: only this channel, `DET:NAME`, or these.
            start: GPS seconds; only segments that end after it.
            stop: GPS seconds; only segments that begin before it.
            query: more fields and conditions, as docs/api.md describes them.
            after: only segments stored after this seq.
            page: segments per page, up to 10,000.

        """
        parameters = {"batch": batch, "channel": channel, "start": start, "stop": stop}
        given = {name: value for name, value in parameters.items() if value is not None}
        fields = {**(grouped(query) if query else {}), **given}
        more = True
        while more:
            parameter_text = urlencode({**fields, "after": after, "limit": page}, doseq=True)
            answer = await self.ask("GET", f"/segments?{parameter_text}", SegmentPage)
            for record in answer.segments:
                yield record
            after, more = answer.after, answer.more

    async def facets(self, query: Query) -> Facets:
        """Return how many segments a query selects, and the filters that narrow it further."""
        return await self.ask("GET", f"/facets?{urlencode(grouped(query), doseq=True)}", Facets)

    async def coverage(self, query: Query, *, limit: int = 2000) -> Coverage:
        """Return the time that a query covers, with at most `limit` spans of each channel."""
        path = f"/coverage?{urlencode({**grouped(query), 'limit': limit}, doseq=True)}"
        return await self.ask("GET", path, Coverage)

    async def search(self, query: Query, *, after: int = 0, limit: int = 100) -> SearchResult:
        """Return the number of segments that a query selects, the time they cover, and a page of them.

        The page has at most `limit` segments stored after the seq `after`.
        """
        counted = await self.facets(query)
        cut = counted.after > 0
        covered = await self.coverage(query) if counted.segments or cut else Coverage(None, [], [], 0)
        page = await self._page(query, after, limit + 1)
        shown = page[:limit]
        return SearchResult(
            counted.segments, covered.channels, covered.gaps, covered.more, shown,
            after=shown[-1].seq if shown else after, more=len(page) > limit, cut=cut,
            conditions=[each for each in counted.facets if each.name.startswith(CONDITION)],
        )  # fmt: skip

    async def _page(self, query: Query, after: int, limit: int) -> list[SegmentRecord]:
        path = f"/segments?{urlencode({**grouped(query), 'after': after, 'limit': limit}, doseq=True)}"
        return (await self.ask("GET", path, SegmentPage)).segments

    @property
    def bundles(self) -> Bundles:
        """The routes of bundles, and downloads of their archives."""
        return Bundles(self)
