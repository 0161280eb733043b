"""Start-up: make the volume and what is told about it agree.

The data folder is the truth; counts and log are made to follow it. Nothing that was stored is thrown away: what
cannot be trusted is set aside in `quarantine/` with the reason.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from databuffer.metadata import LogEntry, LogStream, Metadata, stored_entry
from databuffer.volume import Volume, volume_errors
from gwwire.datastore import BufferStats, DatastoreState, Description
from gwwire.problems import ProblemError
from gwwire.segment import decode_segment

OPERATIONAL = Description(DatastoreState.OPERATIONAL)


@dataclass(frozen=True)
class Recovered:
    """The batch in hand as the volume has it, and a line for each thing that had to be put right."""

    names: list[str]
    stats: BufferStats
    description: Description
    repairs: list[str] = field(default_factory=list)


def recover(volume: Volume, metadata: Metadata, log: LogStream) -> Recovered:
    """Make volume, counts, state and log agree.

    Raises:
        VolumeError: the volume did not let it.

    """
    repairs: list[str] = []
    metadata.make_folders()
    log.make_folders()
    if not volume.data.exists():
        repairs += _tell_interrupted_archiving(metadata)
        begin_batch(volume, metadata, log)
    volume.make_folders()
    repairs += _set_aside_leftovers(volume, log)
    repairs += _match_log(volume, log)
    sizes = volume.sizes()
    stats = BufferStats(len(sizes), sum(sizes.values()))
    repairs += _match_stats(metadata, stats)
    description = metadata.read_description()
    if description is None:
        description = OPERATIONAL
        metadata.write_description(description)
        repairs.append("the state could not be read; it is OPERATIONAL now")
    return Recovered(list(sizes), stats, description, repairs)


def begin_batch(volume: Volume, metadata: Metadata, log: LogStream) -> None:
    """Begin an empty batch.

    The data folder is made last: its absence is what tells a start-up that archiving was interrupted here.
    """
    log.replace(())
    metadata.write_stats(BufferStats(0, 0))
    metadata.write_description(OPERATIONAL)
    volume.make_folders()


def _tell_interrupted_archiving(metadata: Metadata) -> Iterable[str]:
    stats = metadata.read_stats()
    if stats is not None and stats.n_itm:
        yield f"the batch of {stats.n_itm} segments is not in hand any more: finished archiving it"


def _set_aside_leftovers(volume: Volume, log: LogStream) -> Iterable[str]:
    with volume_errors():
        leftovers = sorted(volume.incoming.iterdir())
    for path in leftovers:
        volume.set_aside(path, "was being written when the buffer stopped; never acknowledged")
        yield f"set {path.name} aside, which was being written when the buffer stopped"
    copied_log = volume.data / log.name
    if copied_log.exists():
        volume.discard(copied_log)
        yield "archiving had stopped before it moved anything; the batch is still in hand"


def _match_log(volume: Volume, log: LogStream) -> Iterable[str]:
    """Give each file its line; a file without one was stored right before a crash and is looked into first."""
    entries = {entry.name: entry for entry in log.entries()}
    sizes = volume.sizes()
    matching = {name: entry for name, entry in entries.items() if name in sizes}
    for name in sizes.keys() - entries.keys():
        reason = _distrust(volume, name)
        if reason is None:
            matching[name] = stored_entry(name, sizes[name], volume.number(name) or 0)
            yield f"{name} was not in the log; it is now"
        else:
            volume.set_aside(volume.data / name, reason)
            yield f"set {name} aside: {reason}"
    for name in sorted(entries.keys() - sizes.keys()):
        yield f"{name} was in the log, but is not in the batch"
    if log.content().count(b"\n") != len(matching) or entries.keys() != matching.keys():
        log.replace(_in_order(volume, matching))


def _in_order(volume: Volume, entries: dict[str, LogEntry]) -> list[LogEntry]:
    return [entries[name] for name in sorted(entries, key=lambda name: volume.number(name) or 0)]


def _distrust(volume: Volume, name: str) -> str | None:
    with volume_errors():
        content = (volume.data / name).read_bytes()
    try:
        decode_segment(content)
    except ProblemError as problem:
        return problem.detail
    return None


def _match_stats(metadata: Metadata, stats: BufferStats) -> Iterable[str]:
    told = metadata.read_stats()
    if told == stats:
        return
    metadata.write_stats(stats)
    if told is None:
        yield f"the counts could not be read; there are {stats.n_itm} segments, {stats.buff_size} bytes"
    else:
        yield (
            f"the counts said {told.n_itm} segments, {told.buff_size} bytes; "
            f"there are {stats.n_itm} segments, {stats.buff_size} bytes"
        )
