"""The only code that calls the buffer."""

import errno
import logging
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import NamedTuple, TypeVar

import msgspec
import urllib3
from urllib3.exceptions import ConnectTimeoutError, HTTPError, MaxRetryError, TimeoutError  # noqa: A004 (its name)

from dslogic.errors import BufferIncoherent, BufferSilent, BufferUnreachable
from dslogic.settings import LogicSettings
from gwwire.datastore import BufferStats, Description, FreezeOrder, Names

T = TypeVar("T")
log = logging.getLogger(__name__)

_JSON = {"Content-Type": "application/json"}
_CONNECT_SECONDS = 3.0
_ANSWER_SECONDS = 30.0


class Reply(NamedTuple):
    """What the buffer answered, undecoded."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class BufferClient:
    """Speaks to the buffer over a pool of connections that all threads of this process share.

    Every method raises BufferUnreachable, BufferSilent or BufferIncoherent where there is no proper answer.
    A question is asked twice where the connection breaks; an order is not, because it may have been carried out.
    """

    def __init__(
        self, settings: LogicSettings, *, connections: int = 64, answer_seconds: float = _ANSWER_SECONDS
    ) -> None:
        self._settings = settings
        self._pool = urllib3.PoolManager(
            maxsize=connections,
            timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=answer_seconds),
            retries=urllib3.Retry(connect=1, read=1, redirect=0, status=0, other=0, backoff_factor=0.1),
        )

    def stats(self) -> BufferStats:
        """Give the counts of the batch in hand."""
        return self._decode(self.get(self._settings.ENDP_STAT), BufferStats)

    def description(self) -> Description:
        """Give the state and the holder."""
        return self._decode(self.get(self._settings.ENDP_DESC), Description)

    def names(self) -> list[str]:
        """Give the file names of the batch in hand."""
        return self._decode(self.get(self._settings.ENDP_DUMPF), Names).nmlist

    def send(self, segment: bytes, headers: Mapping[str, str]) -> Reply:
        """Store one segment, passed on as it came."""
        return self._request("POST", self._settings.ENDP_SEND, segment, headers)

    def send_lines(self, chunks: Iterator[bytes], headers: Mapping[str, str]) -> Reply | Iterator[bytes]:
        """Store many segments, passed on as they come; gives the lines of the answer, or the reply that refuses all."""
        response = self._open("POST", self._settings.ENDP_SEND, chunks, headers, preload=False)
        if response.status != HTTPStatus.OK:
            return Reply(response.status, response.headers, response.data)
        return _parts(response)

    def freeze(self, order: FreezeOrder) -> Reply:
        """Freeze the batch."""
        return self._request("POST", self._settings.ENDP_UPD_DESC, msgspec.json.encode(order), _JSON)

    def thaw(self, order: bytes) -> Reply:
        """Open the frozen batch again, for its holder; the order is passed on as it came."""
        return self._request("POST", self._settings.ENDP_THAW, order, _JSON)

    def clean(self) -> Reply:
        """Archive the batch."""
        return self._request("POST", self._settings.ENDP_CLEAN)

    def get(self, endpoint: str, query: str = "", headers: Mapping[str, str] | None = None) -> Reply:
        """Read one of the buffer's routes."""
        return self._request("GET", f"{endpoint}?{query}" if query else endpoint, None, headers or {})

    def _request(
        self, method: str, endpoint: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        response = self._open(method, endpoint, body, headers or {})
        return Reply(response.status, response.headers, response.data)

    def _open(
        self,
        method: str,
        endpoint: str,
        body: bytes | Iterator[bytes] | None,
        headers: Mapping[str, str],
        *,
        preload: bool = True,
    ) -> urllib3.BaseHTTPResponse:
        try:
            url = self._settings.DB_BURL + endpoint
            return self._pool.request(method, url, body=body, headers=headers, preload_content=preload)
        except HTTPError as error:
            raise _no_answer(error, self._settings.DB_BURL) from error

    def _decode(self, reply: Reply, shape: type[T]) -> T:
        try:
            return msgspec.json.decode(reply.body, type=shape)
        except msgspec.DecodeError as error:
            raise BufferIncoherent(f"the buffer answered {reply.status}, which is no {shape.__name__}") from error


def _parts(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """Give an answer as it comes; where it breaks off, so does the connection that it is passed on over."""
    try:
        yield from response.stream()
    except HTTPError as error:
        log.error("the buffer's answer broke off: %s", error)  # noqa: TRY400 (its name says it all)
        # What gunicorn takes for a client that went away: it closes the connection without the answer's end, and the
        # client knows that answers are missing.
        raise BrokenPipeError(errno.EPIPE, "the buffer's answer broke off") from error


def _no_answer(error: HTTPError, address: str) -> BufferUnreachable | BufferSilent:
    cause = error.reason if isinstance(error, MaxRetryError) else error
    match cause:
        case ConnectTimeoutError():
            return BufferUnreachable(f"the buffer at {address} cannot be reached")
        case TimeoutError():
            return BufferSilent(f"the buffer at {address} did not answer in time")
        case _:
            return BufferUnreachable(f"the connection to the buffer at {address} broke before it answered")
