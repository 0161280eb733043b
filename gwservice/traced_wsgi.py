"""The layer of a WSGI service that makes a span of each request; it is there only where traces are wanted."""

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from werkzeug.wsgi import ClosingIterator

from gwservice.correlation import in_hand
from gwservice.tracing import begin_span


class Traced:
    """Makes a span of each request of the application behind it, until all of the answer is sent."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        request = in_hand()
        if request is None:
            return self._app(environ, start_response)
        span = begin_span(request, environ["REQUEST_METHOD"])
        return ClosingIterator(self._app(environ, start_response), [span.end])
