"""The datastore at a glance, kept for a moment: however many pages ask, the buffer is asked about once."""

import threading
import time

import msgspec

from dslogic.buffer_client import BufferClient
from gwwire.problems import ProblemError
from gwwire.public import Overview

#: With the second that the gateway takes between two looks, a page shows a change within two.
_FRESH_SECONDS = 0.5


class OverviewKeeper:
    """Asks the buffer, and says the same again for a moment; what goes wrong is kept as long.

    Args:
        buffer: who is asked.
        max_size: bytes from which on a batch may be frozen: dslogic's part of the answer.

    """

    def __init__(self, buffer: BufferClient, max_size: int) -> None:
        self._buffer = buffer
        self._max_size = max_size
        self._lock = threading.Lock()
        self._told: Overview | ProblemError | None = None
        self._until = 0.0

    def overview(self) -> Overview:
        """Give the overview as it is, or was a moment ago.

        Raises:
            ProblemError: the buffer gave no proper answer.

        """
        with self._lock:
            if self._told is None or time.monotonic() >= self._until:
                self._told = self._ask()
                self._until = time.monotonic() + _FRESH_SECONDS
            told = self._told
        if isinstance(told, ProblemError):
            raise told.with_traceback(None)
        return told

    def _ask(self) -> Overview | ProblemError:
        try:
            return msgspec.structs.replace(self._buffer.overview(), max_size=self._max_size)
        except ProblemError as error:
            return error
