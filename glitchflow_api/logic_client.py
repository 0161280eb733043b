"""The only code that calls dslogic."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from glitchflow_api.connections import Connections
from glitchflow_api.errors import HeadTooLong, LogicIncoherent, LogicUnreachable, ProblemFromBelow
from glitchflow_api.settings import GatewaySettings
from gwservice.hop import HopSecret
from gwservice.http1 import Answer
from gwservice.passing import GROUP_HEADER, QUOTA_HEADERS, Headers, pick
from gwwire.datastore import FROZEN_TEXT, Description, FlushOrder, FreezeOutcome, Outcome
from gwwire.problems import PROBLEM_TYPE
from gwwire.public import LogEntry, LogTail, NameList, Overview, SegmentPage, Stats

T = TypeVar("T")

_JSON = {"Content-Type": "application/json"}
_CONNECTIONS = 128
_TOO_LONG = frozenset({HTTPStatus.REQUEST_URI_TOO_LONG, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE})
#: dslogic waits 30 s for the buffer's answer, and says so; the gateway waits a little longer to hear it.
_ANSWER_SECONDS = 75.0


class Reply(NamedTuple):
    """What dslogic answered, undecoded."""

    status: int
    headers: Headers
    body: bytes


class Stored(NamedTuple):
    """What is told of a stored segment, and the headers that tell of the group's quota."""

    outcome: Outcome
    headers: Mapping[str, str]


def of_group(group: str | None) -> dict[str, str]:
    """Give the header that says whose quota a request counts for."""
    return {} if group is None else {GROUP_HEADER: group}


