"""POST /streamdata, in front of FastAPI: nearly all requests; they are relayed without decoding."""

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus

import msgspec

from glitchflow_api.admission import Admission
from glitchflow_api.errors import TooManyStreams, Unauthorized
from glitchflow_api.logic_client import group_header
from gwservice.asgi_types import Receive, Scope, Send
from gwservice.body import body_pieces, media_type, require_json
from gwservice.correlation import RequestContext, note_frozen
from gwservice.problems import send_whole
from gwservice.relay import Relay
from gwwire import public
from gwwire.datastore import FROZEN_TEXT, Outcome
from gwwire.public import StreamAnswer
from gwwire.segment import NDJSON

PATH = "/streamdata"
#: The time for which a stream waits for the end of another one before it is refused.
_TURN_SECONDS = 5.0
_JSON = (b"content-type", b"application/json")
#: Python 3.11 makes a function call to look up a member of an enumeration.
_OK, _CREATED, _UNAVAILABLE = HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.SERVICE_UNAVAILABLE
_QUOTA_HEADERS = frozenset({b"ratelimit-policy", b"ratelimit"})
_FROZEN_TEXT = FROZEN_TEXT.encode()
_FROZEN = msgspec.json.encode(StreamAnswer("FROZEN", FROZEN_TEXT))


class DataPath:
    """Relays segments to `target` at dslogic; at most `streams` requests with many segments at a time."""

    def __init__(self, relay: Relay, target: str, admission: Admission, streams: int) -> None:
        self._relay = relay
        self._target = target.encode()
        self._admission = admission
        self._streams = asyncio.Semaphore(streams)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Store one segment, or many.

        CREATED means that the segment is on the disk and counted; FROZEN means that it was not stored. Many segments
        are sent as NDJSON, one per line, and answered line by line in the same order: with the same answers, or with a
        problem for a line that is not a segment.

        With an `Idempotency-Key`, a request with the same key and bytes gets the first answer, and nothing is stored
        twice; the key of line i of many is `KEY/i`. With `Idempotency-Keys`, each line of many has a key of its own.
        """
        request: RequestContext = scope["context"]
        headers = group_header(request.caller.group)
        if media_type(request.headers) == NDJSON:
            await self._stream(request, receive, send, headers)
            return
        require_json(request.headers)
        answer = await self._relay.ask(request, receive, self._target, headers)
        if answer.status == _UNAVAILABLE and answer.body() == _FROZEN_TEXT:
            note_frozen()
            await send_whole(send, _OK, [_JSON], _FROZEN)
            return
        outcome = self._relay.upstream.decode(answer, _CREATED, Outcome)
        answer_headers = [_JSON, *[header for header in answer.headers if header[0] in _QUOTA_HEADERS]]
        await send_whole(send, _OK, answer_headers, msgspec.json.encode(StreamAnswer("CREATED", outcome.body)))

    async def _stream(self, request: RequestContext, receive: Receive, send: Send, headers: bytes) -> None:
        try:
            async with asyncio.timeout(_TURN_SECONDS if self._streams.locked() else None):
                await self._streams.acquire()
        except TimeoutError:
            raise TooManyStreams("MAX_STREAMS requests of many segments are already open", retry_after=1) from None
        try:
            await self._relay.stream(request, send, self._target, self._while_allowed(request, receive), headers)
        finally:
            self._streams.release()

    async def _while_allowed(self, request: RequestContext, receive: Receive) -> AsyncIterator[bytes]:
        """Yield a body, which may last for days, as long as its sender may send it."""
        async for piece in body_pieces(receive):
            if not await self._admission.still_allows(request, public.Scope.STREAM):
                raise Unauthorized("the credential is no longer valid, or no longer allows this")
            yield piece
