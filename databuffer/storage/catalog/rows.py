"""Rows of the catalog as the rest of the buffer sees them; times are nanoseconds of Unix time."""

from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec
import sqlalchemy as sa

from databuffer.storage.scalars import Scalars
from gwwire.public import BatchState


@dataclass(frozen=True)
class BatchRow:
    """A batch; `path` is relative to the root of the volume."""

    id: str
    state: BatchState
    opened: int
    path: str
    frozen: int | None = None
    archived: int | None = None
    holder: str = ""
    n_itm: int = 0
    buff_size: int = 0
    digest: str | None = None
    seq: int = field(default=0, compare=False)  # the catalog draws it


class SegmentRow(NamedTuple):
    """A segment to insert; `key` is the Idempotency-Key of its request, `conditions` are the scalars of its `meta`.

    The fields up to `stored` have the names and the order of the columns that `Segments.add` fills from them.
    """

    name: str
    bytes: int
    sha256: str
    channel: str | None
    t0: float
    dt: float
    n: int
    stored: int
    key: str | None = None
    conditions: Scalars = ()


class CataloguedSegment(msgspec.Struct, frozen=True, gc=False):
    """A segment of the catalog; excluded from garbage collection, because a freeze reads a whole batch of them."""

    seq: int
    batch: str
    name: str
    bytes: int
    sha256: str
    channel: str | None
    t0: float
    dt: float
    n: int
    stored: int


class Extent(NamedTuple):
    """The span of a segment, and its position in the catalog."""

    channel: str | None
    dt: float
    t0: float
    n: int
    seq: int


class IdempotencyKey(NamedTuple):
    """An Idempotency-Key, with what is needed to repeat the answer that its first request got."""

    key: str
    segment: str
    sha256: str
    bytes: int
    stored: int


@dataclass(frozen=True)
class SegmentFilter:
    """Selects segments."""

    batch: str | None = None  # only segments of this batch
    channel: str | None = None  # only segments of this channel
    start: float | None = None  # only segments that end after this GPS time
    stop: float | None = None  # only segments that start before this GPS time
    after: int = 0  # only segments with a larger seq
    limit: int = 1000  # the largest number of segments; negative: unlimited
    before: int | None = None  # only segments with a smaller seq, the newest first
    clauses: tuple[sa.ColumnElement[bool], ...] = ()  # more conditions on the columns of SEGMENTS
