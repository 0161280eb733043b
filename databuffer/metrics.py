"""The metrics of the buffer: events are counted where they happen, gauges are computed from the overview."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric

from gwservice.metrics import gauge, labelled
from gwwire.gps import gps_of_unix
from gwwire.overview import Overview
from gwwire.problems import ProblemError
from gwwire.public import DatastoreState, VerificationState
from gwwire.records import StepOverview, is_own

#: Channels with a lag: those that received a segment last. Senders choose the names, so their number is bounded.
_CHANNELS = 64
#: Groups with a gauge of their bundles.
_GROUPS = 64

_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)

_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

GROUP_SEGMENTS = Histogram("glitchflow_commit_group_segments", "Segments committed in one group.", buckets=_SIZES)
GROUP_SECONDS = Histogram(
    "glitchflow_commit_duration_seconds", "Time to sync, name, catalogue and count a group.", buckets=_SECONDS
)
_FSYNC = Histogram(
    "glitchflow_fsync_duration_seconds", "Time to sync a segment's file or a folder.", ("what",), buckets=_SECONDS
)
FSYNC_SEGMENT, FSYNC_FOLDER = _FSYNC.labels("segment"), _FSYNC.labels("folder")
STORED = Counter("glitchflow_stored_segments", "Segments that were stored, each answered CREATED.")
STORED_BYTES = Counter("glitchflow_stored_bytes", "Bytes of the files of stored segments.")
REFUSED = Counter("glitchflow_refused_segments", "Segments that were not stored, by the problem's code.", ("code",))
VERIFIED = Counter("glitchflow_verified_batches", "Batches compared with their manifests, by the outcome.", ("state",))
#: The outcome for a batch whose folder does not exist.
MISSING = "missing"
#: All exist from the start: Prometheus sees no increase in a series that appears.
for _state in (VerificationState.INTACT, VerificationState.DAMAGED, MISSING):
    VERIFIED.labels(_state)
LOST_REPLICAS = Counter(
    "glitchflow_lost_replicas", "Replicas that were written, and then missing or altered.", ("tier",)
)
#: The directions in which a move transfers the bytes of a pack.
WRITTEN, READ = "written", "read"
MOVED_BYTES = Counter(
    "glitchflow_tier_moved_bytes", "Bytes of packs that moves wrote to a tier and read from it.", ("tier", "direction")
)
TIER_FAILURES = Counter("glitchflow_tier_failures", "Moves that failed because of the tier.", ("tier",))
RECOVERIES = Counter("glitchflow_recoveries", "Recoveries of the volume: at a start, and after a failed step.")
REPAIRS = Counter("glitchflow_recovery_repairs", "Differences that recoveries repaired.")

_STEP_ATTEMPTS = Counter("glitchflow_step_attempts", "Records that were claimed for a step.", ("name",))
_STEP_FAILURES = Counter("glitchflow_step_failures", "Attempts that failed, or whose lease ended.", ("name",))
#: Steps that have metrics. Workers choose the names, so their number is bounded.
_MOST_STEPS = 64
_counted_steps: set[str] = set()


def count_attempts(step: str, number: int) -> None:
    """Count records that were claimed for a step."""
    _STEP_ATTEMPTS.labels(_step_label(step)).inc(number)


def count_failure(step: str) -> None:
    """Count a failed attempt."""
    _STEP_FAILURES.labels(_step_label(step)).inc()


def forget_step(step: str) -> None:
    """Remove the counters of a step that was removed."""
    if step in _counted_steps:
        _counted_steps.remove(step)
        for counter in (_STEP_ATTEMPTS, _STEP_FAILURES):
            counter.remove_by_labels({"name": step})


def begin_tier(tier: str) -> None:
    """Begin the series of a tier: Prometheus sees no increase in one that appears."""
    for direction in (WRITTEN, READ):
        MOVED_BYTES.labels(tier, direction)
    TIER_FAILURES.labels(tier)
    LOST_REPLICAS.labels(tier)


def count_group(errors: Sequence[Exception | None], seconds: float) -> None:
    """Count a group by the errors of its segments, None for each that was stored."""
    GROUP_SEGMENTS.observe(len(errors))
    GROUP_SECONDS.observe(seconds)
    for error in errors:
        if isinstance(error, ProblemError):
            REFUSED.labels(error.code).inc()


def gauges(overview: Overview) -> Iterator[Metric]:
    """Yield the gauges of an overview."""
    frozen = overview.state is DatastoreState.FROZEN
    yield gauge("glitchflow_ready", "1 while segments can be stored, as /readyz says.", overview.ready)
    states = [(state.value, float(state is overview.state)) for state in DatastoreState]
    yield labelled("glitchflow_state", "1 for the current state of the datastore.", "state", states)
    seconds = overview.time - overview.since if frozen else 0
    yield gauge("glitchflow_frozen_seconds", "Seconds since the batch was frozen; 0 while it is open.", seconds)
    batches = [("hand", overview.n_itm, overview.buff_size)]
    if overview.next:
        batches.append(("next", overview.next.n_itm, overview.next.buff_size))
    segments, sizes = [(which, n) for which, n, _ in batches], [(which, size) for which, _, size in batches]
    yield labelled("glitchflow_batch_segments", "Segments of the current and the next batch.", "batch", segments)
    yield labelled("glitchflow_batch_bytes", "Bytes of the current and the next batch.", "batch", sizes)
    yield gauge("glitchflow_queue_segments", "Segments that wait to be stored.", overview.queue)
    yield gauge(
        "glitchflow_queue_limit_segments",
        "Maximum number of segments that wait to be stored (WCHSZ).",
        overview.queue_size,
    )
    yield gauge("glitchflow_archived_batches", "Archived batches on the volume.", overview.archived)
    yield gauge("glitchflow_quarantined_files", "Files that recovery moved to quarantine.", overview.quarantined)
    meaning = "Segments of an earlier version whose meta cannot be searched yet."
    yield gauge("glitchflow_unread_meta_segments", meaning, overview.unread_meta)
    if overview.free is not None and overview.size is not None:
        yield gauge("glitchflow_volume_free_bytes", "Free bytes on the data volume.", overview.free)
        yield gauge("glitchflow_volume_size_bytes", "Bytes of the data volume.", overview.size)
    if overview.free_inodes is not None and overview.total_inodes is not None:
        yield gauge("glitchflow_volume_free_inodes", "Files that can still be created.", overview.free_inodes)
        yield gauge("glitchflow_volume_inodes", "Files that the data volume can hold.", overview.total_inodes)
    gps = gps_of_unix(overview.time)
    newest = sorted(overview.channels, key=lambda channel: channel.latest)[-_CHANNELS:]
    lags = [(channel.channel or "", gps - channel.stop) for channel in newest]
    meaning = "Age of a channel's newest sample, for the 64 channels that received a segment last."
    yield labelled("glitchflow_channel_lag_seconds", meaning, "channel", lags)


def step_gauges(steps: Iterable[StepOverview], now: float) -> Iterator[Metric]:
    """Yield the gauges of the steps, those of the datastore's own first."""
    known = sorted(steps, key=lambda step: (not is_own(step.name), step.name))[:_MOST_STEPS]
    meaning = "Records by step and state; waiting includes those that are tried again later."
    records = GaugeMetricFamily("glitchflow_steps", meaning, labels=("name", "state"))
    for step in known:
        for state in ("waiting", "running", "failed", "done"):
            records.add_metric((step.name, state), getattr(step, state))
        count_attempts(step.name, 0)  # the series exists before the first attempt
    yield records
    ages = [(step.name, max(0.0, now - step.oldest) if step.oldest else 0.0) for step in known]
    meaning = "Time since which a record has waited longest for a step, also between attempts; 0 if none waits."
    yield labelled("glitchflow_step_oldest_waiting_seconds", meaning, "name", ages)


def bundle_gauges(held: Mapping[str, int], limit: int) -> Iterator[Metric]:
    """Yield the gauges of the bytes that bundles hold, by group, and of the quota of each."""
    largest = sorted({"": 0, **held}.items(), key=lambda item: -item[1])[:_GROUPS]
    meaning = "Bytes of the built files of bundles by group, of the 64 groups with the most; empty: without a group."
    yield labelled("glitchflow_bundle_bytes", meaning, "group", [(group, float(size)) for group, size in largest])
    yield gauge("glitchflow_bundle_quota_bytes", "BUNDLE_QUOTA, or 0 if it is unlimited.", limit)


def _step_label(step: str) -> str:
    if step not in _counted_steps and len(_counted_steps) >= _MOST_STEPS and not is_own(step):
        return "other"
    _counted_steps.add(step)
    return step
