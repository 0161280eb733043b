"""Replay: send recorded strain at the detector's pace, through a spool for what the datastore does not accept now."""

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus

from gwclient.client import GlitchflowClient
from gwclient.errors import GatewayRefused, GatewayUnavailable, GwclientError
from gwclient.groups import Sendable
from gwclient.push import Ending, Listener, Report, Wrapping, push
from gwclient.spool import Spool
from gwclient.strain import Span

#: s; how finely the pace is kept.
_TICK_S = 0.05
_FULL = frozenset({HTTPStatus.INSUFFICIENT_STORAGE, HTTPStatus.TOO_MANY_REQUESTS})


@dataclass
class Pace:
    """The progress of a replay.

    Attributes:
        rate: s of strain that are due each second.
        came: GPS seconds up to which strain was due; None before the first.
        acknowledged: GPS seconds up to which strain was acknowledged.
        dropped: what was due while the spool was full.

    """

    rate: float
    came: float | None = None
    acknowledged: float | None = None
    dropped: list[Span] = field(default_factory=list)

    @property
    def lag(self) -> float:
        """How far acknowledgements are behind what was due, in s of strain."""
        if self.came is None or self.acknowledged is None:
            return 0.0
        return max(0.0, self.came - self.acknowledged)


class _Advancing(Wrapping):
    """Removes acknowledged and refused pieces from the spool, and passes the events on."""

    def __init__(self, spool: Spool, pace: Pace, shown: Listener) -> None:
        super().__init__(shown)
        self._spool, self._pace = spool, pace

    def acknowledged(self, piece: Sendable) -> None:
        super().acknowledged(piece)  # the cursor first: what neither has would be sent again
        self._spool.remove(piece)
        self._pace.acknowledged = max(self._pace.acknowledged or 0.0, piece.span.stop)

    def refused(self, piece: Sendable, reason: str) -> None:
        super().refused(piece, reason)
        self._spool.remove(piece)


async def replay(  # noqa: PLR0913 (each has a role of its own)
    client: GlitchflowClient,
    pieces: Iterable[Sendable],
    spool: Spool,
    pace: Pace,
    *,
    concurrency: int,
    poll: float,
    listener: Listener,
    say: Callable[[str], None],
    stop: asyncio.Event,
) -> Report:
    """Send each piece when its last sample is due, after those that wait in the spool.

    A frozen datastore, and a gateway that is away, are waited out while the strain goes on and the spool fills. Where
    it is full, what comes about is dropped, and told.

    Args:
        client: an open client.
        pieces: what to send, in the order of time.
        spool: holds each piece until it is acknowledged.
        pace: the progress, which is updated.
        concurrency: segments in flight.
        poll: s after which a frozen or absent datastore is asked again.
        listener: receives the events of every piece.
        say: is called with each line for people.
        stop: set it to end; what waits stays in the spool.

    Returns:
        The report; `unsent` is what was dropped, and what still waits.

    """
    report = Report()
    done = asyncio.Event()
    advancing = _Advancing(spool, pace, listener)

    async def feed() -> None:
        try:
            await _come_about(pieces, spool, pace, say, stop)
            while len(spool) and not await _either(stop, _TICK_S):
                pass
        finally:
            done.set()

    async def drain() -> None:
        while not done.is_set():
            part = await _push_until(done, client, spool, concurrency, poll, advancing)
            report.acknowledged += part.acknowledged
            report.refusals += part.refusals
            report.bytes += part.bytes
            if done.is_set():
                return
            if not _may_pass(part.error):
                report.ending, report.error = part.ending, part.error
                stop.set()
                return
            say(f"{part.error}; {len(spool)} segments wait in the spool, asking again in {poll:g} s")
            await _either(done, poll)

    feeding = asyncio.create_task(feed())
    await drain()
    await feeding
    report.unsent = pace.dropped + spool.spans
    if report.ending is Ending.COMPLETE:
        if stop.is_set() and report.unsent:
            report.ending = Ending.INTERRUPTED
        elif report.refusals:
            report.ending = Ending.REFUSED
    return report


async def _push_until(  # noqa: PLR0913, PLR0917 (what a push needs)
    done: asyncio.Event, client: GlitchflowClient, spool: Spool, concurrency: int, poll: float, listener: Listener
) -> Report:
    """Push what waits, until done or something fails; a push that fails sets its own end, not ours."""
    ending = asyncio.Event()

    async def forward() -> None:
        await done.wait()
        ending.set()

    forwarding = asyncio.create_task(forward())
    try:
        return await push(
            client, spool.pending(), concurrency=concurrency, wait=True, poll=poll, listener=listener, stop=ending,
            live=True,
        )  # fmt: skip
    finally:
        forwarding.cancel()


def _may_pass(error: GwclientError | None) -> bool:
    """Return whether an error may pass: the gateway is away, or the volume or the day's quota is full."""
    full = isinstance(error, GatewayRefused) and error.status in _FULL
    return full or isinstance(error, GatewayUnavailable)


async def _come_about(
    pieces: Iterable[Sendable], spool: Spool, pace: Pace, say: Callable[[str], None], stop: asyncio.Event
) -> None:
    """Store each piece in the spool when its last sample is due."""
    began = time.monotonic()
    gps = None
    for piece in pieces:
        gps = piece.span.start if gps is None else gps
        due = began + (piece.span.stop - gps) / pace.rate
        while (early := due - time.monotonic()) > 0:
            pace.came = piece.span.stop - early * pace.rate
            if await _either(stop, min(early, _TICK_S)):
                return
        if stop.is_set():
            return
        pace.came = max(pace.came or 0.0, piece.span.stop)
        if not spool.put(piece):
            if not pace.dropped:
                say(f"the spool is full with {spool.size} bytes; what comes now is dropped until there is room")
            pace.dropped.append(piece.span)
        await asyncio.sleep(0)


async def _either(stop: asyncio.Event, seconds: float) -> bool:
    """Wait until `stop` is set, for so many s at most; return whether it is set."""
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return False
    return True
