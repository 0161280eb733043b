"""The only code that calls dslogic."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

import aiohttp
import msgspec
from yarl import URL

from glitchflow_api.errors import LogicIncoherent, LogicSilent, LogicUnreachable, ProblemFromBelow
from glitchflow_api.settings import GatewaySettings
from gwwire.datastore import FROZEN_TEXT, BufferStats, Description, FreezeOutcome, Names, Outcome
from gwwire.problems import PROBLEM_TYPE

T = TypeVar("T")

_JSON = {"Content-Type": "application/json"}
_CONNECTIONS = 128
#: dslogic waits 30 s for the buffer's answer, and says so; the gateway waits a little longer to hear it.
_TIMEOUT = aiohttp.ClientTimeout(total=75, sock_connect=3)
#: For a body that comes and an answer that goes as long as somebody sends: only silence ends it.
_PATIENT = aiohttp.ClientTimeout(total=None, sock_connect=3, sock_read=75)
#: Shorter than dslogic keeps an idle connection, so that none is closed at the moment it is used.
_IDLE_SECONDS = 30


class Reply(NamedTuple):
    """What dslogic answered, undecoded."""

    status: int
    headers: Mapping[str, str]
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

    async def stream(self, segment: bytes, headers: Mapping[str, str]) -> Outcome | None:
        """Store a segment, passed on as it came; None: the datastore is frozen."""
        reply = await self._request("POST", self._settings.DS_SEND, segment, headers)
        if reply.status == HTTPStatus.SERVICE_UNAVAILABLE and reply.body == FROZEN_TEXT.encode():
            return None
        return _decode(_expect(reply, HTTPStatus.CREATED), Outcome)

    async def stream_lines(self, chunks: AsyncIterator[bytes], headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        """Store many segments, passed on as they come; gives the lines of the answer as they come."""
        async with self._asking("POST", self._settings.DS_SEND, chunks, headers, _PATIENT) as response:
            if response.status != HTTPStatus.OK:
                raise LogicIncoherent(f"dslogic answered {response.status} instead of 200")
            async for part in response.content.iter_any():
                yield part

    async def freeze(self, order: bytes) -> FreezeOutcome | None:
        """Freeze the batch; None: it has to wait for more data."""
        reply = await self._request("POST", self._settings.DS_FREEZE, order, _JSON)
        if reply.status == HTTPStatus.OK:
            return None
        return _decode(_expect(reply, HTTPStatus.CREATED), FreezeOutcome)

    async def flush(self) -> Outcome:
        """Archive the batch."""
        reply = await self._request("POST", self._settings.DS_FLUSH)
        return _decode(_expect(reply, HTTPStatus.CREATED), Outcome)

    async def thaw(self, order: bytes) -> Outcome:
        """Open the frozen batch again, for its holder; the order is passed on as it came."""
        reply = await self._request("POST", self._settings.DS_THAW, order, _JSON)
        return _decode(_expect(reply, HTTPStatus.CREATED), Outcome)

    async def batches(self, rest: str = "") -> Reply:
        """Read about the batches, one of them (`/ID`), or its manifest (`/ID/manifest`)."""
        return await self.get(self._settings.DS_BATCHES + quote(rest))

    async def segments(self, query: Mapping[str, Any]) -> Reply:
        """Read a page of segments."""
        return await self.get(f"{self._settings.DS_SEGMENTS}?{urlencode(query)}")

    async def segment(self, name: str, headers: Mapping[str, str]) -> Reply:
        """Read a segment's file, or a range of it."""
        return await self._request("GET", f"{self._settings.DS_SEGMENTS}/{quote(name, safe='')}", None, headers)

    async def get(self, path: str) -> Reply:
        """Read one of dslogic's routes."""
        return _expect(await self._request("GET", path), HTTPStatus.OK)

    async def _request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        async with self._asking(method, path, body, headers or {}, _TIMEOUT) as response:
            return Reply(response.status, response.headers, await response.read())

    @asynccontextmanager
    async def _asking(
        self,
        method: str,
        path: str,
        body: bytes | AsyncIterator[bytes] | None,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 (what aiohttp takes)
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        # Already encoded: what is quoted in a path must reach dslogic as it is.
        url = URL(self._settings.DS_BURL + path, encoded=True)
        address = self._settings.DS_BURL
        try:
            async with self._session.request(method, url, data=body, headers=headers, timeout=timeout) as response:
                if response.content_type == PROBLEM_TYPE:
                    retry_after = response.headers.get("Retry-After")
                    raise ProblemFromBelow(response.status, await response.read(), retry_after)
                yield response
        except TimeoutError as error:
            raise LogicSilent(f"dslogic at {address} did not answer in time") from error
        except aiohttp.ClientConnectorError as error:
            raise LogicUnreachable(f"dslogic at {address} cannot be reached") from error
        except aiohttp.ClientError as error:
            raise LogicUnreachable(f"the connection to dslogic at {address} broke before it answered") from error


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
