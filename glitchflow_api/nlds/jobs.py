"""NLDS' transactions: what was ordered, and how far it is; kept in a folder, so that a restart loses none."""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from enum import IntEnum
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import msgspec
from msgspec import Struct

from glitchflow_api.nlds.shared_files import Failure
from gwservice.atomic import locked, replace_file
from gwservice.regular_file import UnusableFile, read_regular
from gwservice.watched_file import FileBroken
from gwwire.decoding import parse_json
from gwwire.problems import ProblemCode, ProblemError

log = logging.getLogger(__name__)

#: Bytes of a transaction with a list of very many files.
_LARGEST = 2**30
#: Transactions that have not ended, and characters of their paths, of all users.
_MOST_UNFINISHED, _MOST_ORDERED = 1000, 200_000_000
#: Transactions that have ended and are still listed, and characters of the paths and reasons of their failed files.
_MOST_ENDED, _MOST_FAILED = 10_000, 50_000_000


class StateFailed(ProblemError, code=ProblemCode.VOLUME_FAILED):
    """The folder NLDS_STATE rejects a file."""


class TooManyTransactions(ProblemError, code=ProblemCode.QUEUE_FULL):
    """Too many transactions of NLDS have not ended, or they have too many files."""


class NldsState(IntEnum):
    """NLDS' states of a part of a transaction; ours are the ones that its client may also select."""

    INITIALISING = -1
    ROUTING = 0
    SPLITTING = 1
    INDEXING = 2
    CATALOG_PUTTING = 3
    TRANSFER_PUTTING = 4
    CATALOG_GETTING = 10
    ARCHIVE_GETTING = 11
    TRANSFER_GETTING = 12
    TRANSFER_INIT = 13
    ARCHIVE_INIT = 20
    ARCHIVE_PUTTING = 21
    ARCHIVE_PREPARING = 22
    CATALOG_DELETING = 30
    CATALOG_UPDATING = 31
    CATALOG_ARCHIVE_UPDATING = 32
    CATALOG_REMOVING = 33
    COMPLETE = 100
    FAILED = 101
    COMPLETE_WITH_ERRORS = 102
    COMPLETE_WITH_WARNINGS = 103
    SPLIT = 110
    SEARCHING = 1000


class Member(Struct, frozen=True):
    """The user and the group that a request is for, which are those of its credential."""

    user: str
    group: str | None


class Order(Struct, frozen=True):
    """The files to put or get, and the holding that label, id and tags select together."""

    paths: list[str]
    label: str | None = None
    holding: int | None = None
    tag: dict[str, str] = {}
    target: str | None = None
    regex: bool = False
    groupall: bool = False


class Part(Struct):
    """Some files of a transaction: a sub-record of NLDS; `id` is also that of a transaction of the datastore."""

    id: str
    state: NldsState
    updated: float
    complete: int = 0
    failed: list[Failure] = []

    def enter(self, state: NldsState) -> None:
        """Change the state."""
        self.state, self.updated = state, time.time()

    def end(self) -> None:
        """Enter the state that follows from the files."""
        self.enter(NldsState.FAILED if self.failed and not self.complete else NldsState.COMPLETE)


class Job(Struct):
    """A transaction of NLDS; `label` is that of its holding."""

    id: str
    number: int
    action: str
    user: str
    group: str | None
    job_label: str | None
    created: float
    order: Order
    label: str = ""
    parts: list[Part] = []
    warnings: list[str] = []
    ended: bool = False

    @property
    def size(self) -> int:
        """The characters of the paths that it has, and of the reasons of failures."""
        failed = (len(each.path) + len(each.reason) for part in self.parts for each in part.failed)
        return sum(map(len, self.order.paths)) + sum(failed)

    def begin_part(self, state: NldsState) -> Part:
        """Add a part; its id is always the same for the same transaction and position."""
        part = Part(part_id(self.id, len(self.parts)), state, time.time())
        self.parts.append(part)
        return part


