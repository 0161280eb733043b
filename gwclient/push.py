"""Push: send pieces of strain to the gateway, many at a time, and report what was acknowledged."""

import asyncio
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeGuard

from gwclient.answers import LineAnswer
from gwclient.client import GlitchflowClient
from gwclient.errors import GatewayRefused, GwclientError, NotAsExpected
from gwclient.groups import MOST_IN_GROUP, Grouper, Parcel, Sendable
from gwclient.strain import join_spans
from gwfiles.stretches import LeftOut, Span
from gwwire.public import DatastoreState, StreamAnswer

#: s between two reads of a live source that has nothing.
_PAUSE_S = 0.02
#: s to read what a live source has when the push has ended.
_REST_S = 1.0
#: Segments after which a report joins its spans.
_JOIN_AFTER = 100_000
#: Statuses that concern one segment; others may still be accepted.
_OF_ONE_SEGMENT = frozenset({400, 413, 422})
#: The words that acknowledge a segment, with its name.
_RECEIPT = re.compile(r"Written (\S+) for \d+ bytes")


class Ending(StrEnum):
    """The outcome of a push."""

    COMPLETE = "complete"
    PARTLY = "partly"  # all of the source that could be read was acknowledged
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
    """The report of a push."""

    ending: Ending = Ending.COMPLETE  # only where every piece was acknowledged
    acknowledged: list[Span] = field(default_factory=list)  # spans that the gateway stored; of very many, some joined
    segments: int = 0  # the number of segments that it stored
    bytes: int = 0  # the size of those segments as JSON
    refusals: list[Refusal] = field(default_factory=list)  # segments refused for good
    #: Spans not acknowledged for any other reason; those in flight at the end may still have been stored.
    unsent: list[Span] = field(default_factory=list)
    before: list[Span] = field(default_factory=list)  # acknowledged in an earlier push, and not sent again
    archived: int = 0  # the number of segments, of all these, that are in an archived batch only
    unread: list[str] = field(default_factory=list)  # what of the source could not be read, and why
    left_out: list[LeftOut] = field(default_factory=list)  # spans that are not to be sent, and why
    error: GwclientError | None = None  # why it ended FAILED, or REFUSED before every piece was attempted

    def note_acknowledged(self, span: Span, size: int) -> None:
        """Add a segment of `size` bytes as JSON."""
        self.segments += 1
        self.bytes += size
        self.acknowledged.append(span)
        if self.segments % _JOIN_AFTER == 0:  # a live source has no end
            joined = join_spans(self.acknowledged)
            self.acknowledged = [Span(channel, *pair) for channel, pairs in joined.items() for pair in pairs]

    def note_failure(self, error: GwclientError) -> None:
        """Add an error after the push, unless there is one."""
        if self.error is None:
            self.ending, self.error = Ending.FAILED, error

    def note_unread(self, lines: Iterable[str]) -> None:
        """Add what of the source could not be read; a push that was COMPLETE is then PARTLY done."""
        self.unread.extend(lines)
        if self.unread and self.ending is Ending.COMPLETE:
            self.ending = Ending.PARTLY


class PushFailed(NotAsExpected):
    """Not everything was acknowledged; `report` says what was."""

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


class Listener:
    """Receives the events of a push, and passes them on to another listener if there is one."""

    def __init__(self, other: "Listener | None" = None) -> None:
        self._other = other

    def stored(self, name: str, body: bytes) -> None:
        """Handle the name under which the datastore has a segment with these bytes, before `acknowledged`."""
        if self._other:
            self._other.stored(name, body)

    def acknowledged(self, piece: Sendable) -> None:
        """Handle a piece that was stored."""
        if self._other:
            self._other.acknowledged(piece)

    def refused(self, piece: Sendable, reason: str) -> None:
        """Handle a piece that was refused for good."""
        if self._other:
            self._other.refused(piece, reason)

    def frozen(self, poll: float) -> None:
        """Handle a frozen datastore, whose state is asked every `poll` s."""
        if self._other:
            self._other.frozen(poll)

    def thawed(self) -> None:
        """Handle a datastore that is open again."""
        if self._other:
            self._other.thawed()


