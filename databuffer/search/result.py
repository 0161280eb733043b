"""The result of an order for a bundle: which segments it selects now, and the description of the bundle."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version

import msgspec
import sqlalchemy as sa

from databuffer.errors import NotFound
from databuffer.records.selection import segments_matching
from databuffer.search.clauses import is_newest
from databuffer.search.plan import plan
from databuffer.storage.catalog import CataloguedSegment, SegmentFilter
from databuffer.storage.catalog.database import portions
from databuffer.storage.catalog.schema import COUNTER, SEGMENTS
from databuffer.storage.catalog.segments import select_segments
from databuffer.storage.clock import utc_text
from gwwire.bundles import MOST_SEGMENTS, BundleInfo, BundleOrder, citation
from gwwire.coverage import channel_coverage, channel_gaps, spans_of
from gwwire.decoding import InvalidRequest
from gwwire.manifest import batch_digest
from gwwire.public import ManifestEntry
from gwwire.query import Query

#: The most spans of a channel in the description of a bundle.
_MOST_SPANS = 2000
_ID_LENGTH = 32


@dataclass(frozen=True)
class Result:
    """The segments that an order selects, in the order they were stored, and the seq up to which that is true."""

    segments: Sequence[CataloguedSegment]
    as_of: int

    @property
    def digest(self) -> str:
        """SHA-256 of the `sha256sum` listing of the segments."""
        return batch_digest((segment.name, segment.sha256) for segment in self.segments)

    def entries(self) -> list[ManifestEntry]:
        """Return the segments as a manifest lists them."""
        return [
            ManifestEntry(each.name, each.bytes, each.sha256, each.channel, each.t0, each.dt, each.n)
            for each in self.segments
        ]


def check_order(order: BundleOrder) -> None:
    """Raise InvalidRequest unless an order has either a query or names."""
    if (order.query is None) == (order.names is None):
        raise InvalidRequest("expected either a query or names", field="query")


def canonical(order: BundleOrder) -> str:
    """Return an order as JSON that is equal for orders of the same segments in the same format."""
    names = None if order.names is None else tuple(sorted(set(order.names)))
    return msgspec.json.encode(msgspec.structs.replace(order, names=names), order="sorted").decode()


def find(connection: sa.Connection, order: BundleOrder, before: int | None = None) -> Result:
    """Return the segments that an order selects now, or of those stored up to a seq.

    Raise NotFound if a named segment does not exist, InvalidRequest for more segments than a bundle can have.
    """
    as_of: int = connection.execute(sa.select(COUNTER.c.seq)).scalar_one()
    if order.names is not None:
        return Result(_named(connection, order.names), as_of)
    query = order.query or Query()
    clauses = [*plan(connection, query), *segments_matching(query), is_newest(SEGMENTS.c)]
    if before is not None:
        clauses.append(SEGMENTS.c.seq <= before)
    found = select_segments(connection, SegmentFilter(clauses=tuple(clauses), limit=MOST_SEGMENTS + 1))
    if len(found) > MOST_SEGMENTS:
        raise InvalidRequest(
            f"query: it selects more than {MOST_SEGMENTS:,} segments, the most of a bundle; select a shorter span",
            field="query",
        )
    return Result(found, as_of)


def batches_of(connection: sa.Connection, names: Sequence[str]) -> set[str]:
    """Return the batches of some segments."""
    found: set[str] = set()
    for some in portions(names):
        query = sa.select(SEGMENTS.c.batch).where(SEGMENTS.c.name.in_(some), is_newest(SEGMENTS.c)).distinct()
        found.update(connection.execute(query).scalars())
    return found


def describe(order: BundleOrder, result: Result, made: int) -> BundleInfo:
    """Return the description of a bundle that is made at a time, nanoseconds of Unix time."""
    digest = result.digest
    covered = channel_coverage(spans_of(result.segments), _MOST_SPANS)
    return BundleInfo(
        bundle=hashlib.sha256(f"{canonical(order)}\n{digest}".encode()).hexdigest()[:_ID_LENGTH],
        format=order.format,
        query=order.query,
        as_of=result.as_of,
        made=utc_text(made),
        n=len(result.segments),
        bytes=sum(segment.bytes for segment in result.segments),
        digest=digest,
        covered=covered,
        gaps=list(channel_gaps(covered, order.query or Query())),
        software=_software(),
        citation=citation([channel.channel for channel in covered]),
    )


def _named(connection: sa.Connection, names: Sequence[str]) -> list[CataloguedSegment]:
    found: list[CataloguedSegment] = []
    for some in portions(set(names)):
        clauses = (SEGMENTS.c.name.in_(some), is_newest(SEGMENTS.c))
        found += select_segments(connection, SegmentFilter(clauses=clauses, limit=-1))
    if missing := set(names) - {segment.name for segment in found}:
        raise NotFound(f"there is no segment {min(missing)!r}")
    return sorted(found, key=lambda segment: segment.seq)


@cache
def _software() -> str:
    return f"glitchflow-datastore {version('glitchflow-datastore')}"
