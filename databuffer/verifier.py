"""Verification of archived batches in the background: every byte is compared with the manifest."""

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from databuffer import metrics
from databuffer.errors import VolumeError
from databuffer.storage.catalog import BatchRow
from databuffer.storage.files import volume_errors
from databuffer.storage.manifest import differences, read_manifest
from databuffer.storage.store import Store
from gwwire.public import Verification, VerificationState

log = logging.getLogger(__name__)

#: Problems listed for a damaged batch; `python -m databuffer verify` lists all.
_MOST_PROBLEMS = 20


class _Stopped(Exception):
    """The service stops; the verification has to be started again."""


class Verifier:
    """Verifies one batch after the other in a thread, and passes each result to `keep`."""

    def __init__(self, store: Store, keep: Callable[[str, Verification], Awaitable[None]]) -> None:
        self._store = store
        self._keep = keep
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="verifier")
        self._stopping = threading.Event()
        self._running: dict[str, Verification] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def running(self, batch: str) -> Verification | None:
        """Return the progress of a verification, or None if the batch is not being verified."""
        return self._running.get(batch)

    def begin(self, row: BatchRow) -> Verification:
        """Begin to verify an archived batch, unless it is being verified; return the progress."""
        if row.id not in self._running:
            log.info("batch %s is being verified", row.id, extra={"event": "verify", "batch": row.id})
            self._running[row.id] = Verification(VerificationState.RUNNING, time.time(), 0, row.n_itm, [])
            task = asyncio.create_task(self._verify(row))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return self._running[row.id]

    async def close(self) -> None:
        """Stop at the next file."""
        self._stopping.set()
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _verify(self, row: BatchRow) -> None:
        try:
            result = await asyncio.get_running_loop().run_in_executor(self._thread, self._compare, row)
            metrics.VERIFIED.labels(result.state).inc()
            await self._keep(row.id, result)
        except _Stopped:
            log.info("the verification of batch %s was interrupted by the stop", row.id)
        finally:
            del self._running[row.id]

    def _compare(self, row: BatchRow) -> Verification:
        checked, folder = 0, self._store.volume.root / row.path

        def note_file() -> None:
            nonlocal checked
            checked += 1
            self._running[row.id] = msgspec.structs.replace(self._running[row.id], checked=checked)
            if self._stopping.is_set():
                raise _Stopped

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
        return Verification(state, time.time(), checked, row.n_itm, problems)
