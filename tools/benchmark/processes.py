"""CPU time and memory of a process and its descendants, read from /proc."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TICK = 1 / os.sysconf("SC_CLK_TCK")
#: Fields of /proc/PID/stat after the command's name: the parent; user and system time, its own and ended children's.
_PARENT, _TIMES = 1, slice(11, 15)
_SHARED = ("Shared_Clean", "Shared_Dirty")


@dataclass(frozen=True)
class Usage:
    """The sum over a tree of processes; memory shared with others is counted for the root only.

    Attributes:
        cpu_seconds: user and system time since they began.
        resident: bytes in memory now.
        peak: the largest number of bytes each has had in memory.

    """

    cpu_seconds: float
    resident: int
    peak: int


def usage(root: int) -> Usage:
    """Measure the process `root` and its descendants.

    Raises:
        ProcessLookupError: there is no such process.

    """
    stats = dict(_all_stats())
    if root not in stats:
        raise ProcessLookupError(f"there is no process {root} to measure")
    tree = list(_tree(root, {pid: int(fields[_PARENT]) for pid, fields in stats.items()}))
    memory = [_memory(pid, own=pid != root) for pid in tree]
    return Usage(
        cpu_seconds=sum(int(ticks) for pid in tree for ticks in stats[pid][_TIMES]) * _TICK,
        resident=sum(resident for resident, _ in memory),
        peak=sum(peak for _, peak in memory),
    )


def _all_stats() -> Iterator[tuple[int, list[str]]]:
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # it ended meanwhile
                yield int(entry.name), (entry / "stat").read_text().rpartition(")")[2].split()


def _tree(root: int, parents: dict[int, int]) -> Iterator[int]:
    yield root
    for pid, parent in parents.items():
        if parent == root:
            yield from _tree(pid, parents)


def _memory(pid: int, *, own: bool) -> tuple[int, int]:
    with suppress(OSError):  # it ended meanwhile
        sizes = _sizes(_PROC / str(pid) / "status")
        shared = sum(_sizes(_PROC / str(pid) / "smaps_rollup")[name] for name in _SHARED) if own else 0
        return sizes["VmRSS"] - shared, sizes["VmHWM"] - shared
    return 0, 0


def _sizes(path: Path) -> dict[str, int]:
    lines = (line.split() for line in path.read_text().splitlines() if line.endswith(" kB"))
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines}
