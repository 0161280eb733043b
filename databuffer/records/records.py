"""Records and steps: reads in worker threads, writes in the ingest queue, durable when they are answered.

Writes that wait at the same time share one transaction, so that many workers cost one sync.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec
import sqlalchemy as sa

from databuffer import metrics
from databuffer.errors import NotFound
from databuffer.ingest.pipeline import Ingest
from databuffer.queries import Queries
from databuffer.records import steps, table
from databuffer.records.backlog import Backlog, declaration_of, waiting
from databuffer.records.conditions import merged
from databuffer.records.declaration import Declaration
from databuffer.records.overview import overview
from databuffer.records.preconditions import ALWAYS, Preconditions
from databuffer.records.scan import Look, Scan
from databuffer.records.selection import SEGMENT_KIND, Selection
from databuffer.search.clauses import SEGMENT_RECORD
from databuffer.state import State
from databuffer.storage.clock import steady_ns
from databuffer.storage.store import Store
from gwwire.problems import ProblemError
from gwwire.records import (
    GOOD,
    Record,
    RecordContent,
    RecordPatch,
    Step,
    StepClaim,
    StepEnd,
    Steps,
    kind_of,
)

T = TypeVar("T")

#: A claim that waits looks again at most so often.
_LOOK_SECONDS = 0.05
#: A claim that waits looks so often whether its caller has left.
_GONE_SECONDS = 5
#: Counts that cost more CPU time are returned again for so many times as long.
_LONG_COUNT_SECONDS, _COUNT_AGAIN = 0.02, 20
#: Each ends early only if other workers took what was there, or declare the step in another way.
_MOST_TRIES = 20


class _Meta(msgspec.Struct, frozen=True):
    meta: dict[str, Any] = {}


@dataclass(slots=True, eq=False)
class _Write(Generic[T]):
    """A change to make at a time by `steady_ns`, which writes nothing if it raises a ProblemError; its outcome."""

    change: Callable[[sa.Connection, int], T]
    result: Any = None
    error: Exception | None = None

    def run(self, connection: sa.Connection, now: int) -> None:
        try:
            self.result = self.change(connection, now)
        except ProblemError as error:
            self.error = error

    def answer(self) -> T | ProblemError:
        return self.error if isinstance(self.error, ProblemError) else self.outcome()

    def outcome(self) -> T:
        if self.error is not None:
            raise self.error
        result: T = self.result
        return result


class Records:
    """Records of everything with a name, and the steps that workers perform on them.

    Every method raises VolumeError if the volume rejects it, and InvalidRequest for an id that is not KIND/NAME.
    """

    def __init__(self, store: Store, state: State, ingest: Ingest, queries: Queries) -> None:
        self._store = store
        self._state = state
        self._ingest = ingest
        self._queries = queries
        self.stopping = False
        self._writes: deque[_Write[Any]] = deque()
        #: The last counts of the steps, and until when they are returned.
        self._counting = asyncio.Lock()
        self._counted = Steps([])
        self._counted_until = 0.0
        #: As they were seen last, each with the generation of the database.
        self._backlogs: dict[str, tuple[int, Backlog]] = {}

    async def get(self, record: str) -> Record:
        """Return a record, a segment's with its `meta` as conditions; or raise NotFound."""
        kind_of(record)
        found = await self._find(record)
        if found is None:
            raise NotFound(f"there is no record {record!r}")
        return msgspec.structs.replace(found, conditions=await self._conditions(found))

    async def find(self, wanted: Selection, after: int, limit: int) -> list[Record]:
        """Return the first `limit` records that a filter selects after a seq, in the order of their last changes.

        Raise SeqAhead for a seq that nothing has reached.
        """

        def find(connection: sa.Connection) -> list[Record]:
            table.check_seq(connection, after, "after")
            return table.find(connection, wanted, after, limit)

        return await self._queries.read(find)

    async def changes(self, scan: Scan, since: int, limit: int) -> tuple[list[Record], Look]:
        """Return the first `limit` records that changed after a seq; the look may end early, see `Scan.look`.

        Raise SeqAhead for a seq that nothing has reached.
        """

        def look(connection: sa.Connection) -> tuple[list[Record], Look]:
            table.check_seq(connection, since)
            seen = scan.look(connection, since, limit)
            return table.in_order(connection, [record for _, record in seen.found]), seen

        return await self._queries.read(look)

    async def check_seq(self, since: int) -> None:
        """Raise SeqAhead for a seq that nothing has reached."""
        await self._queries.read(lambda connection: table.check_seq(connection, since))

    def next_change(self, scan: Scan) -> asyncio.Future[None]:
        """Return a future of the next change that a scan can find."""
        return self._ingest.next_change(segments=scan.segments)

    def stop_waiting(self) -> None:
        """Answer every request that waits for a change, and let none wait from now on: the service is stopping."""
        self.stopping = True
        self._ingest.announce_change(segments=True)
        self._ingest.announce_change(segments=False)

    async def put(self, record: str, content: RecordContent, given: Preconditions = ALWAYS) -> Record:
        """Replace what was written to a record, or create it; raise RecordChanged if it is not the one expected."""
        kind_of(record)

        def change(present: Record | None) -> table.Content:
            given.check(present)
            return content.status, content.run, content.conditions

        return await self._write(lambda connection, now: table.write(connection, record, change, now))

    async def patch(self, record: str, patch: RecordPatch, given: Preconditions = ALWAYS) -> Record:
        """Apply a merge patch to a record, or create it; raise RecordChanged if it is not the one expected."""
        return await self._write(await self._patching(record, patch, given))

    async def patch_all(self, patches: Sequence[tuple[str, RecordPatch]]) -> list[Record | ProblemError]:
        """Apply many patches; return the record or the error of each, in their order."""
        writes: list[_Write[Record] | ProblemError] = []
        for record, patch in patches:
            try:
                writes.append(_Write(await self._patching(record, patch)))
            except ProblemError as error:
                writes.append(error)
        await self._write_all([write for write in writes if isinstance(write, _Write)])
        return [write if isinstance(write, ProblemError) else write.answer() for write in writes]

    async def claim(
        self, step: str, order: StepClaim, gone: Callable[[], Awaitable[bool]] | None = None
    ) -> list[Record]:
        """Declare a step, and lease records that wait for it to a worker; wait for one as long as the order says.

        Nothing is leased to a caller that is `gone`. Raise InvalidRequest if the step waits for itself.
        """
        loop = asyncio.get_running_loop()
        stop, declaration = loop.time() + order.wait, declaration_of(order)
        while True:
            backlog = self._backlog(step, declaration)
            began, change = loop.time(), self.next_change(backlog.scan)
            found, pause = await self._try_to_claim(backlog, order, gone)
            if found or self.stopping or loop.time() >= stop or (gone and await gone()):
                return found
            await asyncio.wait([change], timeout=min(pause, stop - loop.time(), _GONE_SECONDS))
            await asyncio.sleep(min(began + _LOOK_SECONDS, stop) - loop.time())

    async def end(self, record: str, step: str, order: StepEnd) -> Record:
        """Renew or end the attempt of a worker; raise NotFound or StepSuperseded."""
        kind_of(record)
        return await self._write(lambda connection, now: steps.end(connection, record, step, order, now))

    async def redo(self, record: str, step: str) -> Record:
        """Reopen a step of a record and those that depend on it; raise NotFound if it was never claimed."""
        kind_of(record)
        return await self._write(lambda connection, now: steps.redo(connection, record, step, now))

    async def forget(self, step: str) -> Steps:
        """Remove a step that nobody performs any more, and return the others; raise NotFound or StepRunning.

        A worker that claims records for it declares it again.
        """
        await self._write(lambda connection, now: steps.forget(connection, step, now))
        self._backlogs.pop(step, None)
        self._counted_until = 0
        metrics.forget_step(step)
        return await self.steps()

    async def request(self, record: str, step: str) -> Record:
        """Request a step on a record, again if it was performed; raise NotFound if there is no such record."""
        kind_of(record)
        return await self._write(partial(_request, record=record, step=step))

    async def request_all(self, records: Iterable[str], step: str) -> None:
        """Request a step on some records in one transaction; those that do not exist are left out."""
        writes = [_Write(partial(_request, record=record, step=step)) for record in records]
        await self._write_all(writes)
        for write in writes:
            write.answer()

    async def take_over(self, step: str, order: StepClaim) -> None:
        """Declare one of the datastore's own steps, and fail the attempts of an earlier process at it.

        There is one process: the volume is locked.
        """

        def is_due(connection: sa.Connection) -> bool:
            known = table.declarations(connection).get(step)
            left = steps.running(connection, step) or steps.requested_later(connection, step, steady_ns())
            return known != declaration_of(order) or bool(left)

        def take(connection: sa.Connection, now: int) -> None:
            steps.declare(connection, step, order)
            steps.fail_running(connection, step, now)
            steps.make_due(connection, step, now)

        if await self._queries.read(is_due):
            await self._write(take)

    async def steps_named(self, step: str, records: Sequence[str] | None = None) -> dict[str, Step]:
        """Return one step of each record that has it, of all records or of these."""
        return await self._queries.read(lambda connection: table.steps_named(connection, step, records))

    async def steps(self) -> Steps:
        """Return all declared steps with their counts.

        Waiting records are counted one by one. Counts that took long are returned again for a time, so that callers
        who ask often cost at most a twentieth of a CPU.
        """
        loop = asyncio.get_running_loop()
        async with self._counting:
            if loop.time() >= self._counted_until:
                self._counted, cost = await self._queries.read(self._count)
                self._counted_until = loop.time() + (_COUNT_AGAIN * cost if cost > _LONG_COUNT_SECONDS else 0)
            return self._counted

    def _count(self, connection: sa.Connection) -> tuple[Steps, float]:
        """Return the steps with their counts, and the seconds of CPU time that it took."""
        began = time.thread_time()
        return overview(connection, self._backlog, steady_ns()), time.thread_time() - began

    # ---- claims

    async def _try_to_claim(
        self, backlog: Backlog, order: StepClaim, gone: Callable[[], Awaitable[bool]] | None
    ) -> tuple[list[Record], float]:
        """Return the claimed records; if there are none, also the seconds until one may become available."""

        def claim(connection: sa.Connection, now: int) -> tuple[list[Record], int]:
            steps.declare(connection, backlog.step, order)
            return steps.claim(connection, order, backlog, now)

        for _ in range(_MOST_TRIES):
            pause = 0.0 if backlog.plenty else await self._queries.read(lambda connection: _pause(connection, backlog))
            if pause > 0 or (gone and await gone()):
                return [], pause
            found, floor = await self._write(claim)
            backlog.raise_floor(floor)
            backlog.plenty = len(found) == order.limit
            if found:
                return found, 0
        return [], 0

    def _backlog(self, step: str, declaration: Declaration) -> Backlog:
        """Return the cached backlog of a step, or a new one if its declaration or the database has changed."""
        generation = self._store.catalog.database.generation
        since, known = self._backlogs.get(step, (generation, None))
        if known is None or known.declaration != declaration or since != generation:
            known = Backlog(step, declaration)
            self._backlogs[step] = generation, known
        return known

    # ---- reads and writes

    async def _find(self, record: str) -> Record | None:
        return (await self._queries.read(lambda connection: table.load(connection, [record]))).get(record)

    async def _conditions(self, record: Record) -> dict[str, Any]:
        """Return the conditions of a record; those of a segment come from its file until others are written."""
        if record.conditions is not None:
            return record.conditions
        file = await self._queries.segment_file(record.id.removeprefix(SEGMENT_RECORD))
        with file:
            content = await asyncio.to_thread(file.read)
        return msgspec.json.decode(content, type=_Meta).meta

    async def _patching(
        self, record: str, patch: RecordPatch, given: Preconditions = ALWAYS
    ) -> Callable[[sa.Connection, int], Record]:
        meta: dict[str, Any] = {}
        if kind_of(record) == SEGMENT_KIND and patch.conditions and (found := await self._find(record)):
            meta = await self._conditions(found)

        def change(present: Record | None) -> table.Content:
            given.check(present)
            present = present or Record(record, "", 0, 0, conditions={})
            status = present.status if patch.status is msgspec.UNSET else patch.status or GOOD
            run = present.run if patch.run is msgspec.UNSET else patch.run
            if patch.conditions is None:
                return status, run, {}
            if patch.conditions is msgspec.UNSET:
                return status, run, present.conditions
            return (
                status,
                run,
                merged(meta if present.conditions is None else present.conditions, patch.conditions),
            )

        return lambda connection, now: table.write(connection, record, change, now)

    async def _write(self, change: Callable[[sa.Connection, int], T]) -> T:
        write = _Write(change)
        await self._write_all([write])
        return write.outcome()

    async def _write_all(self, writes: Sequence[_Write[Any]]) -> None:
        self._writes.extend(writes)
        await self._ingest.perform(self._commit)

    def _commit(self) -> None:
        """Make all waiting changes in one transaction, on the commit thread."""
        writes = [self._writes.popleft() for _ in range(len(self._writes))]
        if not writes:  # an earlier order made them
            return
        try:
            self._state.run(partial(self._run, writes))
        except Exception as error:  # noqa: BLE001 (the request of each write raises it)
            for write in writes:
                write.error = error
        self._store.ledger_backup_due()

    def _run(self, writes: Sequence[_Write[Any]]) -> None:
        with self._store.catalog.database.writing_synced() as connection, table.remembering_declarations(connection):
            for write in writes:
                write.run(connection, steady_ns())


def _request(connection: sa.Connection, now: int, record: str, step: str) -> Record:
    return steps.request(connection, record, step, now)


def _pause(connection: sa.Connection, backlog: Backlog) -> float:
    """Return the seconds until a record may become available; 0 if one is, or if the step must be declared."""
    step = backlog.step
    if table.declarations(connection).get(step) != backlog.declaration:
        return 0
    now = steady_ns()
    if steps.due(connection, step, 1, now):
        return 0
    first = steps.first_due(connection, step)
    found, floor = waiting(connection, backlog, 1)
    backlog.raise_floor(floor)
    return 0 if found else (first - now) / 10**9 if first is not None else float("inf")
