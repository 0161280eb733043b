"""WebSockets of a service: uvicorn's protocol for a connection of `gwservice.server` that was upgraded.

Only for services that have a WebSocket: it needs the package websockets.
"""

import logging
import re
from typing import Any, ClassVar

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

#: Every connection that is opened or closed would be a line of the log.
log = logging.getLogger(__name__)
log.setLevel(logging.WARNING)


class WebSocket(WebSocketsSansIOProtocol):
    """A WebSocket; `paths` are those of the service that can be one."""

    paths: ClassVar[re.Pattern[str]]

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.logger = self.conn.logger = log
        self._stopping = False

    def pause_writing(self) -> None:
        """Stop reading too: pings of a client that does not read would fill the memory with pongs."""
        super().pause_writing()
        self._pause_reading()

    def resume_writing(self) -> None:
        """Read on, unless a message waits that the application has not taken."""
        super().resume_writing()
        if not (self.read_paused or self.transport.is_closing()):
            self.transport.resume_reading()

    async def receive(self) -> Any:
        """Return the next message; uvicorn resumes reading with the last one that waits."""
        message = await super().receive()
        if not self.writable.is_set():
            self._pause_reading()
        return message

    def keepalive_timeout(self) -> None:
        """Close the connection to a client that does not answer; if it does not read either, without a last frame."""
        super().keepalive_timeout()
        self._abort_if_stuck()

    def shutdown(self) -> None:
        """Leave it to the application to close the connection; abort it if the client does not read.

        The service stops: uvicorn would close it with its own code before the application can say why.
        """
        self._stopping = True
        if self.close_sent or not self.handshake_complete:
            super().shutdown()
        self._abort_if_stuck()

    def _abort_if_stuck(self) -> None:
        if not self.writable.is_set():
            self.transport.abort()

    def _pause_reading(self) -> None:
        if not self.transport.is_closing():
            self.transport.pause_reading()

    async def send(self, message: Any) -> None:
        """Send a message; uvicorn would log each handshake that is refused with an answer as an error."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True
        if self._stopping and self.close_sent:
            super().shutdown()  # without waiting for the client's answer


def websocket_at(paths: str) -> type[WebSocket]:
    """Return the protocol of a service with WebSockets at the paths that match an expression."""
    return type("WebSocketAt", (WebSocket,), {"paths": re.compile(paths)})
