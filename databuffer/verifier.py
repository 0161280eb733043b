"""Verification of archived batches, a step that is performed on request: every byte is compared with the manifest."""

import logging
from collections.abc import Sequence

import msgspec

from databuffer import metrics
from databuffer.errors import BatchNotArchived, NotFound, VolumeError
from databuffer.queries import Queries
from databuffer.records.performer import Attempt, OwnStep, Performer
from databuffer.records.records import Records
from databuffer.records.selection import BATCH_KIND
from databuffer.state import State
from databuffer.storage.catalog import BatchRow
from databuffer.storage.catalog.segments import BATCH_RECORD
from databuffer.storage.clock import steady_ns
from databuffer.storage.files import volume_errors
from databuffer.storage.manifest import differences, read_manifest
from databuffer.storage.store import Store
from gwwire.public import BatchState, Verification, VerificationState
from gwwire.records import ARCHIVED, VERIFY, Record, Step, StepState

log = logging.getLogger(__name__)

#: Problems listed for a damaged batch; `python -m databuffer verify` lists all.
_MOST_PROBLEMS = 20


class Verifier:
    """Performs the step `verify` on one batch after the other, and returns the progress and the results."""

    def __init__(self, store: Store, state: State, records: Records, queries: Queries, performer: Performer) -> None:
        self._store = store
        self._state = state
        self._records = records
        self._queries = queries
        self._performer = performer
        performer.add(OwnStep(VERIFY, self._verify, (ARCHIVED,), BATCH_KIND, on_request=True))

    async def request(self, batch: str) -> Verification:
        """Request the verification of an archived batch, unless it waits or runs already; return the progress."""
        row = await self._queries.batch(batch)
        if row.state is not BatchState.ARCHIVED:
            raise BatchNotArchived(f"batch {batch!r} is {row.state}")
        if row.frozen is None:
            raise NotFound(f"batch {batch!r} never had a manifest")
        record = await self._records.request(BATCH_RECORD + batch, VERIFY)
        return self._progress(row, next(step for step in record.steps if step.name == VERIFY))

    async def verifications(self, batches: Sequence[BatchRow]) -> dict[str, Verification]:
        """Return the progress or the last result of those batches whose verification was requested."""
        steps = await self._records.steps_named(VERIFY, [BATCH_RECORD + row.id for row in batches])
        found = {row.id: self._verification(row, steps.get(BATCH_RECORD + row.id)) for row in batches}
        return {batch: verification for batch, verification in found.items() if verification}

    def _verification(self, row: BatchRow, step: Step | None) -> Verification | None:
        """Return the progress or the result of a step, or None if the batch could not be verified."""
        if step is None or step.state is StepState.FAILED:
            return None
        return _result(step) if step.state is StepState.DONE else self._progress(row, step)

    def _progress(self, row: BatchRow, step: Step) -> Verification:
        attempt = self._performer.attempt(VERIFY, BATCH_RECORD + row.id)
        checked = attempt.progress or 0 if attempt else 0
        return Verification(VerificationState.RUNNING, step.started or steady_ns() / 10**9, checked, row.n_itm, [])

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
        checked, folder = 0, self._store.volume.root / row.path

        def note_file() -> None:
            nonlocal checked
            checked += 1
            attempt.report(checked)

        try:
            manifest = read_manifest(folder)
            with volume_errors():
                problems = list(differences(folder, manifest, note_file))
            if manifest.digest != row.digest:
                digests = f"{manifest.digest}; the batch was catalogued with {row.digest}"
                problems.append(f"the manifest's digest is {digests}")
        except VolumeError as error:
            problems = [error.detail]
        self._store.volume.check_identity()  # a volume that was unmounted is not a damaged batch
        state = VerificationState.DAMAGED if problems else VerificationState.INTACT
        if (left := len(problems) - _MOST_PROBLEMS) > 0:
            problems = [*problems[:_MOST_PROBLEMS], f"and {left} more"]
        return Verification(state, steady_ns() / 10**9, checked, row.n_itm, problems)


def _result(step: Step) -> Verification:
    return msgspec.convert(step.result, Verification)
