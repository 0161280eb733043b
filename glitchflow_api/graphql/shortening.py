"""Shorten answers whose lists have no pages, so that an answer has few things."""

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import structs

from glitchflow_api.graphql.limits import MOST_THINGS, QueryTooLarge
from gwwire.bundles import Bundle
from gwwire.facets import Facets
from gwwire.public import ChannelCoverage, ChannelGaps
from gwwire.spans import close_gaps

T = TypeVar("T")


def shortened_facets(found: Facets, first: int) -> Facets:
    """Return facets with at most `first` values, of which each facet has the same share and at least one."""
    most = _share(first, found.facets)
    facets = [
        structs.replace(each, values=each.values[:most], more=each.more + len(each.values[most:]))
        for each in found.facets
    ]
    return structs.replace(found, facets=facets)


def few_channels(channels: Sequence[T]) -> Sequence[T]:
    """Return channels, or raise QueryTooLarge for more than an answer may list."""
    if len(channels) > MOST_THINGS:
        text = f"it has {len(channels)} channels and sample spacings; the limit is {MOST_THINGS}: select fewer"
        raise QueryTooLarge(f"{text}, or use the other routes")
    return channels


def shortened_coverage(channels: Sequence[ChannelCoverage], first: int) -> list[ChannelCoverage]:
    """Return the coverage of channels with at most `first` spans, of which each has the same share and at least one."""
    most = _share(first, channels)
    return [_covered(each, most) for each in channels]


def shortened_bundle(bundle: Bundle, first: int) -> dict[str, Any]:
    """Return the fields of a bundle with at most `first` spans and gaps, shared by the channels as by facets."""
    most = _share(first, bundle.gaps)
    return structs.asdict(bundle) | {
        "covered": shortened_coverage(bundle.covered, first),
        "gaps": [_gaps(each, most) for each in bundle.gaps],
        "query": msgspec.to_builtins(bundle.query),
    }


def _share(first: int, things: Sequence[Any]) -> int:
    return max(first // max(len(things), 1), 1)


def _covered(covered: ChannelCoverage, first: int) -> ChannelCoverage:
    spans, closed = close_gaps(covered.spans, first)
    return structs.replace(covered, spans=spans, closed_gaps=max(closed, covered.closed_gaps))


def _gaps(gaps: ChannelGaps, first: int) -> dict[str, Any]:
    spans = [{"start": start, "stop": stop} for start, stop in gaps.spans[:first]]
    return {"channel": gaps.channel, "dt": gaps.dt, "spans": spans, "more": len(gaps.spans) - len(spans)}
