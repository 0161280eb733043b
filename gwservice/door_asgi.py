"""The door of the FastAPI services that have one caller only."""

from starlette.types import ASGIApp, Receive, Scope, Send

from gwservice.asgi import problem_response
from gwservice.hop import HopSecret, NotOurCaller


class CallerDoor:
    """A middleware that lets only the tier's own caller in."""

    def __init__(self, app: ASGIApp, secret: HopSecret) -> None:
        self._app = app
        self._secret = secret

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer with the problem."""
        if scope["type"] == "http":
            given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
            try:
                self._secret.check(scope["path"], given)
            except NotOurCaller as error:
                await problem_response(error.problem())(scope, receive, send)
                return
        await self._app(scope, receive, send)