def part_id(transaction: str, position: int) -> str:
    """Return the id of a part of a transaction: that of the transaction itself for the first one."""
    return transaction if position == 0 else str(uuid5(NAMESPACE_URL, f"{transaction}/{position}"))


class Jobs:
    """All transactions, in memory and as files of a folder, of which one process has the lock.

    Raises:
        FileBroken: the folder cannot be used, or another process uses it.

    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held = ExitStack()
        try:
            self._held.enter_context(locked(folder, folder=True))
            found = [job for path in folder.glob("*.json") if (job := _load(path))]
        except BlockingIOError as error:
            raise FileBroken(f"NLDS_STATE={folder}: another gateway uses it") from error
        except OSError as error:
            raise FileBroken(f"NLDS_STATE={folder} cannot be used: {error.strerror}") from error
        self._jobs = {job.id: job for job in sorted(found, key=lambda job: job.number)}
        self._sizes = {job.id: job.size for job in found}
        self._last = max((job.number for job in found), default=0)

    def close(self) -> None:
        """Release the folder for another process."""
        self._held.close()

    def get(self, identity: str) -> Job | None:
        """Return a transaction by its id, or None if it does not exist."""
        return self._jobs.get(identity)

    async def add(self, identity: str, action: str, member: Member, job_label: str | None, order: Order) -> Job:
        """Add a transaction, which is on the disk on return; raise TooManyTransactions, or StateFailed."""
        unfinished = self.unfinished()
        if len(unfinished) >= _MOST_UNFINISHED or self._size(unfinished) >= _MOST_ORDERED:
            raise TooManyTransactions(f"{len(unfinished):,} transactions have not ended", retry_after=60)
        self._last += 1
        user, group = member.user, member.group
        job = Job(identity, self._last, action, user, group, job_label, time.time(), order, order.label or "")
        self._jobs[identity], self._sizes[identity] = job, job.size
        try:
            await asyncio.to_thread(self._save, job)
        except OSError as error:
            del self._jobs[identity], self._sizes[identity]
            raise StateFailed(f"the transaction cannot be stored in NLDS_STATE: {error.strerror}") from error
        return job

    async def end(self, job: Job) -> None:
        """Store how a transaction has ended, without the list of its files; forget the oldest ones."""
        job.ended, job.order = True, msgspec.structs.replace(job.order, paths=[])
        self._sizes[job.id] = job.size
        forgotten = self._surplus(job)
        for each in forgotten:
            del self._jobs[each.id], self._sizes[each.id]
        await asyncio.to_thread(self._save, job)
        for each in forgotten:
            await asyncio.to_thread(self._path(each.id).unlink, missing_ok=True)

    def _surplus(self, last: Job) -> list[Job]:
        """Return the oldest transactions that have ended and are too many, but never the last one."""
        ended = [each for each in self._jobs.values() if each.ended]
        left, size, found = len(ended), self._size(ended), []
        for each in ended:
            if left <= _MOST_ENDED and size <= _MOST_FAILED:
                break
            if each is not last:
                found.append(each)
                left, size = left - 1, size - self._sizes[each.id]
        return found

    def _size(self, jobs: Iterable[Job]) -> int:
        return sum(self._sizes[job.id] for job in jobs)

    def unfinished(self) -> list[Job]:
        """Return the transactions that have not ended, the oldest first."""
        return [job for job in self._jobs.values() if not job.ended]

    def __iter__(self) -> Iterator[Job]:
        """Yield all transactions, the oldest first."""
        return iter(list(self._jobs.values()))

    def _path(self, identity: str) -> Path:
        return self._folder / f"{identity}.json"

    def _save(self, job: Job) -> None:
        replace_file(self._path(job.id), msgspec.json.encode(job), mode=0o600)


def _load(path: Path) -> Job | None:
    """Return the transaction in a file, or None if the file was damaged; the others go on."""
    try:
        return parse_json(read_regular(path, _LARGEST), Job)
    except (msgspec.DecodeError, UnusableFile) as error:
        log.warning("NLDS_STATE: %s is not a transaction, and is left out: %s", path, error)
        return None
