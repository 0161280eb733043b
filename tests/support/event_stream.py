"""A listener of /events over a real connection."""

import http.client
import json
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Event:
    """An event: its kind, its id, and its data."""

    kind: str
    id: int | None
    data: Any


class EventStream:
    """Use it as `with EventStream(url) as events`: each read waits for the next event.

    Attributes:
        status: of the answer.
        headers: of the answer.

    """

    def __init__(self, url: str, last: int | str | None = None, *, key: str | None = None) -> None:
        place = urlsplit(url)
        self._connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=60)
        headers = {} if last is None else {"Last-Event-ID": str(last)}
        headers |= {} if key is None else {"Authorization": f"Bearer {key}"}
        self._connection.request("GET", "/events", headers=headers)
        self._answer = self._connection.getresponse()
        self.status = self._answer.status
        self.headers = self._answer.headers

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._answer.close()
        self._connection.close()

    def rest(self) -> bytes:
        """Return all remaining bytes."""
        return self._answer.read()

    def next(self, kind: str | None = None) -> Event:
        """Return the next event, of a kind if one is named; fail at the end of the stream."""
        while True:
            event = self._read()
            if event is not None and kind in {None, event.kind}:
                return event

    def until(self, kind: str, **fields: object) -> Event:
        """Return the next event of a kind whose data have these fields."""
        while True:
            event = self.next(kind)
            if fields.items() <= event.data.items():
                return event

    def _read(self) -> Event | None:
        fields: dict[str, str] = {}
        while line := self._answer.readline():
            if line == b"\n":
                if "event" not in fields:
                    return None
                number = int(fields["id"]) if "id" in fields else None
                return Event(fields["event"], number, json.loads(fields["data"]))
            name, _, value = line.decode().rstrip("\n").partition(": ")
            fields[name] = value
        raise EOFError("the stream has ended")


class Listening(threading.Thread):
    """Reads a stream to its end, and stores whether it ended as an answer should."""

    def __init__(self, stream: EventStream) -> None:
        super().__init__()
        self._stream = stream
        self.whole = False
        self.start()

    def run(self) -> None:
        try:
            with self._stream:
                self._stream.rest()
        except (http.client.HTTPException, OSError):
            return
        self.whole = True