async def push(  # noqa: PLR0913 (each has a good default)
    client: GlitchflowClient,
    pieces: Iterable[Sendable | None],
    *,
    concurrency: int = 16,
    wait: bool = False,
    poll: float = 3.0,
    grace: float = 5.0,
    listener: Listener | None = None,
    stop: asyncio.Event | None = None,
    is_done: Callable[[Span], bool] = lambda _: False,
    salt: str = "",
    live: bool = False,
) -> Report:
    """Send pieces until all are acknowledged, or the push has to end.

    Segments are sent in groups if the gateway accepts many in one request, else one by one. Either way the key of each
    follows from its bytes, so that the gateway stores it once however often it is sent.

    Args:
        client: an open client; it decides about retries.
        pieces: what to send; they are pulled one by one, and to the end even if sending ends before. A live source
            yields its pieces as they arrive, and None while it has none.
        concurrency: segments in flight, in however many requests.
        wait: while the datastore is frozen, ask every `poll` s until it is open, and go on.
        poll: s.
        grace: s that segments in flight have to arrive after the push was ended.
        listener: receives the events.
        stop: set it to end the push.
        is_done: whether a span was acknowledged before; it is not sent again.
        salt: another salt stores the same strain again.
        live: whether `pieces` may have no end; they are then pulled for 1 s at most after sending ended.

    Returns:
        The report. It contains errors, which are not raised: they must not hide what was acknowledged.

    """
    grouper = Grouper(pieces, is_done=is_done, salt=salt)
    rest = _REST_S if live else math.inf
    sending = _Push(client, grouper, wait, poll, listener or Listener(), stop or asyncio.Event(), rest)
    return await sending.run(concurrency, grace)


