"""dslogic's calls of the buffer for requests that need a rule; everything else is relayed."""

from http import HTTPStatus
from typing import TypeVar

import msgspec

from dslogic.settings import LogicSettings
from gwservice.security import CallerSecret
from gwservice.upstream import Upstream
from gwservice.upstream_connection import Answer
from gwwire.datastore import FreezeOrder
from gwwire.overview import Overview
from gwwire.problems import Problem, ProblemCode
from gwwire.public import Stats
from gwwire.records import LONGEST_WAIT

T = TypeVar("T")

_JSON = b"content-type: application/json\r\n"
_ANSWER_SECONDS = 30.0
_CONNECTIONS, _MOST_WAITING = 256, 1024


class BufferClient:
    """Calls the buffer; every method raises the errors of `Upstream`."""

    def __init__(self, settings: LogicSettings, *, answer_seconds: float = _ANSWER_SECONDS) -> None:
        self._settings = settings
        secret = CallerSecret.load(settings.BUFFER_SECRET_FILE, "dslogic", "BUFFER_SECRET_FILE")

        def upstream(most: int, seconds: float) -> Upstream:
            url, setting = settings.DB_BURL, "BUFFER_SECRET_FILE"
            return Upstream(url, "the buffer", most=most, seconds=seconds, secret=secret, setting=setting)

        self.upstream = upstream(_CONNECTIONS, answer_seconds)
        #: For requests that wait on purpose: they must not take the connections of the others.
        self.waiting = upstream(_MOST_WAITING, answer_seconds + LONGEST_WAIT)

    async def stats(self) -> Stats:
        """Return the counts of the current batch."""
        return await self._get(self._settings.ENDP_STAT, Stats)

    async def overview(self) -> Overview:
        """Return state, counts, channels, free space and health."""
        return await self._get("/overview", Overview)

    async def freeze(self, order: FreezeOrder) -> Answer | None:
        """Freeze the current batch; return None if it has fewer bytes than the order requires."""
        answer = await self._post(self._settings.ENDP_UPD_DESC, msgspec.json.encode(order))
        return None if refused_as(answer, ProblemCode.BATCH_CHANGED) else answer

    async def thaw(self, order: bytes) -> Answer:
        """Open the frozen batch again, for its holder; the order is passed on unchanged."""
        return await self._post("/thaw", order)

    async def clean(self, order: bytes) -> Answer:
        """Archive the batch; an order that names it is passed on unchanged."""
        return await self._post(self._settings.ENDP_CLEAN, order)

    async def _get(self, target: str, shape: type[T]) -> T:
        answer = await self.upstream.request(b"GET", target.encode())
        return self.upstream.decode(answer, HTTPStatus.OK, shape)

    async def _post(self, target: str, order: bytes) -> Answer:
        answer = await self.upstream.request(b"POST", target.encode(), _JSON if order else b"", [order])
        return self.upstream.expect_answer(answer)


def refused_as(answer: Answer, code: ProblemCode) -> bool:
    """Return whether the buffer refused a request with the problem `code`."""
    if answer.status != HTTPStatus.CONFLICT or not answer.is_problem():
        return False
    return msgspec.json.decode(answer.body(), type=Problem).code == code
