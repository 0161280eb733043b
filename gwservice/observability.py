"""The outermost layer of every service: request ids, admission, metrics, spans, failure lines, unexpected errors."""

import logging
import time
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from http import HTTPStatus

from gwservice import tracing
from gwservice.address import check_address
from gwservice.asgi_types import ASGIApp, Message, Receive, Scope, Send
from gwservice.body import ClientGone, refuse_encoded
from gwservice.correlation import FROZEN, RequestContext, set_current_request
from gwservice.headers import refuse_misdirected, refuse_second_key
from gwservice.logs import LogLimit
from gwservice.metrics import count_request
from gwservice.problems import send_problem, send_whole
from gwservice.relay import send_answer
from gwservice.security import CallerSecret
from gwservice.upstream import UpstreamProblem
from gwwire.problems import ProblemCode, ProblemError, make_problem

log = logging.getLogger(__name__)

#: Raises a ProblemError to refuse a request; it may add headers to the answer.
Admission = Callable[[RequestContext, Scope], Awaitable[None]]

#: The route of a request that no route of the service matches: its path is never a label.
_UNKNOWN_ROUTE = "other"
#: Methods that are labels; others are counted as `other`.
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
_UNKNOWN_METHOD = "other"
_WITHOUT_BODY = frozenset(("GET", "HEAD", "OPTIONS"))
_HEADS = frozenset(("http.response.start", "websocket.accept"))
_FAILURES = 500
#: Problems that need attention in this service; others are normal, or visible in another service.
_OURS = {ProblemCode.INTERNAL_ERROR, ProblemCode.VOLUME_FULL, ProblemCode.VOLUME_FAILED}
#: Probes that a platform requests every few seconds while a service is not ready.
_PROBE = "/readyz"
#: As in nginx: the client closed the connection.
_CLIENT_GONE = 499
_limit = LogLimit()
#: Readers who wait for a tape ask for many segments every few seconds.
_limit_of_tape = LogLimit(most=1, seconds=60)


def admit_caller(secret: CallerSecret) -> Admission:
    """Return an admission for requests that present the service's secret."""

    async def admit(request: RequestContext, scope: Scope) -> None:
        secret.check(scope["path"], request.headers.get(b"authorization", b""))

    return admit


class Edge:
    """Identifies, admits and counts each request; the handler of its method and path answers it, or else `app`.

    Requests of other services that are not for this `service` are refused. A path with a slash at the end is
    redirected to that without, unless it is in `slashed`.
    """

    def __init__(
        self,
        app: ASGIApp,
        service: str,
        *,
        handlers: Mapping[tuple[str, str], ASGIApp],
        admit: Admission | None = None,
        slashed: Container[str] = (),
    ) -> None:
        self._app = app
        self._service = service
        self._handlers = handlers
        self._slashed = slashed
        self._admit = admit
        self._traced = tracing.begun()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "websocket":  # its handshake is a GET, which is refused like one
            scope, send = {**scope, "method": "GET"}, _denying(send)
        elif scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = RequestContext(_headers(scope["headers"]))
        set_current_request(request)
        scope["context"] = request
        method = scope["method"]
        if method == "HEAD":  # the handler answers a GET, of which only the head is sent
            scope = {**scope, "method": "GET"}
            request.is_head = True
        exchange = _Exchange(request, scope, send, method)
        if self._traced:
            tracing.begin_span(request, method)
        try:
            refuse_misdirected(request, self._service)
            if self._admit is not None:
                await self._admit(request, scope)
            check_address(scope)
            await self._answer(request, scope, receive, exchange.send)
        except Exception as error:  # noqa: BLE001 (it becomes the answer, or is raised again)
            await exchange.fail(error)
        finally:
            if request.span:
                request.span.end()

    async def _answer(self, request: RequestContext, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] not in self._slashed and (target := _without_slash(scope)):
            await send_whole(send, HTTPStatus.TEMPORARY_REDIRECT, [(b"location", target)], b"")
            return
        if len(request.headers) < len(scope["headers"]):
            refuse_second_key(scope["headers"])
        if b"content-encoding" in request.headers and scope["method"] not in _WITHOUT_BODY:
            refuse_encoded(scope["headers"])
        handler = self._handlers.get((scope["method"], scope["path"]))
        if handler is None:
            await self._app(scope, receive, send)
        else:
            request.route = scope["path"]
            await handler(scope, receive, send)


