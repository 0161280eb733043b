"""The limit of clients that listen: to the streams of /events and to WebSockets together."""

from glitchflow_api.errors import TooManyListeners

_RETRY_SECONDS = 10


class Listeners:
    """Counts the clients that listen, at most `most` of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0

    def enter(self) -> None:
        """Count one more, or raise TooManyListeners."""
        if self._count >= self._most:
            text = f"{self._count} clients listen to events or bundles (EVENTS_LISTENERS)"
            raise TooManyListeners(text, retry_after=_RETRY_SECONDS)
        self._count += 1

    def leave(self) -> None:
        """Count one less."""
        self._count -= 1
