"""The WebSocket /bundles/{bundle}/ready: texts about the progress of a bundle, as they happen.

It is closed with one of these codes: 1000 after the last text, 1001 when the gateway stops, 1008 when the credential is
no longer valid, 1011 when the bundle cannot be followed any more.
"""

import asyncio
from contextlib import suppress

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from glitchflow_api.admission import Admission
from glitchflow_api.bundle_watch import BundleWatches, Watch
from glitchflow_api.listeners import Listeners
from gwservice.correlation import RequestContext
from gwwire import public
from gwwire.bundles import BundleState
from gwwire.problems import ProblemError

PATH = "/bundles/{bundle}/ready"
#: The same as an expression, for the server.
PATH_PATTERN = r"/bundles/[^/]+/ready"

_DONE, _STOPPING, _NOT_ALLOWED, _FAILED = 1000, 1001, 1008, 1011
#: The credential is checked so often.
_CHECK_SECONDS = 1.0


async def follow_bundle(socket: WebSocket) -> None:
    """Send the progress of a bundle until it is no longer built; the handshake is refused as a GET is."""
    request: RequestContext = socket.scope["context"]
    listeners: Listeners = socket.app.state.listeners
    watches: BundleWatches = socket.app.state.bundle_watches
    request.route = PATH
    listeners.enter()
    try:
        async with watches.follow(socket.path_params["bundle"]) as watch:
            with suppress(WebSocketDisconnect):
                await socket.accept()
                code, reason = await _Following(socket, watches, watch).send_texts()
                await socket.close(code, reason)
    finally:
        listeners.leave()


route = WebSocketRoute(PATH, follow_bundle)


class _Following:
    def __init__(self, socket: WebSocket, watches: BundleWatches, watch: Watch) -> None:
        self._socket = socket
        self._watches = watches
        self._watch = watch
        self._sent = ""

    async def send_texts(self) -> tuple[int, str]:
        """Send each text that is another than the last one; return the code and the reason of the end.

        Raise WebSocketDisconnect when the client leaves.
        """
        leaving = asyncio.create_task(self._read_until_gone())
        try:
            while True:
                change = self._watch.next_change()
                if end := await self._reason_to_end() or await self._send_text():
                    return end
                await asyncio.wait([leaving, change], timeout=_CHECK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if leaving.done():
                    raise WebSocketDisconnect
        finally:
            leaving.cancel()

    async def _reason_to_end(self) -> tuple[int, str] | None:
        if self._watches.closed:
            return _STOPPING, "the gateway stops"
        admission: Admission = self._socket.app.state.admission
        try:
            allowed = await admission.still_allows(self._socket.scope["context"], public.Scope.READ)
        except ProblemError:  # it cannot be checked now
            return _FAILED, "the credential cannot be checked"
        if not allowed:
            return _NOT_ALLOWED, "the credential is no longer valid, or no longer allows this"
        return (_FAILED, "the bundle does not exist any more") if self._watch.failure else None

    async def _send_text(self) -> tuple[int, str] | None:
        progress = self._watch.progress
        if progress is None:
            return None
        if (text := progress.text()) != self._sent:
            self._sent = text
            await self._socket.send_text(text)
        return None if progress.state is BundleState.BUILDING else (_DONE, "")

    async def _read_until_gone(self) -> None:
        """Read what the client sends, which means nothing, until it leaves."""
        while (await self._socket.receive())["type"] != "websocket.disconnect":
            pass
