"""The only code that calls the buffer."""

from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from http import HTTPStatus
from itertools import chain
from typing import NamedTuple, TypeVar

import msgspec

from dslogic.connections import Connections
from dslogic.errors import BufferIncoherent, BufferUnreachable
from dslogic.settings import LogicSettings
from gwservice.hop import HopSecret
from gwservice.http1 import Answer
from gwservice.passing import Headers
from gwwire.datastore import Description, FreezeOrder
from gwwire.public import NameList, Overview, Stats

T = TypeVar("T")

_JSON = {"Content-Type": "application/json"}
_ANSWER_SECONDS = 30.0


class Reply(NamedTuple):
    """What the buffer answered, undecoded."""

    status: int
    headers: Headers
    body: bytes


class BufferClient:
    """Speaks to the buffer over connections that all threads of this process share.

    Every method raises BufferUnreachable, BufferSilent or BufferIncoherent where there is no proper answer.
    A question is asked twice where the connection breaks; an order is not, because it may have been carried out.
    """

    def __init__(
        self, settings: LogicSettings, *, connections: int = 64, answer_seconds: float = _ANSWER_SECONDS
    ) -> None:
        self._settings = settings
        self._connections = Connections(settings.DB_BURL, connections, answer_seconds)
        self._secret = HopSecret.load(settings.BUFFER_SECRET_FILE, "dslogic", "BUFFER_SECRET_FILE")

    def stats(self) -> Stats:
        """Give the counts of the batch in hand."""
        return self._decode(self.get(self._settings.ENDP_STAT), Stats)

    def description(self) -> Description:
        """Give the state and the holder."""
        return self._decode(self.get(self._settings.ENDP_DESC), Description)

    def overview(self) -> Overview:
        """Give everything at a glance."""
        return self._decode(self.get(self._settings.ENDP_OVERVIEW), Overview)

    def names(self) -> list[str]:
        """Give the file names of the batch in hand."""
        return self._decode(self.get(self._settings.ENDP_DUMPF), NameList).nmlist

    def send(self, segment: deque[bytes], headers: Mapping[str, str]) -> Reply:
        """Store one segment, passed on as it came, in pieces that are taken out as they are sent."""
        return _reply(self._connections.ask("POST", self._settings.ENDP_SEND, self._with_secret(headers), segment))

    def send_lines(self, chunks: Iterator[bytes], headers: Mapping[str, str]) -> Reply | Iterator[bytes]:
        """Store many segments, passed on as they come; gives the lines of the answer, or the reply that refuses all.

        The lines come while the segments are still sent: only who takes them sends the rest.
        """
        answers = self._connections.converse(self._settings.ENDP_SEND, self._with_secret(headers), chunks)
        first = next(answers)
        _expect_admission(first)
        parts = _parts(first, answers)
        return parts if first.status == HTTPStatus.OK else Reply(first.status, first.headers, b"".join(parts))

    def freeze(self, order: FreezeOrder) -> Reply:
        """Freeze the batch."""
        return self._request("POST", self._settings.ENDP_UPD_DESC, msgspec.json.encode(order), _JSON)

    def thaw(self, order: bytes) -> Reply:
        """Open the frozen batch again, for its holder; the order is passed on as it came."""
        return self._request("POST", self._settings.ENDP_THAW, order, _JSON)

    def clean(self, order: bytes = b"") -> Reply:
        """Archive the batch; an order that says which is passed on as it came."""
        return self._request("POST", self._settings.ENDP_CLEAN, order, _JSON if order else None)

    def order_batch(self, rest: str, order: bytes) -> Reply:
        """Give a worker's order about a batch (`/ID/claim`, `/ID/release`), passed on as it came."""
        return self._request("POST", self._settings.ENDP_BATCHES + rest, order, _JSON)

    def get(self, endpoint: str, query: str = "", headers: Mapping[str, str] | None = None) -> Reply:
        """Read one of the buffer's routes."""
        return self._request("GET", f"{endpoint}?{query}" if query else endpoint, b"", headers)

    def _request(
        self, method: str, endpoint: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> Reply:
        headers = self._with_secret(headers or {})
        try:
            return _reply(self._connections.ask(method, endpoint, headers, deque([body])))
        except BufferUnreachable:
            if method != "GET":
                raise
            return _reply(self._connections.ask(method, endpoint, headers, deque([body])))

    def _with_secret(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        return {**headers, **self._secret.headers} if self._secret else headers

    def _decode(self, reply: Reply, shape: type[T]) -> T:
        try:
            return msgspec.json.decode(reply.body, type=shape)
        except msgspec.DecodeError as error:
            raise BufferIncoherent(f"the buffer answered {reply.status}, which is no {shape.__name__}") from error


def _reply(answer: Answer) -> Reply:
    _expect_admission(answer)
    return Reply(answer.status, answer.headers, answer.take())


def _expect_admission(answer: Answer) -> None:
    """Keep a refusal of this tier from looking like one of whoever asked it."""
    if answer.status == HTTPStatus.UNAUTHORIZED:
        raise BufferIncoherent("the buffer refuses dslogic: BUFFER_SECRET_FILE is not its CALLER_SECRET_FILE")


def _parts(first: Answer, further: Generator[Answer]) -> Iterator[bytes]:
    with closing(further):
        for answer in chain([first], further):
            if part := answer.take():
                yield part
