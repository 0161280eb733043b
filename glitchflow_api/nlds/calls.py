"""The routes of holdings and transactions, called for a user: the same ones that the gateway relays for gwclient."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from glitchflow_api.logic_client import LogicClient, caller_headers
from gwservice.upstream import UpstreamInvalid, UpstreamProblem
from gwservice.upstream_connection import header_lines
from gwwire.holdings import (
    FilePage,
    FileState,
    Holding,
    HoldingFile,
    HoldingPage,
    HoldingPatch,
    Transaction,
    TransactionMade,
    TransactionOrder,
    TransactionPage,
    Upload,
)
from gwwire.problems import Problem, ProblemCode, ProblemError

T = TypeVar("T")

#: The errors of a call without an answer, or with a problem as the answer.
CALL_FAILED = (ProblemError, UpstreamProblem)
#: Problems that may be over when a call is repeated.
_PASSING = frozenset(
    {ProblemCode.UPSTREAM_UNREACHABLE, ProblemCode.UPSTREAM_TIMEOUT, ProblemCode.UPSTREAM_INVALID}
    | {ProblemCode.QUEUE_FULL, ProblemCode.TOO_MANY_CONNECTIONS, ProblemCode.VOLUME_FAILED, ProblemCode.TIER_FAILED}
)
#: Repetitions of a call, and the s before the first one and at most; together about five minutes.
_REPETITIONS, _FIRST_WAIT, _LONGEST_WAIT = 14, 0.5, 30.0
#: s until bytes on tape are asked for again, if the answer does not say it.
_TAPE_SECONDS = 10.0
_LARGEST_PAGE = 1000
_JSON = b"content-type: application/json\r\n"


class HoldingCalls:
    """Calls dslogic for a user of a group; every method raises what `LogicClient` does."""

    def __init__(self, logic: LogicClient, user: str, group: str | None) -> None:
        self._logic, self._upstream = logic, logic.files
        self._caller = caller_headers(user, group)

    async def holding(self, number: int) -> Holding:
        """Return a holding."""
        return await self._ask("GET", f"/holdings/{number}", Holding)

    async def holdings(self, limit: int | None = None, **filters: Any) -> AsyncIterator[Holding]:
        """Yield the holdings that the user may read and the filters of the route select; at most `limit`."""
        async for page in self._pages("/holdings", HoldingPage, filters):
            for each in page.holdings:
                if limit == 0:
                    return
                limit = limit and limit - 1
                yield each

    async def patch(self, number: int, changes: HoldingPatch) -> Holding:
        """Change label and tags of a holding."""
        return await self._ask("PATCH", f"/holdings/{number}", Holding, msgspec.json.encode(changes))

    async def files(self, number: int, **filters: Any) -> AsyncIterator[HoldingFile]:
        """Yield the complete files of a holding that the filters of the route select, by path."""
        async for page in self._pages(f"/holdings/{number}/files", FilePage, filters):
            for each in page.files:
                if each.state is FileState.COMPLETE:
                    yield each

    async def transaction(self, identity: str) -> Transaction:
        """Return a transaction."""
        return await self._ask("GET", f"/transactions/{quote(identity, safe='')}", Transaction)

    async def transactions(self, **filters: Any) -> AsyncIterator[Transaction]:
        """Yield the transactions that the user may read and the filters of the route select."""
        async for page in self._pages("/transactions", TransactionPage, filters):
            for each in page.transactions:
                yield each

    async def files_of(self, identity: str) -> AsyncIterator[HoldingFile]:
        """Yield the files that a transaction put, by path."""
        async for page in self._pages(f"/transactions/{quote(identity, safe='')}/files", FilePage, {}):
            for each in page.files:
                yield each

    async def begin(self, order: TransactionOrder) -> TransactionMade:
        """Begin to put files into a holding; an order with the same id is carried out once."""
        return await self._ask("POST", "/transactions", TransactionMade, msgspec.json.encode(order), HTTPStatus.CREATED)

    async def progress(self, transaction: str, path: str) -> Upload:
        """Return how much of a file has arrived."""
        return await self._ask("GET", _file_of("transactions", transaction, path), Upload)

    async def send(self, transaction: str, path: str, piece: bytes, offset: int, digest: str | None) -> Upload:
        """Send bytes of a file from an offset on; with the last ones comes the digest of all, for `Repr-Digest`."""
        headers = [(b"content-type", b"application/octet-stream"), (b"upload-offset", b"%d" % offset)]
        headers += [(b"repr-digest", digest.encode())] if digest else []
        target = _file_of("transactions", transaction, path).encode()
        answer = await self._upstream.request(b"PUT", target, header_lines(headers) + self._caller, [piece])
        return self._upstream.decode(answer, HTTPStatus.OK, Upload)

    async def give_up(self, transaction: str, path: str, reason: str) -> Upload:
        """Fail a file that still waits for bytes."""
        query = urlencode({"reason": reason[:500]})
        return await self._ask("DELETE", f"{_file_of('transactions', transaction, path)}?{query}", Upload)

    async def content(self, file: HoldingFile, start: int) -> AsyncIterator[bytes]:
        """Yield the bytes of a file from `start` on."""
        tag = f'"{file.sha256}"'
        wanted = [(b"range", b"bytes=%d-" % start), (b"if-range", tag.encode())] if start else []
        expected = HTTPStatus.PARTIAL_CONTENT if start else HTTPStatus.OK
        target = _file_of("holdings", file.holding, file.path).encode()
        async with aclosing(self._upstream.converse(b"GET", target, header_lines(wanted) + self._caller)) as answers:
            async for answer in answers:
                if answer.status != expected:
                    if answer.complete:
                        self._upstream.decode(answer, expected, Any)
                elif answer.header(b"etag") != tag:
                    raise UpstreamInvalid(f"{file.path} of holding {file.holding} is another file now")
                elif piece := answer.take():
                    yield piece

    async def _ask(
        self, method: str, target: str, shape: type[T], body: bytes | None = None, status: HTTPStatus = HTTPStatus.OK
    ) -> T:
        headers, pieces = (b"", []) if body is None else (_JSON, [body])
        answer = await self._upstream.request(method.encode(), target.encode(), headers + self._caller, pieces)
        return self._upstream.decode(answer, status, shape)

    async def _pages(self, target: str, shape: type[T], filters: dict[str, Any]) -> AsyncIterator[T]:
        given = {name: _text(value) for name, value in filters.items() if value is not None}
        while True:
            page: Any = await self._ask("GET", f"{target}?{urlencode({**given, 'limit': _LARGEST_PAGE})}", shape)
            yield page
            if not page.more:
                return
            given["after"] = str(page.after)


class Patience:
    """Waits between repetitions of a call that failed, each time longer; at last it raises the error."""

    def __init__(self) -> None:
        self._failures = 0

    async def wait_or_raise(self, error: Exception, on_tape: Callable[[], object] = lambda: None) -> None:
        """Wait if a repetition may succeed, or raise the error; bytes that are on tape are waited for without limit."""
        code = code_of(error)
        if code == ProblemCode.ON_TAPE:
            on_tape()
            await asyncio.sleep(_retry_after(error) or _TAPE_SECONDS)
            return
        if code not in _PASSING or self._failures == _REPETITIONS:
            raise error
        await asyncio.sleep(min(_FIRST_WAIT * 2**self._failures, _LONGEST_WAIT))
        self._failures += 1


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Return the answer of a call, which is repeated while the reason of its failure may pass."""
    patience = Patience()
    while True:
        try:
            return await call()
        except CALL_FAILED as error:
            await patience.wait_or_raise(error)


def code_of(error: Exception) -> str:
    """Return the code of the problem that a call met."""
    return error.code if isinstance(error, ProblemError) else _problem(error).code


def detail_of(error: Exception) -> str:
    """Return the detail of the problem that a call met."""
    return error.detail if isinstance(error, ProblemError) else _problem(error).detail


def _problem(error: Exception) -> Problem:
    assert isinstance(error, UpstreamProblem)  # noqa: S101 (the other of CALL_FAILED)
    return msgspec.json.decode(error.answer.body(), type=Problem)


def _retry_after(error: Exception) -> float | None:
    if isinstance(error, ProblemError):
        return error.retry_after
    assert isinstance(error, UpstreamProblem)  # noqa: S101 (the other of CALL_FAILED)
    given = error.answer.header(b"retry-after") or ""
    return float(given) if given.isdecimal() else None


def _file_of(kind: str, identity: int | str, path: str) -> str:
    return f"/{kind}/{identity}/files/{quote(path[1:])}"


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
