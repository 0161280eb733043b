"""The relay: passes requests to the next service, and its answers back, without decoding either."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from http import HTTPStatus
from typing import Self

from gwservice.asgi_types import Message, Receive, Scope, Send
from gwservice.body import read_body, while_connected
from gwservice.correlation import RequestContext, note_relayed
from gwservice.headers import ANSWER_HEADERS, REQUEST_HEADERS
from gwservice.problems import send_whole
from gwservice.upstream import Upstream
from gwservice.upstream_connection import Answer, header_lines
from gwwire.problems import ProblemCode, ProblemError

#: Upper limit of whole bodies in memory, as a multiple of the largest one.
_MOST_BODIES = 4
#: A body of this size or more is counted while it is received; counting each piece of a small one would cost more.
_LARGE_BODY = 256 * 1024


class MemoryFull(ProblemError, code=ProblemCode.QUEUE_FULL):
    """The bodies of the current requests have reached the memory limit."""


class _Memory:
    """The bytes still available for the bodies of all requests."""

    def __init__(self, most: int) -> None:
        self.most = self.free = most


class _Share:
    """The memory used by the body of one request until it is answered."""

    __slots__ = ("_memory", "_taken")

    def __init__(self, memory: _Memory) -> None:
        self._memory, self._taken = memory, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.free += self._taken

    def take(self, count: int) -> None:
        """Reserve bytes; raise MemoryFull if there are not enough."""
        if count > self._memory.free:
            limit = f"{self._memory.most} bytes ({_MOST_BODIES} times MAX_BODY)"
            raise MemoryFull(f"the bodies in memory have reached their limit of {limit}", retry_after=1)
        self._memory.free -= count
        self._taken += count


class Relay:
    """Relays requests to an upstream; bodies that are not streamed have limits of bytes and seconds.

    With `until_gone`, a request to the upstream ends when its client closes the connection: for answers that wait.
    """

    def __init__(
        self,
        upstream: Upstream,
        *,
        max_body: int,
        body_seconds: float | None = None,
        request_headers: frozenset[bytes] = REQUEST_HEADERS,
        until_gone: bool = False,
    ) -> None:
        self.upstream = upstream
        self._max_body = max_body
        self._memory = _Memory(_MOST_BODIES * max_body)
        self._body_seconds = body_seconds
        self._request_headers = request_headers
        self._until_gone = until_gone

    async def ask(self, request: RequestContext, receive: Receive, target: bytes, headers: bytes = b"") -> Answer:
        """POST the whole body of a request, and return the complete answer; `headers` are passed down too."""
        with _Share(self._memory) as share:
            body = await self._read(share, request, receive)
            return await self.upstream.request(b"POST", target, self._passed_down(request) + headers, body)

    async def relay(  # noqa: PLR0913, PLR0917 (the three of ASGI, and what is passed down)
        self,
        request: RequestContext,
        scope: Scope,
        receive: Receive,
        send: Send,
        target: bytes | None = None,
        headers: bytes = b"",
    ) -> None:
        """Relay a request with its whole body; `target` replaces its path and query, `headers` are passed down too."""
        method = scope["method"]
        target = target_of(scope) if target is None else target
        if request.is_head and await self._relay_head(request, send, target, headers):
            return
        with _Share(self._memory) as share:
            body = [] if method == "GET" else await self._read(share, request, receive)
            headers = self._passed_down(request) + headers
            passing = self._pass_back(send, self.upstream.converse(method.encode(), target, headers, body))
            await (while_connected(receive, passing) if self._until_gone else passing)

    async def _relay_head(self, request: RequestContext, send: Send, target: bytes, headers: bytes) -> bool:
        """Relay HEAD, and return True; if it fails, return False: the answer to a GET says why."""
        answer = await self.upstream.request(b"HEAD", target, self._passed_down(request) + headers)
        if answer.status >= HTTPStatus.BAD_REQUEST:
            return False
        passed = [header for header in answer.headers if header[0] in ANSWER_HEADERS]
        await send({"type": "http.response.start", "status": answer.status, "headers": passed})
        return True

    async def stream(  # noqa: PLR0913 (the last two have defaults)
        self,
        request: RequestContext,
        send: Send,
        target: bytes,
        pieces: AsyncIterator[bytes],
        headers: bytes = b"",
        *,
        method: bytes = b"POST",
    ) -> None:
        """Relay a request whose answer may begin while its body, of any size, is still being sent."""
        headers = self._passed_down(request) + headers
        await self._pass_back(send, self.upstream.converse(method, target, headers, pieces))

    async def _read(self, share: _Share, request: RequestContext, receive: Receive) -> list[bytes]:
        """Read a whole body; a large one, or one of unknown length, is counted while it is received.

        A sender that only declares a large body, and sends nothing, must not reserve the memory of the others.
        """

        async def counted() -> Message:
            message = await receive()
            share.take(len(message.get("body", b"")))
            return message

        declared = int(request.headers.get(b"content-length", 0))
        counted_whole = 0 < declared <= _LARGE_BODY
        share.take(min(declared, self._max_body) if counted_whole else 0)
        source = receive if counted_whole else counted
        return await read_body(source, request.headers, limit=self._max_body, seconds=self._body_seconds)

    def _passed_down(self, request: RequestContext) -> bytes:
        names = self._request_headers
        return header_lines([header for header in request.headers.items() if header[0] in names])

    async def _pass_back(self, send: Send, answers: AsyncGenerator[Answer]) -> None:
        """Send an answer part by part; a short one, and every problem, is sent whole."""
        begun = False
        async with aclosing(answers):
            async for answer in answers:
                if begun:
                    more = not answer.complete
                    await send({"type": "http.response.body", "body": answer.take(), "more_body": more})
                elif answer.complete:
                    await send_answer(send, self.upstream.expect_answer(answer))
                elif not answer.is_problem():
                    begun = True
                    received = self.upstream.expect_answer(answer).headers
                    headers = [header for header in received if header[0] in ANSWER_HEADERS]
                    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
                    await send({"type": "http.response.body", "body": answer.take(), "more_body": True})


def target_of(scope: Scope) -> bytes:
    """Return the path and the query of a request."""
    path: bytes = scope["raw_path"]
    query: bytes = scope["query_string"]
    return path + b"?" + query if query else path


_SENT_WITH_LENGTH = ANSWER_HEADERS - {b"content-length"}


async def send_answer(send: Send, answer: Answer) -> None:
    """Send a complete answer of an upstream, with the headers that are passed up."""
    body = answer.take()
    if answer.is_problem():
        note_relayed(body)
    headers = [header for header in answer.headers if header[0] in _SENT_WITH_LENGTH]
    await send_whole(send, answer.status, headers, body)
