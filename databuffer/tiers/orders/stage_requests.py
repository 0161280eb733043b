"""Stage requests of the WLCG Tape REST API, as pins: one for each path, whose asker is `ID/OWNER/PATH`.

So a request survives a restart, and ends when its paths are released or RECALL_PIN after it. The pack of a pin is that
of the path; a path that was not found or was canceled has a pin without a pack. The owner is the group that made the
request, or the user without a group: for others, the request does not exist.
"""

import asyncio
import hashlib
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from functools import partial
from secrets import token_hex
from typing import NamedTuple, assert_never
from urllib.parse import unquote

import sqlalchemy as sa
from msgspec import UNSET, UnsetType

from databuffer.errors import NotFound, TooManyStaged
from databuffer.holdings import file_table, table
from databuffer.holdings.rows import Caller, FileRow
from databuffer.queries import Queries
from databuffer.storage.catalog.batches import FILES_RECORD
from databuffer.storage.catalog.database import portions
from databuffer.storage.catalog.schema import BATCHES, SEGMENTS
from databuffer.storage.clock import steady_ns
from databuffer.tiers.ledger import pins
from databuffer.tiers.moves.replica_ledger import ReplicaLedger
from databuffer.tiers.orders.orders import TierOrders
from databuffer.tiers.packs.packs import is_of_files, public_name, record_of
from databuffer.tiers.recalls.recall import Recalls
from databuffer.tiers.recalls.states import Standing
from gwwire.problems import ProblemError
from gwwire.tape import ArchiveInfo, StagedFile, StageRequest, StageState
from gwwire.tiering import BatchLocality, RecallState

log = logging.getLogger(__name__)

_PREFIX = "stage-"
#: The time for which an answer waits until the recalls of many batches have begun.
_PATIENCE_SECONDS = 5.0
#: Recalls that begin in one transaction.
_AT_ONCE = 100
#: Paths of all stage requests together.
_MOST_STAGED = 100_000
#: Digits of the id of a holding.
_LONGEST_NUMBER = 18


class _Unpinned(StrEnum):
    """The reason why a path has no pack; the table has it in place of an id. The ids of packs have a slash."""

    NOT_FOUND = "not-found"
    CANCELED = "canceled"


class _Progress(NamedTuple):
    """The progress of a file, in the order of the fields of StagedFile."""

    state: StageState
    on_disk: bool | UnsetType = UNSET
    error: str | UnsetType = UNSET