class LogicClient:
    """Speaks to dslogic over connections that all requests share.

    Every method raises LogicUnreachable, LogicSilent or LogicIncoherent where there is no proper answer, and
    ProblemFromBelow where the answer is a problem. A question is asked twice where the connection breaks; an order is
    not, because it may have been carried out.
    """

    def __init__(
        self, settings: GatewaySettings, *, connections: int = _CONNECTIONS, answer_seconds: float = _ANSWER_SECONDS
    ) -> None:
        self._settings = settings
        self._connections = Connections(settings.DS_BURL, connections, answer_seconds)
        self._secret = HopSecret.load(settings.LOGIC_SECRET_FILE, "glitchflow_api", "LOGIC_SECRET_FILE")

    def close(self) -> None:
        """Close the connections."""
        self._connections.close()

    async def stats(self, group: str | None = None) -> Stats:
        """Give the counts of the batch in hand, and what is left for `group`."""
        reply = _expect(await self._request("GET", self._settings.DS_STAT, headers=of_group(group)), HTTPStatus.OK)
        return _decode(reply, Stats)

    async def names(self) -> NameList:
        """Give the file names of the batch in hand."""
        return _decode(await self.get(self._settings.DS_DUMPF), NameList)

    async def description(self) -> Description:
        """Give the state and the holder."""
        return _decode(await self.get(self._settings.DS_DESC), Description)

    async def stream(self, segment: bytes, headers: Mapping[str, str]) -> Stored | None:
        """Store a segment, passed on as it came; None: the datastore is frozen."""
        reply = await self._request("POST", self._settings.DS_SEND, segment, headers)
        if reply.status == HTTPStatus.SERVICE_UNAVAILABLE and reply.body == FROZEN_TEXT.encode():
            return None
        outcome = _decode(_expect(reply, HTTPStatus.CREATED), Outcome)
        return Stored(outcome, pick(reply.headers, QUOTA_HEADERS))

    async def stream_lines(self, chunks: AsyncIterator[bytes], headers: Mapping[str, str]) -> AsyncGenerator[bytes]:
        """Store many segments, passed on as they come; gives the lines of the answer as they come."""
        headers = self._with_secret(headers)
        async with aclosing(self._connections.converse(self._settings.DS_SEND, headers, chunks)) as answers:
            async for answer in answers:
                if answer.status == HTTPStatus.OK:
                    if part := answer.take():
                        yield part
                elif answer.complete:
                    raise LogicIncoherent(f"dslogic answered {_reply(answer).status} instead of 200")

    async def freeze(self, order: bytes) -> FreezeOutcome | None:
        """Freeze the batch; None: it has to wait for more data."""
        reply = await self._request("POST", self._settings.DS_FREEZE, order, _JSON)
        if reply.status == HTTPStatus.OK:
            return None
        return _decode(_expect(reply, HTTPStatus.CREATED), FreezeOutcome)

    async def flush(self, order: FlushOrder) -> Outcome:
        """Archive the batch."""
        reply = await self._request("POST", self._settings.DS_FLUSH, msgspec.json.encode(order), _JSON)
        return _decode(_expect(reply, HTTPStatus.CREATED), Outcome)

    async def thaw(self, order: bytes) -> Outcome:
        """Open the frozen batch again, for its holder; the order is passed on as it came."""
        reply = await self._request("POST", self._settings.DS_THAW, order, _JSON)
        return _decode(_expect(reply, HTTPStatus.CREATED), Outcome)

    async def overview(self) -> Overview:
        """Give everything at a glance."""
        return _decode(await self.get(self._settings.DS_OVERVIEW), Overview)

    async def batches(self, rest: str = "") -> Reply:
        """Read about the batches, one of them (`/ID`), or its manifest (`/ID/manifest`)."""
        return await self.get(self._settings.DS_BATCHES + quote(rest))

    async def order_batch(self, rest: str, order: bytes) -> Reply:
        """Give a worker's order about a batch (`/ID/claim`, `/ID/release`), passed on as it came."""
        reply = await self._request("POST", self._settings.DS_BATCHES + quote(rest), order, _JSON)
        return _expect(reply, HTTPStatus.OK)

    async def coverage(self, query: Mapping[str, Any]) -> Reply:
        """Read what stretches of time are stored."""
        return await self.get(f"{self._settings.DS_COVERAGE}?{urlencode(query)}")

    async def log_tail(self, last: int) -> LogTail:
        """Give the newest lines of the log."""
        return LogTail(_decode(await self.get(f"{self._settings.DS_DUMP}?last={last}"), list[LogEntry]))

    async def verify(self, batch: str) -> Reply:
        """Begin to verify an archived batch."""
        path = f"{self._settings.DS_BATCHES}/{quote(batch, safe='')}/verify"
        return _expect(await self._request("POST", path), HTTPStatus.ACCEPTED)

    async def segments(self, query: Mapping[str, Any]) -> Reply:
        """Read a page of segments."""
        return await self.get(f"{self._settings.DS_SEGMENTS}?{urlencode(query)}")

    async def segments_after(self, seq: int, limit: int) -> SegmentPage:
        """Give the segments stored after a seq, `limit` at most."""
        return _decode(await self.segments({"after": seq, "limit": limit}), SegmentPage)

    async def segment(self, name: str, headers: Mapping[str, str]) -> Reply:
        """Read a segment's file, or a range of it."""
        return await self._request("GET", f"{self._settings.DS_SEGMENTS}/{quote(name, safe='')}", b"", headers)

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        """Read one of dslogic's routes."""
        return _expect(await self._request("GET", path, headers=headers), HTTPStatus.OK)

    async def _request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Reply:
        headers = self._with_secret(headers or {})
        try:
            answer = await self._connections.ask(method, path, headers, body)
        except LogicUnreachable:
            if method != "GET":
                raise
            answer = await self._connections.ask(method, path, headers, body)
        return _reply(answer)

    def _with_secret(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        return {**headers, **self._secret.headers} if self._secret else headers


def _reply(answer: Answer) -> Reply:
    """Give a complete answer that is no problem."""
    reply = Reply(answer.status, answer.headers, answer.take())
    if reply.status == HTTPStatus.UNAUTHORIZED:  # it is not the client whom dslogic refuses
        raise LogicIncoherent("dslogic refuses the gateway: LOGIC_SECRET_FILE is not its CALLER_SECRET_FILE")
    if reply.status in _TOO_LONG:
        raise HeadTooLong("a header of the request, or its query, is longer than is taken")
    if (reply.headers.get("Content-Type") or "").partition(";")[0].strip().lower() == PROBLEM_TYPE:
        raise ProblemFromBelow(reply.status, reply.body, reply.headers.get("Retry-After"))
    return reply


def _expect(reply: Reply, status: HTTPStatus) -> Reply:
    if reply.status != status:
        raise LogicIncoherent(f"dslogic answered {reply.status} instead of {status.value}")
    return reply


def _decode(reply: Reply, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(reply.body, type=shape)
    except msgspec.DecodeError as error:
        raise LogicIncoherent(f"dslogic answered what is no {shape.__name__}") from error
