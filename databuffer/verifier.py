"""Verification of archived batches in the background: every byte is compared with the manifest."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec

from databuffer.errors import VolumeError
from databuffer.storage.catalog import BatchRow
from databuffer.storage.manifest import differences, read_manifest
from databuffer.storage.store import Store
from databuffer.storage.volume import volume_errors
from gwwire.public import Verification, VerificationState

#: Problems listed for a damaged batch; `python -m databuffer verify` lists all.
_MOST_PROBLEMS = 20


class VerifierStopped(Exception):
    """The service stops; the verification has to be started anew."""


class Verifier:
    """Verifies one batch after the other, in a thread of its own.

    Args:
        store: where the batches are.

    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="verifier")
        self._stopping = threading.Event()
        self._running: dict[str, Verification] = {}

    def running(self, batch: str) -> Verification | None:
        """Return the progress of a verification, or None if the batch is not being verified."""
        return self._running.get(batch)

    def begin(self, row: BatchRow) -> Future[Verification] | None:
        """Begin to verify an archived batch, after those before it; return None if it is being verified already."""
        if row.id in self._running:
            return None
        self._running[row.id] = Verification(VerificationState.RUNNING, time.time(), 0, row.n_itm, [])
        return self._thread.submit(self._verify, row)

    def end(self, batch: str) -> None:
        """Forget the progress of a verification that ended."""
        self._running.pop(batch, None)

    def close(self) -> None:
        """Stop at the next file."""
        self._stopping.set()
        self._thread.shutdown(cancel_futures=True)

    def _verify(self, row: BatchRow) -> Verification:
        checked = 0

        def note_file() -> None:
            nonlocal checked
            checked += 1
            self._running[row.id] = msgspec.structs.replace(self._running[row.id], checked=checked)
            if self._stopping.is_set():
                raise VerifierStopped

        problems = self._problems(row, note_file)
        self._store.volume.check_identity()  # a volume that went away is not a damaged batch
        state = VerificationState.DAMAGED if problems else VerificationState.INTACT
        return Verification(state, time.time(), checked, row.n_itm, _bounded(problems))

    def _problems(self, row: BatchRow, note_file: Callable[[], None]) -> list[str]:
        folder = self._store.volume.root / row.path
        try:
            manifest = read_manifest(folder)
            with volume_errors():
                problems = list(differences(folder, manifest, note_file))
        except VolumeError as error:
            return [error.detail]
        if manifest.digest != row.digest:
            problems.append(f"the manifest's digest is {manifest.digest}; the batch was catalogued with {row.digest}")
        return problems


def _bounded(problems: list[str]) -> list[str]:
    left = len(problems) - _MOST_PROBLEMS
    return problems if left <= 0 else [*problems[:_MOST_PROBLEMS], f"and {left} more"]
