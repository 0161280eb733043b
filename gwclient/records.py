"""The gateway's routes of records, steps and the change feed as coroutines."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any
from urllib.parse import urlencode

from gwclient.answers import decode_answer
from gwclient.connection import GatewayConnection, response_error
from gwclient.errors import GatewayUnavailable
from gwclient.url_paths import url_path
from gwwire.records import (
    Mark,
    Record,
    RecordContent,
    RecordPage,
    RecordPatch,
    StepClaim,
    StepEnd,
    StepOverview,
    Steps,
    Work,
)

_OK = 200
_OBJECT = dict[str, Any]
#: s after which the feed has an empty line.
_HEARTBEAT = 30.0


class Records:
    """Records and steps over a connection; `client.records`.

    Filters are those of the routes: `kind`, `segments`, `status`, `run`, `last`, and `condition`, a list as
    `temperature<0.02`.
    Every method raises GatewayRefused for a request that is wrong or not allowed, and GatewayUnavailable if every try
    failed. `rev` is the number that the record must still have; otherwise the write is refused (412).
    """

    def __init__(self, connection: GatewayConnection) -> None:
        self._connection = connection

    async def get(self, record: str) -> Record:
        """Return a record by its id, or raise GatewayRefused (404) if there is none."""
        return await self._connection.ask("GET", _path_of(record), Record)

    async def put(self, record: str, content: RecordContent) -> Record:
        """Replace the content of a record, or create it."""
        return await self._connection.ask("PUT", _path_of(record), Record, content)

    async def patch(self, record: str, changes: RecordPatch) -> Record:
        """Change a record by a merge patch, or create it."""
        return await self._connection.ask("PATCH", _path_of(record), Record, changes)

    async def find(self, *, after: int = 0, page: int = 100, **filters: Any) -> AsyncGenerator[Record, None]:
        """Yield the records that match, in the order of their last changes, requesting one page at a time."""
        more = True
        while more:
            query = _query_of(filters, after=after, limit=page)
            answer = await self._connection.ask("GET", f"/records?{query}", RecordPage)
            for record in answer.records:
                yield record
            after, more = answer.after, answer.more

    async def changes(
        self, *, since: int = 0, follow: bool = False, **filters: Any
    ) -> AsyncGenerator[Record | Mark, None]:
        """Yield records as they change, and marks: nothing else matches up to their `seq`.

        Continue with `since`, the last seq, to miss nothing. With `follow` it does not end: after a lost connection it
        continues by itself.
        """
        failures = 0
        while True:
            try:
                async with aclosing(self._feed(since, filters, follow=follow)) as feed:
                    async for each in feed:
                        since, failures = each.seq, 0
                        yield each
                if not follow:
                    return
            except GatewayUnavailable as failure:
                failures += 1
                retry = self._connection.back_off if follow else self._connection.back_off_or_raise
                await retry(failures, failure)

    async def steps(self) -> Sequence[StepOverview]:
        """Return all steps that were declared, with their numbers of records."""
        return (await self._connection.ask("GET", "/steps", Steps)).steps

    async def claim(self, step: str, wanted: StepClaim) -> Sequence[Record]:
        """Lease records that wait for a step; `listen` of the client does all that has to follow."""
        path = url_path("steps", step, "claim")
        return (await self._connection.ask("POST", path, Work, wanted, wait=wanted.wait)).records

    async def end(self, record: str, step: str, order: StepEnd) -> Record:
        """Renew or end an attempt; raise GatewayRefused (409, `step-superseded`) if another one replaced it."""
        return await self._connection.ask("PUT", _path_of(record, step), Record, order)

    async def redo(self, record: str, step: str) -> Record:
        """Reopen a step of a record, and the steps that depend on it."""
        return await self._connection.ask("DELETE", _path_of(record, step), Record)

    async def forget(self, step: str) -> Sequence[StepOverview]:
        """Remove a step that nobody performs any more; return the others."""
        return (await self._connection.ask("DELETE", url_path("steps", step), Steps)).steps

    async def _feed(
        self, since: int, filters: Mapping[str, Any], *, follow: bool
    ) -> AsyncGenerator[Record | Mark, None]:
        feed = "continuous" if follow else "once"
        path = f"/changes?{_query_of(filters, since=since, feed=feed, heartbeat=_HEARTBEAT)}"
        timeout = self._connection.stream_timeout(_HEARTBEAT)
        async with self._connection.request("GET", path, within=timeout) as response:
            if response.status != _OK:
                raise await response_error(response)
            rest = b""
            async for part in response.content.iter_any():  # a line may be longer than aiohttp's buffer
                *lines, rest = (rest + part).split(b"\n")
                for line in filter(None, lines):
                    is_mark = decode_answer(line, _OBJECT, path).keys() == {"seq"}
                    yield decode_answer(line, Mark, path) if is_mark else decode_answer(line, Record, path)


def _path_of(record: str, step: str | None = None) -> str:
    return url_path("records", *record.split("/"), *(() if step is None else ("steps", step)))


def _query_of(filters: Mapping[str, Any], **more: Any) -> str:
    given = {name: value for name, value in filters.items() if value is not None}
    return urlencode({**given, **more}, doseq=True)
