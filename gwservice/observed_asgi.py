"""The outermost layer of the FastAPI services: names each request, tells of its end, answers what nobody expected."""

import time
from collections.abc import Iterable

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gwservice.asgi import problem_response
from gwservice.correlation import RequestInHand, take_in_hand
from gwservice.observing import UNKNOWN_ROUTE, tell_end
from gwwire.problems import ProblemCode, make_problem

_NAMES = (b"x-request-id", b"traceparent", b"tracestate")
#: What a web server of another make calls a request whose sender left.
_CLIENT_GONE = 499


class Observed:
    """Names each request of the application behind it, and tells how it ended.

    Args:
        app: what answers.
        data_path: the route that is answered before there is any search for a route.

    """

    def __init__(self, app: ASGIApp, data_path: str) -> None:
        self._app = app
        self._data_path = data_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        request = _named(scope["headers"])
        take_in_hand(request)
        header = (b"x-request-id", request.id.encode())
        answered = False

        async def send_named(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                message["headers"] = [*message["headers"], header]
                self._tell(request, scope, message["status"], began)
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        except ClientDisconnect:
            request.outcome = "client-gone"
            self._tell(request, scope, _CLIENT_GONE, began)
        except Exception as error:
            if answered:
                raise  # the server breaks the connection, and logs why
            problem = make_problem(ProblemCode.INTERNAL_ERROR, "the service failed; its log says more")
            await problem_response(problem, error=error)(scope, receive, send_named)

    def _tell(self, request: RequestInHand, scope: Scope, status: int, began: float) -> None:
        method, route = scope["method"], scope.get("route")
        path = self._data_path if scope["path"] == self._data_path else getattr(route, "path", UNKNOWN_ROUTE)
        tell_end(request, method, path, status, time.perf_counter() - began)


def _named(headers: Iterable[tuple[bytes, bytes]]) -> RequestInHand:
    told = {name: value.decode("latin-1") for name, value in headers if name in _NAMES}
    return RequestInHand(told.get(b"x-request-id"), told.get(b"traceparent"), told.get(b"tracestate"))
