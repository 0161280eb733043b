"""Server-sent events about changes of the datastore.

dslogic is polled about once a second for all listeners together, and only while there are any: for the overview with
the segments, and for the steps with the records that changed. A bundle among these is followed while it is built. A
listener that does not read its events is dropped, and all are when the service stops; browsers reconnect with the
`Last-Event-ID`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context

import msgspec
from fastapi import Response
from starlette.types import Receive, Scope, Send

from glitchflow_api.bundle_watch import BundleWatches
from glitchflow_api.listeners import Listeners
from glitchflow_api.logic_client import LogicClient
from glitchflow_api.processing import Processing, RecordChange
from gwservice.correlation import RequestContext, set_current_request
from gwservice.upstream import UpstreamProblem, UpstreamSilent
from gwwire.bundles import BundleState
from gwwire.overview import Overview
from gwwire.problems import ProblemCode, ProblemError, encode_problem, make_problem
from gwwire.public import SegmentRecord
from gwwire.records import BUNDLE, StepState

log = logging.getLogger(__name__)

EVENT_STREAM = "text/event-stream"

#: Maximum number of segments of one event; if there are more, it has the newest.
_MOST_SEGMENTS = 200
#: Events that may wait for a listener; beyond that it is dropped.
_MOST_WAITING = 16
#: Bundles that are followed at a time: others wait, so that their events do not fill the queues of the listeners.
_MOST_FOLLOWED = 4
#: A listener that reads nothing for this long is dropped; shorter than the time in which a service has to stop.
_SLOW_SECONDS = 5.0
#: An overview is sent when something changed, and after this many seconds in any case.
_REPEAT_SECONDS = 10.0
_HEARTBEAT_SECONDS = 15.0
#: A datastore that hangs is reported within 5 s: this, and the interval of polling.
_ANSWER_SECONDS = 3.0
#: Counting the steps takes at most this share of the time, however many records there are.
_COUNTING_SHARE = 0.1
_RETRY_MILLISECONDS = 2000
#: Upper limit of a seq: a 64-bit number.
_MOST_DIGITS = 18


def parse_seq(text: str) -> int | None:
    """Parse a `Last-Event-ID`; return None if it is not a seq, such as the id of an event of another server."""
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else None


class SegmentNews(msgspec.Struct, frozen=True):
    """Segments stored since the last event; `more`: these are the last of them, the others are in /segments."""

    items: list[SegmentRecord]
    more: bool


class Listener:
    """A client of /events; `sent` is the seq of the last segment sent to it, or None before the first."""

    def __init__(self, sent: int | None) -> None:
        self.sent = sent
        self._waiting: asyncio.Queue[bytes | None] = asyncio.Queue(_MOST_WAITING)

    def send_event(self, event: bytes) -> None:
        """Queue an event, or drop the listener if too many are waiting."""
        try:
            self._waiting.put_nowait(event if self.sent is None else b"id: %d\n%b" % (self.sent, event))
        except asyncio.QueueFull:
            self.end()

    def end(self) -> None:
        """End the stream; waiting events are discarded."""
        while not self._waiting.empty():
            self._waiting.get_nowait()
        self._waiting.put_nowait(None)

    async def next_event(self) -> bytes | None:
        """Return the next event, a heartbeat if there was none for a while, or None at the end."""
        try:
            async with asyncio.timeout(_HEARTBEAT_SECONDS):
                return await self._waiting.get()
        except TimeoutError:
            return b":\n\n"


class Hub:
    """Polls dslogic every `interval` seconds while there are listeners, each of which is counted in `count`."""

    def __init__(self, logic: LogicClient, bundles: BundleWatches, count: Listeners, *, interval: float) -> None:
        self._logic = logic
        self._bundles = bundles
        self._count = count
        self._interval = interval
        self._listeners: set[Listener] = set()
        self._polling: list[asyncio.Task[None]] = []
        self._seq: int | None = None
        self._last = b""
        self._last_steps = b""
        #: The bundles that are followed, each with its last event.
        self._following: dict[str, asyncio.Task[None]] = {}
        self._last_bundles: dict[str, bytes] = {}
        self._places = asyncio.Semaphore(_MOST_FOLLOWED)
        self._known: Overview | None = None
        self._repeat_at = 0.0
        self._closed = False

    def join(self, sent: int | None) -> Listener:
        """Add a listener that has the segments up to the seq `sent`, or raise TooManyListeners."""
        self._count.enter()
        listener = Listener(sent)
        if self._closed:  # the service is stopping: this stream ends at once, like all others
            listener.end()
            return listener
        self._listeners.add(listener)
        if not self._polling:
            # In a separate context, because polling belongs to no request.
            self._polling = [asyncio.create_task(self._poll_forever(), name="events", context=Context())]
        elif self._last:
            self._catch_up(listener)
            listener.send_event(self._last)
        for event in (self._last_steps, *self._last_bundles.values()):
            if event:
                listener.send_event(event)
        return listener

    def leave(self, listener: Listener) -> None:
        """Remove a listener; polling ends with the last one."""
        self._count.leave()
        self._listeners.discard(listener)
        if not self._listeners:
            for task in (*self._polling, *self._following.values()):
                task.cancel()
            self._following, self._last_bundles = {}, {}
            self._polling, self._seq, self._known = [], None, None
            self._last = self._last_steps = b""

    def close(self) -> None:
        """End all streams."""
        self._closed = True
        for listener in self._listeners:
            listener.end()

    async def _poll_forever(self) -> None:
        while True:
            set_current_request(RequestContext({}))
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await self._poll()
            except TimeoutError:
                self._send_problem(encode_problem(UpstreamSilent("dslogic did not answer in time").problem()))
            except ProblemError as error:
                self._send_problem(encode_problem(error.problem()))
            except UpstreamProblem as error:
                self._send_problem(error.answer.body())
            except Exception:
                log.exception("the poll of dslogic failed")
                problem = make_problem(ProblemCode.INTERNAL_ERROR, "the service failed; its log has the details")
                self._send_problem(encode_problem(problem))
            if len(self._polling) == 1:  # an overview is the first event
                self._polling.append(asyncio.create_task(self._poll_steps_forever(), name="steps"))
            await asyncio.sleep(self._interval)

    async def _poll_steps_forever(self) -> None:
        """Send what changes about records; an outage is reported by the other poll."""
        processing, loop = Processing(self._logic), asyncio.get_running_loop()
        while True:
            set_current_request(RequestContext({}))
            began = loop.time()
            try:
                await self._poll_steps(processing)
            except (ProblemError, UpstreamProblem):
                pass
            except Exception:
                log.exception("the poll of the steps failed")
            await asyncio.sleep(max(self._interval, (loop.time() - began) / _COUNTING_SHARE))

    async def _poll_steps(self, processing: Processing) -> None:
        news, steps = await processing.read()
        if news:
            self._send_to_all(_event("change", msgspec.json.encode(news)))
            for record in news.items:
                self._follow_if_bundle(record)
        event = _event("steps", msgspec.json.encode(steps.steps))
        if event != self._last_steps:
            self._last_steps = event
            self._send_to_all(event)

    def _follow_if_bundle(self, record: RecordChange) -> None:
        kind, _, bundle = record.id.partition("/")
        is_built = record.steps.get(BUNDLE, StepState.WAITING) is not StepState.WAITING
        if kind == BUNDLE and is_built and bundle not in self._following:
            self._following[bundle] = asyncio.create_task(self._follow(bundle), name=record.id, context=Context())

    async def _follow(self, bundle: str) -> None:
        """Send the progress of a bundle, as often as there is an overview, until it is built."""
        try:
            async with self._places, self._bundles.follow(bundle) as watch:
                sent, building = None, True
                while building and watch.progress:
                    change, progress = watch.next_change(), watch.progress
                    building = progress.state is BundleState.BUILDING
                    if progress != sent:
                        sent, event = progress, _event("bundle", msgspec.json.encode(progress))
                        self._last_bundles[bundle] = event
                        self._send_to_all(event)
                        await asyncio.wait([watch.asking], timeout=self._interval)
                    elif watch.failure:
                        return
                    else:
                        await asyncio.wait([change])
        except (ProblemError, UpstreamProblem):  # the bundle is gone, or there is an outage, which the poll reports
            pass
        finally:
            if self._following.get(bundle) is asyncio.current_task():
                del self._following[bundle]
                self._last_bundles.pop(bundle, None)

    async def _poll(self) -> None:
        overview = await self._logic.overview()
        self._seq = overview.seq
        for listener in self._listeners:
            self._catch_up(listener)
        await self._send_segments(self._seq)
        self._last = _event("overview", msgspec.json.encode(overview))
        # Fields that change all the time are not compared.
        news, now = (
            msgspec.structs.replace(overview, time=0, free=None, free_inodes=None, queue=0),
            asyncio.get_running_loop().time(),
        )
        if news != self._known or now >= self._repeat_at:
            self._known, self._repeat_at = news, now + _REPEAT_SECONDS
            self._send_to_all(self._last)

    async def _send_segments(self, seq: int) -> None:
        # Listeners with the same position get the same event.
        events = {}
        for sent in {listener.sent for listener in self._listeners}:
            if sent is not None and sent < seq:
                events[sent] = _event("segments", msgspec.json.encode(await self._news(sent, seq)))
        for listener in self._listeners:
            if listener.sent in events:
                event, listener.sent = events[listener.sent], seq
                listener.send_event(event)

    async def _news(self, sent: int, seq: int) -> SegmentNews:
        after = max(sent, seq - _MOST_SEGMENTS)
        page = await self._logic.segments_after(after, _MOST_SEGMENTS)
        return SegmentNews([segment for segment in page.segments if segment.seq <= seq], after > sent)

    def _catch_up(self, listener: Listener) -> None:
        # A seq beyond the newest one is from a catalog that was lost.
        if self._seq is not None and (listener.sent is None or listener.sent > self._seq):
            listener.sent = self._seq

    def _send_problem(self, problem: bytes) -> None:
        event = _event("problem", problem)
        if event != self._last:
            self._last, self._known = event, None
            self._send_to_all(event)

    def _send_to_all(self, event: bytes) -> None:
        for listener in self._listeners:
            listener.send_event(event)


class EventStream(Response):
    """Sends events until the client disconnects or stops reading, `may_receive` returns False, or the hub ends it."""

    media_type = EVENT_STREAM

    def __init__(self, hub: Hub, listener: Listener, may_receive: Callable[[], Awaitable[bool]]) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._hub = hub
        self._listener = listener
        self._may_receive = may_receive

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 (ASGI's shape)
        """Send the events."""
        leaving = asyncio.create_task(self._end_when_gone(receive))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            with suppress(TimeoutError):
                await self._send_events(send)
        finally:
            leaving.cancel()
            self._hub.leave(self._listener)

    async def _send_events(self, send: Send) -> None:
        event: bytes | None = b"retry: %d\n\n" % _RETRY_MILLISECONDS
        while event is not None and await self._may_receive():
            await _send_part(send, event, more=True)
            event = await self._listener.next_event()
        await _send_part(send, b"", more=False)

    async def _end_when_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._listener.end()


async def _send_part(send: Send, part: bytes, *, more: bool) -> None:
    async with asyncio.timeout(_SLOW_SECONDS):
        await send({"type": "http.response.body", "body": part, "more_body": more})


def _event(name: str, data: bytes) -> bytes:
    lines = b"".join(b"data: %b\n" % line for line in data.splitlines())
    return b"event: %b\n%b\n" % (name.encode(), lines)
