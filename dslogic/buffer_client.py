"""dslogic's calls of the buffer for requests that need a rule; everything else is relayed."""

from collections.abc import AsyncIterator, Collection
from functools import partial
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import quote

import msgspec

from dslogic.settings import LogicSettings
from gwservice.security import CallerSecret
from gwservice.upstream import Upstream
from gwservice.upstream_connection import Answer
from gwwire.datastore import FreezeOrder, Replicas
from gwwire.overview import Overview
from gwwire.problems import Problem, ProblemCode
from gwwire.public import Stats
from gwwire.records import LONGEST_WAIT, Record, RecordPage
from gwwire.tiering import BatchReplicas, Tiering, TierOverview, Tiers

T = TypeVar("T")

_JSON = b"content-type: application/json\r\n"
_ANSWER_SECONDS = 30.0
#: The gateway waits 5 s for dslogic when it is asked whether it is ready.
_READY_SECONDS = 3.0
_CONNECTIONS, _MOST_WAITING = 256, 1024


class BufferClient:
    """Calls the buffer; every method raises the errors of `Upstream`."""

    def __init__(self, settings: LogicSettings, *, answer_seconds: float = _ANSWER_SECONDS) -> None:
        self._settings = settings
        secret = CallerSecret.load(settings.BUFFER_SECRET_FILE, "dslogic", "BUFFER_SECRET_FILE")

        upstream = partial(
            Upstream, settings.DB_BURL, "the buffer", secret=secret, setting="BUFFER_SECRET_FILE", address="DB_BURL"
        )
        waiting = partial(upstream, most=_MOST_WAITING, seconds=answer_seconds + LONGEST_WAIT)
        self.upstream = upstream(most=_CONNECTIONS, seconds=answer_seconds)
        self._probes = upstream(seconds=_READY_SECONDS)
        #: For requests that wait on purpose: none of a kind must take the connections of the others.
        self.waiting, self.files = (waiting() for _ in range(2))
        self.feeds, self.claims = (waiting(limit="dslogic") for _ in range(2))

    def close(self) -> None:
        """Close the idle connections."""
        for each in (self.upstream, self._probes, self.waiting, self.files, self.feeds, self.claims):
            each.close()

    async def check(self) -> None:
        """Raise an error unless the buffer answers soon."""
        answer = await self._probes.request(b"GET", self._settings.ENDP_STAT.encode())
        self._probes.decode(answer, HTTPStatus.OK, Stats)

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

    async def tiers(self) -> Collection[TierOverview]:
        """Return the tiers that exist, the disk among them."""
        return [tier for tier in (await self._get("/tiers", Tiers)).tiers if tier.in_tiers]

    async def replicas(self) -> Collection[BatchReplicas]:
        """Return the replicas of all archived batches."""
        return (await self._get("/replicas", Replicas)).batches

    async def replicas_of(self, batch: str) -> BatchReplicas:
        """Return the replicas of one archived batch."""
        return await self._get(f"{_path_of(batch)}/replicas", BatchReplicas)

    async def set_tiering(self, batch: str, tiering: Tiering) -> None:
        """Set the policy of an archived batch; the buffer begins with what follows from it."""
        order = [msgspec.json.encode(tiering)]
        answer = await self.upstream.request(b"PUT", f"{_path_of(batch)}/tiering".encode(), _JSON, order)
        self.upstream.decode(answer, HTTPStatus.OK, BatchReplicas)

    async def batch_records(self) -> AsyncIterator[Record]:
        """Yield the records of batches, requesting one page at a time."""
        after, more = 0, True
        while more:
            page = await self._get(f"/records?kind=batch&limit=1000&after={after}", RecordPage)
            for record in page.records:
                yield record
            after, more = page.after, page.more

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


def _path_of(batch: str) -> str:
    return f"/batches/{quote(batch, safe='')}"
