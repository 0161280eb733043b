"""Shorten answers whose lists have no pages, so that an answer has few things."""

from typing import Any

import msgspec
from msgspec import structs

from gwwire.bundles import Bundle, ChannelGaps
from gwwire.facets import Facets
from gwwire.public import ChannelCoverage
from gwwire.spans import close_gaps


def shortened_facets(found: Facets, first: int) -> Facets:
    """Return facets with at most `first` values, of which each facet has the same share and at least one."""
    most = max(first // max(len(found.facets), 1), 1)
    facets = [
        structs.replace(each, values=each.values[:most], more=each.more + len(each.values[most:]))
        for each in found.facets
    ]
    return structs.replace(found, facets=facets)


def shortened_bundle(bundle: Bundle, first: int) -> dict[str, Any]:
    """Return the fields of a bundle with at most `first` spans and gaps of each channel."""
    return structs.asdict(bundle) | {
        "covered": [_covered(each, first) for each in bundle.covered],
        "gaps": [_gaps(each, first) for each in bundle.gaps],
        "query": msgspec.to_builtins(bundle.query),
    }


def _covered(covered: ChannelCoverage, first: int) -> ChannelCoverage:
    spans, closed = close_gaps(covered.spans, first)
    return structs.replace(covered, spans=spans, closed_gaps=max(closed, covered.closed_gaps))


def _gaps(gaps: ChannelGaps, first: int) -> dict[str, Any]:
    spans = [{"start": start, "stop": stop} for start, stop in gaps.spans[:first]]
    return {"channel": gaps.channel, "dt": gaps.dt, "spans": spans, "more": len(gaps.spans) - len(spans)}
