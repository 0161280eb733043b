"""Replay: send recorded strain at the detector's pace, through a spool for what the datastore does not accept now."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus

from gwclient.amounts import bytes_text, count_text
from gwclient.client import GlitchflowClient
from gwclient.errors import GatewayRefused, GatewayUnavailable, GwclientError, NotAsExpected, SpoolError
from gwclient.groups import Sendable
from gwclient.push import Ending, Listener, Report, is_set_within, push
from gwclient.spool import Spool
from gwfiles.stretches import Span

#: s; how finely the pace is kept.
_TICK_S = 0.05
_FULL = frozenset({HTTPStatus.INSUFFICIENT_STORAGE, HTTPStatus.TOO_MANY_REQUESTS})


@dataclass
class Pace:
    """The progress of a replay, in which `rate` s of strain are due each second."""

    rate: float
    came: float | None = None  # GPS seconds up to which strain was due
    acknowledged: float | None = None  # GPS seconds up to which strain was acknowledged
    dropped: list[Span] = field(default_factory=list)  # what was due while the spool was full

    @property
    def lag(self) -> float:
        """Return the delay of the acknowledgements, in s of strain."""
        if self.came is None or self.acknowledged is None:
            return 0.0
        return max(0.0, self.came - self.acknowledged)


class _Advancing(Listener):
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
    salt: str = "",
    check: Callable[[], Awaitable[str]] = lambda: asyncio.sleep(0, ""),
) -> Report:
    """Send each piece when its last sample is due, after those that wait in the spool.

    The spool holds each piece until it is acknowledged. While the datastore is frozen or does not answer, which is
    asked again every `poll` s, the strain goes on and the spool fills; pieces that are due while it is full are
    dropped. If `stop` is set, the pieces that wait stay in the spool. `pace` is updated; `say` is called with each
    line for people; `salt` is that of `push`. `check` is called when the datastore answers again; what it returns is
    why the replay cannot go on. The report's `unsent` are the pieces that were dropped, and those that still wait.
    """
    report = Report()
    ending = asyncio.Event()

    async def feed() -> None:
        await _come_about(pieces, spool, pace, say, stop)
        while len(spool) and not await is_set_within(stop, _TICK_S):
            pass

    feeding = asyncio.create_task(feed())
    feeding.add_done_callback(lambda _: ending.set())
    while not feeding.done():
        ending = asyncio.Event()  # each push has its own, which it sets if it fails
        part = await push(
            client, spool.pending(), concurrency=concurrency, wait=True, poll=poll,
            listener=_Advancing(spool, pace, listener), stop=ending, salt=salt,
        )  # fmt: skip
        report.acknowledged += part.acknowledged
        report.segments += part.segments
        report.refusals += part.refusals
        report.bytes += part.bytes
        if feeding.done():
            break
        if isinstance(part.error, SpoolError):  # the file was set aside: the others can be sent
            say(str(part.error))
            continue
        if not _may_pass(part.error):
            report.ending, report.error = part.ending, part.error
            stop.set()
            break
        say(f"{part.error}; {count_text(len(spool), 'segment')} wait in the spool, asking again in {poll:g} s")
        if news := await _when_it_answers(check, feeding, poll):
            report.note_failure(NotAsExpected(f"{news}; repeat the command, which sends everything to it"))
            stop.set()
            break
    await feeding
    report.unsent = pace.dropped + spool.spans
    if report.ending is Ending.COMPLETE:
        report.ending = _ending(report, stopped=stop.is_set())
    return report


def _ending(report: Report, *, stopped: bool) -> Ending:
    if stopped and report.unsent:
        return Ending.INTERRUPTED
    return Ending.REFUSED if report.refusals else Ending.COMPLETE


def _may_pass(error: GwclientError | None) -> bool:
    full = isinstance(error, GatewayRefused) and error.status in _FULL
    return full or isinstance(error, GatewayUnavailable)


async def _when_it_answers(check: Callable[[], Awaitable[str]], feeding: asyncio.Task[None], poll: float) -> str:
    while True:
        await asyncio.wait({feeding}, timeout=poll)
        if feeding.done():
            return ""
        with suppress(GatewayUnavailable):
            return await check()


async def _come_about(
    pieces: Iterable[Sendable], spool: Spool, pace: Pace, say: Callable[[str], None], stop: asyncio.Event
) -> None:
    began = time.monotonic()
    gps = None
    for piece in pieces:
        gps = piece.span.start if gps is None else gps
        due = began + (piece.span.stop - gps) / pace.rate
        while (early := due - time.monotonic()) > 0:
            pace.came = piece.span.stop - early * pace.rate
            if await is_set_within(stop, min(early, _TICK_S)):
                return
        if stop.is_set():
            return
        pace.came = max(pace.came or 0.0, piece.span.stop)
        if not spool.put(piece):
            if not pace.dropped:
                say(f"the spool is full with {bytes_text(spool.size)}; new segments are dropped until there is space")
            pace.dropped.append(piece.span)
        await asyncio.sleep(0)
