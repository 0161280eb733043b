"""Verification of archived batches, a step that is performed on request: every byte is compared with the manifest."""

import logging
from collections.abc import Sequence
from typing import assert_never

import msgspec
from msgspec import structs

from databuffer import metrics
from databuffer.errors import BatchNotArchived, MoveFailed, NotFound, VolumeError, VolumeFailed
from databuffer.queries import Queries
from databuffer.records.performer import Attempt, OwnStep, Performer
from databuffer.records.records import Records
from databuffer.records.selection import BATCH_KIND
from databuffer.state import State
from databuffer.storage.catalog import BatchRow
from databuffer.storage.catalog.batches import BATCH_RECORD
from databuffer.storage.clock import steady_ns
from databuffer.storage.files import volume_errors
from databuffer.storage.manifest import differences, read_manifest
from databuffer.storage.store import Store
from databuffer.tiers.moves.meter import Progress
from databuffer.tiers.moves.mover import Mover
from databuffer.tiers.moves.staged_reading import Staging
from gwwire.public import BatchState, Verification, VerificationState
from gwwire.records import ARCHIVED, VERIFY, Record, Step, StepState
from gwwire.tiering import DISK, Replica, ReplicaState

log = logging.getLogger(__name__)

#: Problems listed for a damaged batch; `python -m databuffer verify` lists all.
_MOST_PROBLEMS = 20


