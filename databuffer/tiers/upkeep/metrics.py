"""The gauges of the tiers, from what the overview and the last census know."""

from collections.abc import Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric

from databuffer.tiers.upkeep.census import Held, TierCensus
from gwservice.metrics import gauge, labelled
from gwwire.overview import Overview
from gwwire.tiering import DISK, ReplicaState

_SECOND = 10**9


def tier_gauges(
    overview: Overview, census: Mapping[str, TierCensus], scrub_every: float | None, full_since: float | None = None
) -> Iterator[Metric]:
    """Yield the gauges of the tiers of an overview; none if there are no tiers besides the disk.

    `full_since` is since when a recall waits for space in the cache of the tape.
    """
    tiers = [tier for tier in overview.tiers if tier.name != DISK and tier.in_tiers]
    if not tiers:
        return
    meaning = "1 while the tier answers, and its last move did not fail because of it."
    yield labelled("glitchflow_tier_up", meaning, "tier", [(tier.name, tier.error is None) for tier in tiers])
    used = [(tier.name, tier.used) for tier in tiers if tier.used is not None]
    yield labelled("glitchflow_tier_used_bytes", "Bytes that the tier holds, if it can say.", "tier", used)
    sizes = [(tier.name, tier.total) for tier in tiers if tier.total is not None]
    yield labelled("glitchflow_tier_size_bytes", "Bytes that the tier can hold, if it can say.", "tier", sizes)
    yield from _replica_gauges(census)
    missing = [(name, each.missing) for name, each in census.items()]
    meaning = "Copies that policies want in the tier and that are not verified."
    yield labelled("glitchflow_tier_missing_replicas", meaning, "tier", missing)
    meaning = "Time since the oldest batch with a missing copy was archived; 0 if none is missing."
    ages = [(name, _age(overview, each.oldest)) for name, each in census.items()]
    yield labelled("glitchflow_tier_oldest_missing_seconds", meaning, "tier", ages)
    meaning = "Time since the comparison of a verified replica that is longest ago; 0 if there is none."
    ages = [(name, _age(overview, each.verified)) for name, each in census.items()]
    yield labelled("glitchflow_tier_oldest_verified_seconds", meaning, "tier", ages)
    meaning = "Time since a recall has waited for space in the cache of the tape; 0 if none does."
    waited = max(0.0, overview.time - full_since) if full_since else 0.0
    yield gauge("glitchflow_recall_space_wait_seconds", meaning, waited)
    if scrub_every is not None:
        meaning = "Time after which each replica is compared again (SCRUB_EVERY)."
        yield gauge("glitchflow_scrub_interval_seconds", meaning, scrub_every)


def _replica_gauges(census: Mapping[str, TierCensus]) -> Iterator[Metric]:
    """Yield the replicas and their bytes, by tier and state: zeros too, so that every series ends."""
    numbers = GaugeMetricFamily("glitchflow_replicas", "Replicas by tier and state.", labels=("tier", "state"))
    sizes = GaugeMetricFamily("glitchflow_replica_bytes", "Bytes of the replicas' packs.", labels=("tier", "state"))
    for name, each in census.items():
        for state in ReplicaState:
            held = each.held.get(state, Held())
            numbers.add_metric((name, state.value), held.replicas)
            sizes.add_metric((name, state.value), held.bytes)
    yield numbers
    yield sizes


def _age(overview: Overview, at: int | None) -> float:
    return max(0.0, overview.time - at / _SECOND) if at is not None else 0.0