class StageRequests:
    """Pins the packs of paths and begins their recalls.

    A path is `/segments/{name}`, `/batches/{batch}`, or `/holdings/{holding}/files/{path}` of a holding that the caller
    may read.
    An error of one path is reported at that path; the others are served.
    """

    def __init__(self, queries: Queries, ledger: ReplicaLedger, orders: TierOrders, recalls: Recalls) -> None:
        self._queries = queries
        self._ledger = ledger
        self._orders = orders
        self._recalls = recalls
        #: The beginning of the recalls of requests, by request.
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def close(self) -> None:
        """Begin no more recalls; `get` goes on with it."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def begin(self, caller: Caller, paths: Sequence[str]) -> str:
        """Stage some paths, and return the id of the request; raise TooManyStaged.

        If there are many batches, the last recalls begin after the return.
        """
        request, now = _PREFIX + token_hex(16), steady_ns()
        mine, batches = _prefix(request, caller), await self._batches_of(caller, paths)
        packs = {mine + path: record_of(batches[path]) if path in batches else _Unpinned.NOT_FOUND for path in paths}

        def put(connection: sa.Connection) -> None:
            if pins.number_of(connection, _PREFIX, now) + len(packs) > _MOST_STAGED:
                raise TooManyStaged(f"{_MOST_STAGED:,} paths are staged already; release some, or wait for their end")
            pins.put_all(connection, packs, self._recalls.pinned_until(now), now)

        await self._ledger.change(put)
        askers = {batch: mine + path for path, batch in batches.items()}
        await self._begin(request, askers, again=True)
        return request

    async def _begin(self, request: str, askers: Mapping[str, str], *, again: bool) -> None:
        """Begin the recalls of some batches of a request; if there are many, the last ones after the return."""
        task = self._tasks[request] = asyncio.create_task(self._begin_all(askers, again=again))
        task.add_done_callback(lambda _: self._tasks.pop(request))
        await asyncio.wait([task], timeout=_PATIENCE_SECONDS)

    async def _begin_all(self, askers: Mapping[str, str], *, again: bool) -> None:
        try:
            batches = list(askers)
            for first in range(0, len(batches), _AT_ONCE):
                some = {batch: askers[batch] for batch in batches[first : first + _AT_ONCE]}
                await self._recalls.begin_all(some, again=again)
        except ProblemError as error:  # `get` tries again
            log.warning("recalls of a stage request cannot begin: %s", error.detail, extra={"event": "stage-error"})

    async def get(self, caller: Caller, request: str) -> StageRequest:
        """Return how far the files of a request are; raise NotFound if the caller has none, or it has ended."""
        mine, packs = _prefix(request, caller), await self._packs_of(caller, request)
        askers = {public_name(pack): mine + path for path, pack in packs.items() if "/" in pack}
        found = await self._standings(askers)
        left = {batch: askers[batch] for batch, each in found.items() if each.state is RecallState.NEARLINE}
        if left and request not in self._tasks:  # an earlier process, or an error, has left them out
            await self._begin(request, left, again=False)
            found |= await self._standings(left)
        return StageRequest(request, [StagedFile(path, *_of_file(path, pack, found)) for path, pack in packs.items()])

    async def cancel(self, caller: Caller, request: str, paths: Iterable[str]) -> None:
        """Cancel some paths of a request; paths that it does not have are ignored. Raise NotFound."""
        askers = await self._askers_of(caller, request, paths)
        await self._ledger.change(partial(pins.replace_packs, askers=askers, pack=_Unpinned.CANCELED))
        self._recalls.on_release()

    async def delete(self, caller: Caller, request: str) -> None:
        """Cancel a request and forget it; raise NotFound."""
        await self.release(caller, request, await self._packs_of(caller, request))

    async def release(self, caller: Caller, request: str, paths: Iterable[str]) -> None:
        """Release some paths of a request, if it exists."""
        with suppress(NotFound):
            askers = await self._askers_of(caller, request, paths)
            await self._ledger.change(partial(pins.release_askers, askers=askers))
            self._recalls.on_release()

    async def archive_info(self, caller: Caller, paths: Sequence[str]) -> list[ArchiveInfo]:
        """Return where the bytes of some paths are."""
        batches = await self._batches_of(caller, paths)
        where = await self._orders.localities_of(set(batches.values()))
        return [
            ArchiveInfo(path, where.get(batches[path], BatchLocality.DISK))
            if path in batches
            else ArchiveInfo(path, error=_not_found(path))
            for path in paths
        ]

    async def _standings(self, batches: Collection[str]) -> dict[str, Standing]:
        """Return how far the recalls of some batches, or packs of files by their ids, are."""
        names = [each for each in batches if not is_of_files(each)]
        there = await self._queries.read(partial(_existing_batches, batches=names))
        gone = set(names) - there
        found = await self._recalls.states.standings(set(batches) - gone)
        return found | {batch: Standing(RecallState.FAILED, f"there is no batch {batch!r}") for batch in gone}

    async def _askers_of(self, caller: Caller, request: str, paths: Iterable[str]) -> list[str]:
        """Return the askers of those paths of a request that are the same as some paths, or raise NotFound."""
        mine, wanted = _prefix(request, caller), {_parts(path) for path in paths}
        return [mine + path for path in await self._packs_of(caller, request) if _parts(path) in wanted]

    async def _packs_of(self, caller: Caller, request: str) -> dict[str, str]:
        """Return the packs of the paths of a request, or raise NotFound."""
        prefix = _prefix(request, caller)
        found = await self._queries.read(partial(pins.packs_of, prefix=prefix, now=steady_ns()))
        if not found:
            raise NotFound(f"there is no stage request {request!r}, or it has ended")
        return {asker.removeprefix(prefix): pack for asker, pack in found.items()}

    async def _batches_of(self, caller: Caller, paths: Iterable[str]) -> dict[str, str]:
        """Return the batches, or the packs of files, of those paths that exist and that the caller may read."""
        parts = {path: _parts(path) for path in paths}

        def find(connection: sa.Connection) -> dict[str, str]:
            batches = _existing_batches(connection, _names(parts, "batches"))
            segments = _batches_of_segments(connection, _names(parts, "segments"))
            known: dict[tuple[str, ...], str] = {("batches", name): name for name in batches}
            known |= {("segments", name): batch for name, batch in segments.items()}
            known |= _packs_of_files(connection, caller, parts.values())
            return {path: known[each] for path, each in parts.items() if each in known}

        return await self._queries.read(find)


def _prefix(request: str, caller: Caller) -> str:
    """Return what the askers of a request begin with; its owner is hashed, because names may be long."""
    owner = f"user {caller.user}" if caller.group is None else f"group {caller.group}"
    return f"{request}/{hashlib.sha256(owner.encode()).hexdigest()[:16]}/"


def _parts(path: str) -> tuple[str, ...]:
    """Return the parts of a path; repeated slashes count as one."""
    return tuple(part for part in path.split("/") if part)


def _not_found(path: str) -> str:
    known = "/segments/{name}, /batches/{batch} and /holdings/{holding}/files/{path}"
    return f"there is no {path!r}; paths are {known}"


def _of_file(path: str, pack: str, batches: Mapping[str, Standing]) -> _Progress:
    match pack:
        case _Unpinned.NOT_FOUND:
            return _Progress(StageState.FAILED, error=_not_found(path))
        case _Unpinned.CANCELED:
            return _Progress(StageState.CANCELED)
    batch = public_name(pack)
    match batches[batch].state:
        case RecallState.ONLINE:
            return _Progress(StageState.COMPLETED, on_disk=True)
        case RecallState.RUNNING:
            return _Progress(StageState.STARTED, on_disk=False)
        case RecallState.QUEUED | RecallState.NEARLINE:
            return _Progress(StageState.SUBMITTED, on_disk=False)
        case RecallState.FAILED:
            return _Progress(StageState.FAILED, error=batches[batch].reason or f"no replica of {batch} can be read")
    assert_never(batches[batch].state)


def _names(parts: Mapping[str, tuple[str, ...]], kind: str) -> list[str]:
    """Return the names of the paths that have two parts, of which this is the first."""
    return [each[1] for each in parts.values() if len(each) == 2 and each[0] == kind]  # noqa: PLR2004


def _packs_of_files(
    connection: sa.Connection, caller: Caller, paths: Iterable[tuple[str, ...]]
) -> dict[tuple[str, ...], str]:
    """Return the packs of the complete files at paths that a caller may read, by the parts of the paths."""
    wanted: dict[int, dict[tuple[str, ...], str]] = {}
    for parts in paths:
        match parts:
            case ("holdings", number, "files", _, *_) if number.isdecimal() and len(number) <= _LONGEST_NUMBER:
                wanted.setdefault(int(number), {})[parts] = "/" + "/".join(map(unquote, parts[3:]))
    found: dict[tuple[str, ...], FileRow] = {}
    for holding, meant in wanted.items():
        of = table.holding(connection, holding)
        if of is not None and of.deleted is None and caller.may_read(of):
            files = file_table.files_at(connection, holding, set(meant.values()))
            rows = {parts: files[path] for parts, path in meant.items() if path in files}
            found |= {parts: row for parts, row in rows.items() if row.sha256 is not None}
    ids = table.transaction_ids(connection, {row.transaction for row in found.values()})
    return {parts: FILES_RECORD + ids[row.transaction] for parts, row in found.items()}


def _batches_of_segments(connection: sa.Connection, names: Iterable[str]) -> dict[str, str]:
    """Return the batches of the newest segments with some names."""
    query = sa.select(SEGMENTS.c.name, SEGMENTS.c.batch).order_by(SEGMENTS.c.seq)
    return {
        name: batch
        for some in portions(names)
        for name, batch in connection.execute(query.where(SEGMENTS.c.name.in_(some)))
    }


def _existing_batches(connection: sa.Connection, batches: Iterable[str]) -> set[str]:
    return {
        batch
        for some in portions(batches)
        for batch in connection.execute(sa.select(BATCHES.c.id).where(BATCHES.c.id.in_(some))).scalars()
    }