def _denying(send: Send) -> Send:
    """Return a `send` that answers the handshake of a WebSocket as a request over HTTP is answered."""

    async def deny(message: Message) -> None:
        if message["type"].startswith("http."):
            message = {"more_body": False, **message, "type": f"websocket.{message['type']}"}
        await send(message)

    return deny


def _headers(lines: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the headers of a request; one that is sent in several lines has all their values (RFC 9110, 5.3)."""
    headers = dict(lines)
    if len(headers) < len(lines):
        for name in headers:
            separator = b"; " if name == b"cookie" else b", "
            headers[name] = separator.join(value for other, value in lines if other == name)
    return headers


def _without_slash(scope: Scope) -> bytes | None:
    """Return the redirect target of a request for a route with trailing slashes, or None if it has none.

    The address is relative, because the service does not know the prefix and the scheme that the client used.
    """
    path: bytes = scope["raw_path"]
    route = path.rstrip(b"/")
    if route == path or not route:
        return None
    query = scope["query_string"]
    return b"../" * (len(path) - len(route)) + route.rpartition(b"/")[2] + (b"?" + query if query else b"")


class _Exchange:
    __slots__ = ("_answered", "_began", "_method", "_request", "_scope", "_send")

    def __init__(self, request: RequestContext, scope: Scope, send: Send, method: str) -> None:
        self._request = request
        self._scope = scope
        self._send = send
        self._method = method
        self._began = time.perf_counter()
        self._answered = False

    async def send(self, message: Message) -> None:
        """Send a part of the answer; its head ends the measurement, and the common headers are added to it.

        After the head of an answer to HEAD, which is complete then, everything is ignored.
        """
        if message["type"] in _HEADS:
            self._answered = True
            message["headers"] = [*message.get("headers", ()), *self._request.answer_headers]
            self._count(message.get("status", HTTPStatus.SWITCHING_PROTOCOLS))
            await self._send(message)
            if self._method == "HEAD":
                await self._send({"type": "http.response.body", "body": b""})
        elif self._method != "HEAD":
            await self._send(message)

    async def fail(self, error: Exception) -> None:
        """Answer with the problem document of an error, or raise the error again if an answer has begun."""
        match error:
            case ClientGone():
                if not self._answered:
                    self._request.outcome = "client-gone"
                    self._count(_CLIENT_GONE)
            case ProblemError() if self._answered:
                # The server closes the connection of an incomplete answer: the client sees that parts are missing.
                log.error("an answer was interrupted: %s", error.detail)
            case ProblemError():
                await send_problem(self.send, error.problem(), error.retry_after)
            case UpstreamProblem():
                await send_answer(self.send, error.answer)
            case _:
                if self._request.span:
                    self._request.span.record_exception(error)
                if self._answered:
                    raise error  # the server closes the connection and logs the error
                problem = make_problem(ProblemCode.INTERNAL_ERROR, "the service failed; its log has the details")
                await send_problem(self.send, problem, error=error)

    def _count(self, status: int) -> None:
        scope = self._scope
        route = self._request.route or getattr(scope.get("route"), "path", _UNKNOWN_ROUTE)
        count_answer(self._request, self._method, route, status, time.perf_counter() - self._began)


def count_answer(request: RequestContext, method: str, route: str, status: int, seconds: float) -> None:
    """Count a request answered after `seconds`; log a failed one, unless it is a probe or one of many.

    That bytes are on tape is an answer as any other, of which operators like to know: from the buffer alone.
    """
    method = method if method in _METHODS else _UNKNOWN_METHOD
    outcome = request.outcome or f"{status // 100}xx"
    count_request(method, route, outcome, seconds)
    if request.span:
        tracing.record_answer(request.span, method, route, status, outcome)
    is_on_tape = outcome == ProblemCode.ON_TAPE
    if status < _FAILURES or outcome == FROZEN or route == _PROBE or (is_on_tape and request.is_relayed):
        return
    omitted = (_limit_of_tape if is_on_tape else _limit).admit((method, route, outcome))
    if omitted is None:
        return
    if is_on_tape:
        level, event, what = logging.INFO, "on-tape", "answered"
    else:
        level, event, what = logging.ERROR if outcome in _OURS else logging.WARNING, "request-failed", "failed"
    fields = {"event": event, "method": method, "route": route, "status": status, "outcome": outcome}
    fields |= {"seconds": round(seconds, 6), "suppressed": omitted}
    more = f" (and {omitted} more like it before)" if omitted else ""
    message = f"{method} {route} {what}: {request.detail or outcome}{more}"
    log.log(level, "%s", message, extra=fields, exc_info=request.error)
