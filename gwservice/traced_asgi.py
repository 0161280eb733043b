"""The layer of the FastAPI services that makes a span of each request; it is there only where traces are wanted."""

from starlette.types import ASGIApp, Receive, Scope, Send

from gwservice.correlation import in_hand
from gwservice.tracing import begin_span


class Traced:
    """Makes a span of each request of the application behind it, until all of the answer is sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        request = in_hand()
        if scope["type"] != "http" or request is None:
            await self._app(scope, receive, send)
            return
        span = begin_span(request, scope["method"])
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            span.record_exception(error)
            raise
        finally:
            span.end()
