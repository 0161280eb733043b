"""The outermost layer of a WSGI service: names each request and tells of its end."""

import time
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from gwservice.correlation import REQUEST_ID, RequestInHand, take_in_hand
from gwservice.observing import UNKNOWN_ROUTE, tell_end


class Observed:
    """Names each request of the application behind it, and tells how it ended.

    Args:
        app: what answers; it never raises before it answers.
        data_path: the route that is answered before there is any search for a route.

    """

    def __init__(self, app: WSGIApplication, data_path: str) -> None:
        self._app = app
        self._data_path = data_path

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        began = time.perf_counter()
        request = RequestInHand(
            environ.get("HTTP_X_REQUEST_ID"), environ.get("HTTP_TRACEPARENT"), environ.get("HTTP_TRACESTATE")
        )
        take_in_hand(request)

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
            self._tell(request, environ, int(status[:3]), began)
            return start_response(status, [*headers, (REQUEST_ID, request.id)], exc_info)

        return self._app(environ, start)

    def _tell(self, request: RequestInHand, environ: WSGIEnvironment, status: int, began: float) -> None:
        method = environ["REQUEST_METHOD"]
        # Werkzeug leaves its request there, which knows the rule that its path follows.
        rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
        known = rule.rule if rule else UNKNOWN_ROUTE
        path = self._data_path if environ["PATH_INFO"] == self._data_path else known
        tell_end(request, method, path, status, time.perf_counter() - began)
