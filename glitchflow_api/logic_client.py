"""The only code that calls dslogic."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import NamedTuple, TypeVar

import aiohttp
import msgspec

from glitchflow_api.errors import LogicIncoherent, LogicSilent, LogicUnreachable, ProblemFromBelow
from glitchflow_api.settings import GatewaySettings
from gwwire.datastore import FROZEN_TEXT, BufferStats, Description, FreezeOutcome, Names, Outcome
from gwwire.problems import PROBLEM_TYPE

T = TypeVar("T")

_JSON = "application/json"
_CONNECTIONS = 128
#: dslogic waits 30 s for the buffer's answer, and says so; the gateway waits a little longer to hear it.
_TIMEOUT = aiohttp.ClientTimeout(total=75, sock_connect=3)
#: Shorter than dslogic keeps an idle connection, so that none is closed at the moment it is used.
_IDLE_SECONDS = 30


class Reply(NamedTuple):
    """What dslogic answered, undecoded."""

    status: int
    content_type: str
    body: bytes


class LogicClient:
    """Speaks to dslogic over one pool of connections.

    Every method raises LogicUnreachable, LogicSilent or LogicIncoherent where there is no proper answer, and
    ProblemFromBelow where the answer is a problem.
    """

    def __init__(self, session: aiohttp.ClientSession, settings: GatewaySettings) -> None:
        self._session = session
        self._settings = settings

    async def stats(self) -> BufferStats:
        """Give the counts of the batch in hand."""
        return _decode(await self.get(self._settings.DS_STAT), BufferStats)

    async def names(self) -> Names:
        """Give the file names of the batch in hand."""
        return _decode(await self.get(self._settings.DS_DUMPF), Names)

    async def description(self) -> Description:
        """Give the state and the holder."""
        return _decode(await self.get(self._settings.DS_DESC), Description)

    async def stream(self, segment: bytes) -> Outcome | None:
        """Store a segment, passed on as it came; None: the datastore is frozen."""
        reply = await self._request("POST", self._settings.DS_SEND, segment)
        if reply.status == HTTPStatus.SERVICE_UNAVAILABLE and reply.body == FROZEN_TEXT.encode():
            return None
        return _decode(_expect(reply, HTTPStatus.CREATED), Outcome)

    async def freeze(self, order: bytes) -> FreezeOutcome | None:
        """Freeze the batch; None: it has to wait for more data."""
        reply = await self._request("POST", self._settings.DS_FREEZE, order)
        if reply.status == HTTPStatus.OK:
            return None
        return _decode(_expect(reply, HTTPStatus.CREATED), FreezeOutcome)

    async def flush(self) -> Outcome:
        """Archive the batch."""
        reply = await self._request("POST", self._settings.DS_FLUSH)
        return _decode(_expect(reply, HTTPStatus.CREATED), Outcome)

    async def get(self, path: str) -> Reply:
        """Read one of dslogic's routes."""
        return _expect(await self._request("GET", path), HTTPStatus.OK)

    async def _request(self, method: str, path: str, body: bytes | None = None) -> Reply:
        url = self._settings.DS_BURL + path
        headers = {"Content-Type": _JSON} if body is not None else {}
        try:
            async with self._session.request(method, url, data=body, headers=headers) as response:
                reply = Reply(response.status, response.content_type, await response.read())
        except TimeoutError as error:
            raise LogicSilent(f"dslogic at {self._settings.DS_BURL} did not answer in time") from error
        except aiohttp.ClientConnectorError as error:
            raise LogicUnreachable(f"dslogic at {self._settings.DS_BURL} cannot be reached") from error
        except aiohttp.ClientError as error:
            message = f"the connection to dslogic at {self._settings.DS_BURL} broke before it answered"
            raise LogicUnreachable(message) from error
        if reply.content_type == PROBLEM_TYPE:
            raise ProblemFromBelow(reply.status, reply.body, response.headers.get("Retry-After"))
        return reply


@asynccontextmanager
async def open_logic_client(settings: GatewaySettings) -> AsyncIterator[LogicClient]:
    """Give a client, and close its connections afterwards."""
    connector = aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=_IDLE_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session:
        yield LogicClient(session, settings)


def _expect(reply: Reply, status: HTTPStatus) -> Reply:
    if reply.status != status:
        raise LogicIncoherent(f"dslogic answered {reply.status} instead of {status.value}")
    return reply


def _decode(reply: Reply, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(reply.body, type=shape)
    except msgspec.DecodeError as error:
        raise LogicIncoherent(f"dslogic answered what is no {shape.__name__}") from error
