"""Threads that call fsync: file systems batch their journal, so that parallel syncs cost little more than one."""

import os
import queue
import threading
import time
from collections.abc import Sequence

from databuffer import meters
from databuffer.errors import volume_error
from databuffer.ingest.incoming import Incoming

_THREADS = 8


class SyncPool:
    """Syncs the files of a group in parallel; `queue.SimpleQueue` costs a tenth of the futures of an executor."""

    def __init__(self) -> None:
        self._shares: queue.SimpleQueue[Sequence[Incoming]] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name="fsync", daemon=True) for _ in range(_THREADS)]
        for thread in self._threads:
            thread.start()

    def sync(self, files: Sequence[Incoming]) -> None:
        """Sync and close the file of each segment; refuse the segments for which that fails."""
        shares = [files[start::_THREADS] for start in range(min(_THREADS, len(files)))]
        for share in shares[1:]:
            self._shares.put(share)
        errors = [_sync_share(share) for share in shares[:1]] + [self._done.get() for _ in shares[1:]]
        for error in filter(None, errors):
            raise error

    def close(self) -> None:
        """Stop the threads."""
        for _ in self._threads:
            self._shares.put(())
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while share := self._shares.get():
            self._done.put(_sync_share(share))


def _sync_share(share: Sequence[Incoming]) -> BaseException | None:
    try:
        for each in share:
            began = time.perf_counter()
            _sync(each)
            meters.FSYNC_SEGMENT.observe(time.perf_counter() - began)
    except BaseException as error:  # noqa: BLE001 (`sync` raises it)
        return error
    return None


def _sync(incoming: Incoming) -> None:
    file, incoming.file = incoming.file, -1
    try:
        os.fsync(file)
    except OSError as error:
        incoming.refuse(volume_error(error))
    finally:
        os.close(file)
