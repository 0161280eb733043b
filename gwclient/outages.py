"""Reads from packs, of which many fail in a row if a tier or a service does: one is retried, and the rest given up."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gwclient.connection import GatewayConnection
from gwclient.errors import GatewayError, GatewayRefused, GatewayUnavailable, OnTape
from gwwire.problems import ProblemCode

#: Failures in a row after which what they concern is given up.
_MOST_IN_A_ROW = 8
#: Problems of all that was archived together: a batch, or the files of a transaction.
_OF_PACKS = frozenset({ProblemCode.TIER_FAILED, ProblemCode.ON_TAPE})
#: Problems that a single file may have, so that the others can be read.
_OF_FILES = frozenset({ProblemCode.VOLUME_FAILED, ProblemCode.DIGEST_MISMATCH})
#: The name of what is not one pack: the service.
_SERVICE = ""


T = TypeVar("T")


class PackReads:
    """Requests for what is in packs, of which many are made at a time.

    Of failures in a row for the same reason, only the first is retried. If they concern a whole pack, or the service,
    the rest of it is not requested any more, and has the first of these failures. Bytes on tape are such a failure
    unless they are waited for.
    """

    def __init__(self, connection: GatewayConnection, *, waits_for_tape: bool) -> None:
        self._connection = connection
        self._waits_for_tape = waits_for_tape
        self._outages = Outages()
        self._retrying = asyncio.Lock()

    def given_up(self, pack: str) -> GatewayError | None:
        """Return why nothing of a pack is requested any more, or None."""
        return self._outages.given_up(pack)

    async def read(self, pack: str, once: Callable[[], Awaitable[T]]) -> T:
        """Return what `once` returns, which makes one request, or raise the error."""
        if error := self.given_up(pack):
            raise error
        try:
            found = await self._try_once_or_retry(pack, once)
        except GatewayError as error:
            if not (self._waits_for_tape and isinstance(error, OnTape)):
                self._outages.note_failure(pack, error)
            raise
        self._outages.note_success(pack)
        return found

    async def _try_once_or_retry(self, pack: str, once: Callable[[], Awaitable[T]]) -> T:
        try:
            return await once()
        except GatewayUnavailable as failure:
            async with self._retrying:  # the others then know whether it was in vain
                if first := self._outages.first_like(pack, failure):
                    raise (first if is_general(first) else failure) from failure
                return await self._connection.with_retries(once, failure=failure)


class Outages:
    """The failures in a row of each pack, which is named by its batch or transaction, and of the service."""

    def __init__(self) -> None:
        self._failures: dict[str, list[GatewayError]] = {}

    def note_success(self, pack: str) -> None:
        """Forget the failures of a pack from which bytes came, and those of the service."""
        self._failures.pop(pack, None)
        self._failures.pop(_SERVICE, None)

    def note_failure(self, pack: str, error: GatewayError) -> None:
        """Count a failure after all tries; what a retry would not change in one segment or file does not count."""
        if not (isinstance(error, GatewayUnavailable) or concerns_pack(error)):
            return
        if not self.first_like(pack, error):
            self._failures[_scope(pack, error)] = []
        self._failures[_scope(pack, error)].append(error)

    def first_like(self, pack: str, error: GatewayError) -> GatewayError | None:
        """Return the first of the failures in a row of a pack, or of the service, if they are of the same kind."""
        known = self._failures.get(_scope(pack, error), [])
        return known[0] if known and _code(known[0]) == _code(error) else None

    def given_up(self, pack: str) -> GatewayError | None:
        """Return the first of many failures in a row, after which no more requests are made; or None."""
        for scope in (pack, _SERVICE):
            known = self._failures.get(scope, [])
            if known and len(known) >= _limit(known[0]):
                return known[0]
        return None


def concerns_pack(error: GatewayError) -> bool:
    """Return whether an error is one of all that was archived together."""
    return _code(error) in _OF_PACKS


def is_general(error: GatewayError) -> bool:
    """Return whether an error is one of all that was archived together, or of the service."""
    is_of_service = isinstance(error, GatewayUnavailable) and error.code not in _OF_FILES
    return is_of_service or concerns_pack(error)


def _limit(error: GatewayError) -> float:
    if not is_general(error):
        return float("inf")
    return 1 if _code(error) == ProblemCode.ON_TAPE else _MOST_IN_A_ROW


def _scope(pack: str, error: GatewayError) -> str:
    return pack if concerns_pack(error) else _SERVICE


def _code(error: GatewayError) -> str:
    return error.code if isinstance(error, GatewayRefused | GatewayUnavailable) else ""
