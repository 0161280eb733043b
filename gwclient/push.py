"""Sends pieces of strain to the gateway, many at a time, and keeps the account of what was acknowledged."""

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from gwclient.client import GlitchflowClient, StreamOutcome
from gwclient.errors import GatewayRefused, GwclientError
from gwclient.segmenting import Piece
from gwclient.strain import Span
from gwwire.datastore import DatastoreState

#: Refusals that are about one segment: others may still be welcome.
_OF_ONE_SEGMENT = frozenset({400, 413, 422})


class Ending(StrEnum):
    """How a push ended."""

    COMPLETE = "complete"
    REFUSED = "refused"
    FROZEN = "frozen"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Refusal:
    """A segment that the gateway refused for good."""

    span: Span
    reason: str


@dataclass
class Report:
    """The account of a push.

    Attributes:
        ending: COMPLETE only where every piece was acknowledged.
        acknowledged: the spans of the segments that the gateway says it stored, in no order.
        bytes: the size of those segments as JSON.
        refusals: segments refused for good.
        unsent: spans that were not acknowledged for any other reason; the gateway may still have stored
            those that were on their way when the push ended.
        error: what made it end FAILED, or REFUSED before every piece was tried.

    """

    ending: Ending = Ending.COMPLETE
    acknowledged: list[Span] = field(default_factory=list)
    bytes: int = 0
    refusals: list[Refusal] = field(default_factory=list)
    unsent: list[Span] = field(default_factory=list)
    error: GwclientError | None = None


class Listener:
    """Hears how a push goes; this one does nothing with it."""

    def acknowledged(self, piece: Piece) -> None:
        """Hear that a piece is stored."""

    def refused(self, piece: Piece, reason: str) -> None:
        """Hear that a piece was refused for good."""

    def frozen(self, poll: float) -> None:
        """Hear that the datastore is frozen, and is asked again every `poll` s."""

    def thawed(self) -> None:
        """Hear that the datastore is open again."""


async def push(  # noqa: PLR0913 (each has a good default)
    client: GlitchflowClient,
    pieces: Iterable[Piece],
    *,
    concurrency: int = 16,
    wait: bool = False,
    poll: float = 3.0,
    grace: float = 5.0,
    listener: Listener | None = None,
    stop: asyncio.Event | None = None,
) -> Report:
    """Send pieces until all are acknowledged, or it makes no sense to go on.

    Args:
        client: an open client; it decides what is tried again, and how often.
        pieces: what to send. They are pulled one by one, and pulled to the end even if sending ends
            before, to know what was not sent.
        concurrency: how many to have on their way at a time.
        wait: while the datastore is frozen, ask every `poll` s until it is open, and go on.
        poll: s.
        grace: s that what is on its way has to arrive once the push ends before its time.
        listener: hears how it goes.
        stop: set it to end the push.

    Returns:
        The account of it. Errors are told there and not raised, for they must not hide what was acknowledged.

    """
    return await _Push(client, iter(pieces), wait, poll, listener or Listener(), stop or asyncio.Event()).run(
        concurrency, grace
    )


@dataclass
class _Push:
    client: GlitchflowClient
    pieces: Iterator[Piece]
    wait: bool
    poll: float
    listener: Listener
    stop: asyncio.Event
    report: Report = field(default_factory=Report)
    on_their_way: dict[int, Piece] = field(default_factory=dict)
    thaw: asyncio.Task[None] | None = None

    async def run(self, concurrency: int, grace: float) -> Report:
        workers = [asyncio.create_task(self._work()) for _ in range(concurrency)]
        working = asyncio.create_task(asyncio.wait(workers))
        stopping = asyncio.create_task(self.stop.wait())
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({working}, timeout=grace)
        for task in (*workers, stopping, *([self.thaw] if self.thaw else [])):
            task.cancel()
        outcomes = await asyncio.gather(*workers, return_exceptions=True)
        self._close_account()
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        return self.report

    async def _work(self) -> None:
        try:
            while not self.stop.is_set() and (piece := next(self.pieces, None)) is not None:
                self.on_their_way[id(piece)] = piece
                await self._deliver(piece)
        except GwclientError as error:
            self._end(Ending.FAILED, error)

    async def _deliver(self, piece: Piece) -> None:
        body = piece.body()
        while not self.stop.is_set():
            try:
                answer = await self.client.stream(body)
            except GatewayRefused as refusal:
                self._refuse(piece, refusal)
                return
            if answer.resp is StreamOutcome.CREATED:
                self._acknowledge(piece, len(body))
                return
            if not self.wait:
                self._end(Ending.FROZEN)
                return
            await self._until_open()

    def _acknowledge(self, piece: Piece, size: int) -> None:
        del self.on_their_way[id(piece)]
        self.report.acknowledged.append(piece.span)
        self.report.bytes += size
        self.listener.acknowledged(piece)

    def _refuse(self, piece: Piece, refusal: GatewayRefused) -> None:
        del self.on_their_way[id(piece)]
        self.report.refusals.append(Refusal(piece.span, str(refusal)))
        self.listener.refused(piece, str(refusal))
        if refusal.status not in _OF_ONE_SEGMENT:
            self._end(Ending.REFUSED, refusal)

    async def _until_open(self) -> None:
        """Wait with all the others that met the freeze, while one of them asks."""
        if self.thaw is None or self.thaw.done():
            self.thaw = asyncio.create_task(self._ask_until_open())
        await asyncio.shield(self.thaw)

    async def _ask_until_open(self) -> None:
        self.listener.frozen(self.poll)
        while not await self._stopped_within(self.poll):
            state = await self.client.desc()
            if state.resp is DatastoreState.OPERATIONAL:
                self.listener.thawed()
                return

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self.stop.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _end(self, ending: Ending, error: GwclientError | None = None) -> None:
        """End the push; the first reason is the one that is told."""
        if self.report.ending is Ending.COMPLETE:
            self.report.ending, self.report.error = ending, error
        self.stop.set()

    def _close_account(self) -> None:
        if self.stop.is_set() and self.report.ending is Ending.COMPLETE:
            self.report.ending = Ending.INTERRUPTED
        self.report.unsent = [piece.span for piece in self.on_their_way.values()]
        try:
            self.report.unsent += [piece.span for piece in self.pieces]
        except GwclientError as error:
            self._end(Ending.FAILED, error)
        if self.report.refusals and self.report.ending is Ending.COMPLETE:
            self.report.ending = Ending.REFUSED
        if self.report.ending is Ending.INTERRUPTED and not self.report.unsent:
            self.report.ending = Ending.REFUSED if self.report.refusals else Ending.COMPLETE
