"""The models of facets: what filters there are, and how much each value selects."""

from typing import Annotated

from msgspec import Meta, Struct

_AFTER = "if not 0, the time was over: only segments with a larger seq were counted"


class FacetValue(Struct, frozen=True):
    """A value of a filter."""

    value: str
    segments: Annotated[int, Meta(description="matching segments with this value")]
    bytes: Annotated[int | None, Meta(description="of their files; null if it was not counted")] = None


class Facet(Struct, frozen=True):
    """A filter that would narrow a query: its most frequent values, and the range of its numbers."""

    name: Annotated[str, Meta(description="a field of a query, `time` for start and stop, or `conditions.NAME`")]
    segments: Annotated[int, Meta(description="matching segments that have a value")]
    values: Annotated[list[FacetValue], Meta(description="texts, the most frequent first")] = []
    more: Annotated[int, Meta(description="further values that are not listed")] = 0
    low: Annotated[float | None, Meta(description="the smallest number, or null if there is none")] = None
    high: Annotated[float | None, Meta(description="the largest number")] = None
    after: Annotated[int, Meta(description=_AFTER)] = 0


class Facets(Struct, frozen=True):
    """The filters of the segments that a query selects."""

    segments: Annotated[int, Meta(description="all matching segments")]
    facets: list[Facet]
    more: Annotated[int, Meta(description="conditions that are not listed")] = 0
    bytes: Annotated[int | None, Meta(description="of the files of all of them; null if it was not counted")] = None
    after: Annotated[int, Meta(description=_AFTER)] = 0