class Verifier:
    """Performs the step `verify` on one batch after the other, and returns the progress and the results."""

    def __init__(  # noqa: PLR0913, PLR0917 (the parts of the buffer)
        self, store: Store, state: State, records: Records, queries: Queries, performer: Performer, mover: Mover
    ) -> None:
        self._store = store
        self._state = state
        self._records = records
        self._queries = queries
        self._performer = performer
        self._mover = mover
        performer.add(OwnStep(VERIFY, self._verify, (ARCHIVED,), BATCH_KIND, on_request=True))

    async def request(self, batch: str) -> Verification:
        """Request the verification of an archived batch, unless it waits or runs already; return the progress."""
        row = await self._queries.batch(batch)
        if row.state is not BatchState.ARCHIVED:
            raise BatchNotArchived(f"batch {batch!r} is {row.state}; only an archived batch can be verified")
        if row.frozen is None:
            raise NotFound(f"batch {batch!r} never had a manifest")
        record = await self._records.request(BATCH_RECORD + batch, VERIFY)
        return self._progress(row, next(step for step in record.steps if step.name == VERIFY))

    async def verifications(self, batches: Sequence[BatchRow]) -> dict[str, Verification]:
        """Return the progress or the last result of those batches whose verification was requested."""
        steps = await self._records.steps_named(VERIFY, [BATCH_RECORD + row.id for row in batches])
        named = [(row, steps.get(BATCH_RECORD + row.id)) for row in batches]
        return {row.id: self._verification(row, step) for row, step in named if step}

    def _verification(self, row: BatchRow, step: Step) -> Verification:
        """Return the progress or the result of a step; of one that failed, the reason is the problem."""
        match step.state:
            case StepState.DONE:
                return msgspec.convert(step.result, Verification)
            case StepState.FAILED:
                return Verification(VerificationState.FAILED, step.ended or 0, 0, row.n_itm, [step.reason or ""])
            case StepState.WAITING | StepState.RUNNING:
                return self._progress(row, step)
            case _:
                assert_never(step.state)

    def _progress(self, row: BatchRow, step: Step) -> Verification:
        attempt = self._performer.attempt(VERIFY, BATCH_RECORD + row.id)
        checked = _files(attempt.progress if attempt else None, row.n_itm)
        failed = [step.reason] if step.reason and step.state is StepState.WAITING else []  # it is tried again
        return Verification(VerificationState.RUNNING, step.started or steady_ns() / 10**9, checked, row.n_itm, failed)

    # ---- in a thread

    def _verify(self, record: Record, attempt: Attempt) -> Verification:
        batch = record.id.removeprefix(BATCH_RECORD)
        row = self._store.catalog.batches.get(batch)
        if row is None:
            raise NotFound(f"there is no batch {batch!r}")
        log.info("batch %s is being verified", batch, extra={"event": "verify", "batch": batch})
        found = self._compare(row, attempt)
        metrics.VERIFIED.labels(found.state).inc()
        level = logging.ERROR if found.state is VerificationState.DAMAGED else logging.INFO
        text = f"batch {batch} is {found.state}: {found.checked} of {found.segments} files read"
        self._state.log_event("verified", text, level, batch=batch, state=found.state, problems=found.problems)
        return found

    def _compare(self, row: BatchRow, attempt: Attempt) -> Verification:
        """Compare each copy of a batch: the one on the disk, and the replicas in the tiers."""
        record = BATCH_RECORD + row.id
        checked, problems, tiers, unread = row.n_itm, list[str](), list[str](), ""
        if not self._mover.is_dropped(record):
            missing = self._missing_folder(row)
            found, differing = (0, [missing]) if missing else self._compare_folder(row, attempt)
            if not (differing and self._mover.is_dropped(record)):  # it was dropped meanwhile
                checked, problems, tiers = found, differing, [DISK]
                self._check_there(row, missing)
                self._mover.note_disk(record, problems)
        if not problems or self._has_manifest(row):
            others = self._mover.compare_all(record, attempt)
            problems, tiers = [*problems, *others.problems], [*tiers, *others.tiers]
            unread = f"not read: {'; '.join(others.unread)}" if others.unread else ""
            if unread and not problems:
                intact = f"intact in {', '.join(tiers)}; " if tiers else ""
                raise MoveFailed(f"{intact}{unread}")
        state = VerificationState.DAMAGED if problems else VerificationState.INTACT
        if (left := len(problems) - _MOST_PROBLEMS) > 0:
            problems = [*problems[:_MOST_PROBLEMS], f"and {left} more"]
        problems += [unread] if unread else []
        return Verification(state, steady_ns() / 10**9, checked, row.n_itm, problems, tiers)

    def _check_there(self, row: BatchRow, missing: str) -> None:
        """Raise NotFound, counted and logged, if a batch is `missing`."""
        if missing:
            metrics.VERIFIED.labels(metrics.MISSING).inc()
            self._state.log_event("verified", missing, logging.ERROR, batch=row.id, state=metrics.MISSING)
            raise NotFound(missing)

    def _has_manifest(self, row: BatchRow) -> bool:
        """Return whether the folder of a batch has its manifest, with which the replicas can be compared."""
        try:
            return read_manifest(self._store.volume.root / row.path).digest == row.digest
        except VolumeError:
            return False

    def _missing_folder(self, row: BatchRow) -> str:
        """Return the error of a batch without its folder, or ""; raise VolumeError if the folder cannot be read."""
        folder = self._store.volume.root / row.path
        try:
            with volume_errors():
                next(folder.iterdir(), None)
        except VolumeFailed:
            self._store.volume.check_identity()  # a volume that was unmounted is not a missing batch
            if folder.is_dir():
                raise
            return f"the folder {row.path!r} of batch {row.id} is missing, and {row.n_itm} segments with it"
        return ""

    def _compare_folder(self, row: BatchRow, attempt: Attempt) -> tuple[int, list[str]]:
        """Compare the files of a batch; return their number, and what is wrong."""
        checked, folder = 0, self._store.volume.root / row.path

        def note_file() -> None:
            nonlocal checked
            checked += 1
            attempt.report(checked)

        try:
            manifest = read_manifest(folder)
        except VolumeError as error:
            problems = [error.detail]
        else:
            with volume_errors():
                problems = list(differences(folder, manifest, note_file))
            if manifest.digest != row.digest:
                digests = f"{manifest.digest}; the batch was catalogued with {row.digest}"
                problems.append(f"the manifest's digest is {digests}")
        self._store.volume.check_identity()  # a volume that was unmounted is not a damaged batch
        return checked, problems


def since_repaired(found: Verification, replicas: Sequence[Replica]) -> Verification:
    """Return a result as REPAIRED if it is DAMAGED, and every replica is VERIFIED now: what differs becomes LOST."""
    are_verified = bool(replicas) and all(each.state is ReplicaState.VERIFIED for each in replicas)
    is_repaired = are_verified and max(each.verified or 0 for each in replicas) > found.at
    if found.state is VerificationState.DAMAGED and is_repaired:
        return structs.replace(found, state=VerificationState.REPAIRED)
    return found


def _files(progress: int | Progress | Staging | None, number: int) -> int:
    """Return how many of a batch's files were compared, from those, or from the bytes of its pack."""
    match progress:
        case Progress(done, of):
            return number * done // of
        case int():
            return progress
        case _:  # not begun, or a tape brings the pack online
            return 0
