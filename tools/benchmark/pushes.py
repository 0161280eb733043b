"""The speed of pushes while packs are copied to a tier, beside that without copies."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from tools.benchmark.archive import Archiver, Batch
from tools.benchmark.load import Order, run_load
from tools.benchmark.servers import Server, ServerFailed, clean

_SAMPLES, _CONNECTIONS, _MAX_SEGMENTS = 4096, 16, 50_000


@dataclass
class Pushes:
    """Segments/s to a server in turns, and MB/s of the copies during those that were `busy`."""

    server: str
    idle: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    copied: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """The median of the ratios of pushes that followed each other."""
        return median(busy / idle for idle, busy in zip(self.idle, self.busy, strict=True))

    def line(self) -> str:
        """Return the row of a table."""
        idle, busy, copied = (median(each) for each in (self.idle, self.busy, self.copied))
        return f"| {self.server} | {idle:,.0f} | {busy:,.0f} | {self.ratio:.2f} | {copied:,.0f} |"

    def measure(self, server: Server, seconds: float, archiver: Archiver, batches: Sequence[Batch], tier: str) -> None:
        """Push without copies, and while batches are copied to a tier, in turns; wait until they are copied.

        Raise ServerFailed if they were copied before the push ended.
        """
        steps = [(self.idle, ()), (self.busy, batches)]
        for into, copied in steps if len(self.busy) % 2 == 0 else reversed(steps):
            into.append(self._push(server, seconds, archiver, copied, tier))

    def _push(self, server: Server, seconds: float, archiver: Archiver, batches: Sequence[Batch], tier: str) -> float:
        if batches:
            archiver.keep(batches, tier)
            archiver.wait_until_moved(tier)
        before = archiver.moved(tier), time.monotonic()
        rate = _push(server, seconds)
        if batches:
            moved, took = archiver.moved(tier) - before[0], time.monotonic() - before[1]
            self.copied.append(moved / 2 / took / 1e6)  # each byte is written and read back
            if all(archiver.is_done(batch, f"copy:{tier}") for batch in batches):
                raise ServerFailed(f"{len(batches)} packs were copied in less than {seconds:g} s: give a larger --size")
            archiver.wait_for(batches, f"copy:{tier}")
        clean(server)
        return rate


def _push(server: Server, seconds: float) -> float:
    order = Order(server.url + server.push, "single", _SAMPLES, _CONNECTIONS, seconds, _MAX_SEGMENTS)
    load = run_load(order)
    if load.refused:
        raise ServerFailed(f"{load.refused} segments were not stored: {load.complaint}")
    return load.rate