@dataclass
class _Push:
    client: GlitchflowClient
    grouper: Grouper
    wait: bool
    poll: float
    listener: Listener
    stop: asyncio.Event
    rest: float  # s in which what was not sent is read when sending has ended
    report: Report = field(default_factory=Report)
    on_their_way: set[Parcel] = field(default_factory=set)
    thaw: asyncio.Task[None] | None = None

    async def run(self, concurrency: int, grace: float) -> Report:
        sending = asyncio.create_task(self._send(concurrency))
        stopping = asyncio.create_task(self.stop.wait())
        await asyncio.wait({sending, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({sending}, timeout=grace)
        for task in (sending, stopping, *([self.thaw] if self.thaw else [])):
            task.cancel()
        [outcome] = await asyncio.gather(sending, return_exceptions=True)
        self._close_account()
        if isinstance(outcome, Exception):
            raise outcome
        return self.report

    async def _send(self, concurrency: int) -> None:
        try:
            many = await self.client.takes_many() and concurrency >= MOST_IN_GROUP
        except GwclientError as error:
            self._end(Ending.FAILED, error)
            return
        shares = [MOST_IN_GROUP] * (concurrency // MOST_IN_GROUP) if many else [1] * concurrency
        outcomes = await asyncio.gather(*map(self._work, shares), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def _work(self, share: int) -> None:
        try:
            while not self.stop.is_set() and (group := self.grouper.take(share)) is not None:
                if not group:
                    await is_set_within(self.stop, _PAUSE_S)
                self.on_their_way.update(group)
                await self._deliver(group)
        except GwclientError as error:
            self._end(Ending.FAILED, error)

    async def _deliver(self, group: list[Parcel]) -> None:
        if len(group) > 1:
            await self._deliver_together(group)
        for parcel in group:
            if parcel in self.on_their_way:
                await self._deliver_alone(parcel)

    async def _deliver_together(self, group: list[Parcel]) -> None:
        def hear(i: int, answer: LineAnswer) -> None:
            # At once: the rest of the answer may be lost.
            parcel = group[i]
            if parcel in self.on_their_way and _is_created(answer):
                self._acknowledge(parcel, answer)

        bodies, keys = [parcel.body for parcel in group], [parcel.key for parcel in group]
        try:
            answers = await self.client.stream_many(bodies, keys=keys, on_answer=hear)
        except GatewayRefused:
            # The request was refused, most likely for its size. Alone, each segment gets its own answer.
            self.grouper.shrink(group)
            return
        left = [each for each in zip(group, answers, strict=True) if each[0] in self.on_their_way]
        for parcel, answer in left:
            if isinstance(answer, GatewayRefused):
                self._refuse(parcel, answer)
        if any(isinstance(answer, StreamAnswer) for _, answer in left):
            await self._meet_freeze()

    async def _deliver_alone(self, parcel: Parcel) -> None:
        while not self.stop.is_set():
            try:
                answer = await self.client.stream(parcel.body, key=parcel.key)
            except GatewayRefused as refusal:
                self._refuse(parcel, refusal)
                return
            if _is_created(answer):
                self._acknowledge(parcel, answer)
                return
            await self._meet_freeze()

    def _acknowledge(self, parcel: Parcel, answer: StreamAnswer) -> None:
        self.on_their_way.discard(parcel)
        self.report.note_acknowledged(parcel.piece.span, len(parcel.body))
        if receipt := _RECEIPT.fullmatch(answer.body):
            self.listener.stored(receipt[1], parcel.body)
        self.listener.acknowledged(parcel.piece)

    def _refuse(self, parcel: Parcel, refusal: GatewayRefused) -> None:
        if refusal.status not in _OF_ONE_SEGMENT:
            self._end(Ending.REFUSED, refusal)  # nothing is wrong with the segment
            return
        self.on_their_way.discard(parcel)
        self.report.refusals.append(Refusal(parcel.piece.span, str(refusal)))
        self.listener.refused(parcel.piece, str(refusal))

    async def _meet_freeze(self) -> None:
        """End the push, or wait until the datastore is open; one task asks for all that wait."""
        if not self.wait:
            self._end(Ending.FROZEN)
            return
        if self.thaw is None or self.thaw.done():
            self.thaw = asyncio.create_task(self._ask_until_open())
        await asyncio.shield(self.thaw)

    async def _ask_until_open(self) -> None:
        self.listener.frozen(self.poll)
        while not await is_set_within(self.stop, self.poll):
            state = await self.client.desc()
            if state.resp is DatastoreState.OPERATIONAL:
                self.listener.thawed()
                return

    def _end(self, ending: Ending, error: GwclientError | None = None) -> None:
        if self.report.ending is Ending.COMPLETE:  # the first reason is reported
            self.report.ending, self.report.error = ending, error
        self.stop.set()

    def _close_account(self) -> None:
        if self.stop.is_set() and self.report.ending is Ending.COMPLETE:
            self.report.ending = Ending.INTERRUPTED
        self.report.before = self.grouper.done_before
        self.report.unsent = sorted(parcel.piece.span for parcel in self.on_their_way)
        try:
            self.report.unsent.extend(piece.span for piece in self.grouper.rest(self.rest))
        except GwclientError as error:
            self._end(Ending.FAILED, error)
        if self.report.refusals and self.report.ending is Ending.COMPLETE:
            self.report.ending = Ending.REFUSED
        if self.report.ending is Ending.INTERRUPTED and not self.report.unsent:
            self.report.ending = Ending.REFUSED if self.report.refusals else Ending.COMPLETE
        self.report.note_unread(self.grouper.unread.lines)


async def is_set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait until an event is set, for so many s at most; return whether it is set."""
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


def _is_created(answer: LineAnswer) -> TypeGuard[StreamAnswer]:
    return isinstance(answer, StreamAnswer) and answer.resp == "CREATED"
