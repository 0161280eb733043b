"""A disk that fails, or a process that dies, at the k-th call.

Every change of the volume and its metadata goes through a few functions of `os`, and every change of the catalog is a
transaction. Each of these is a call that can fail, with or without its effect, or that the process does not survive.
"""

import errno
import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pytest
import sqlalchemy as sa

from databuffer.errors import volume_error
from databuffer.storage.catalog import Database

_CALLS = (
    *("open", "write", "pwrite", "fsync", "link", "rename", "unlink", "mkdir", "rmdir", "ftruncate"),
    *("scandir", "listdir"),
)


class Crash(BaseException):
    """The process is dead; none of its code runs any more."""


@dataclass(frozen=True)
class Fault:
    """The fault to cause.

    Attributes:
        call: the call that fails, counted from 0.
        number: the errno it fails with; None: the process dies.
        late: the call has its effect nevertheless; half of it, if it writes.
        times: number of consecutive calls that fail.

    """

    call: int
    number: int | None = errno.EIO
    late: bool = False
    times: int = 1


class FaultyVolume:
    """Use it as `with FaultyVolume() as faults`: the system calls of this process are counted, and may fail.

    Attributes:
        crashed: the process is dead; every further call raises Crash again.
        strikes: number of faults that occurred.

    """

    def __init__(self) -> None:
        self._fault: Fault | None = None
        self._calls = 0
        self._lock = threading.Lock()
        self._patch = pytest.MonkeyPatch()
        self.crashed = False
        self.strikes = 0
        self._strikes_before = 0

    def __enter__(self) -> Self:
        for name in _CALLS:
            self._patch.setattr(os, name, self._breakable(getattr(os, name)))
        seen = threading.excepthook
        self._patch.setattr(threading, "excepthook", lambda end: None if end.exc_type is Crash else seen(end))
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()

    def arm(self, fault: Fault | None) -> None:
        """Cause `fault`, counted from now on."""
        with self._lock:
            self._fault, self._calls, self.crashed = fault, 0, False
            self._strikes_before = self.strikes

    @property
    def struck(self) -> bool:
        """Return whether a fault occurred since one was armed."""
        return self.strikes > self._strikes_before

    def heal(self) -> None:
        """End all faults; after a crash, continue as a new process."""
        with self._lock:
            self._fault, self.crashed = None, False

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Count everything in the block as one call."""
        fault = self._next_fault()
        if fault and not fault.late:
            with self._as_volume_error():
                self._strike(fault)
        yield
        if fault:
            with self._as_volume_error():
                self._strike(fault)

    def _breakable(self, real: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(real)
        def call(*args: Any, **options: Any) -> Any:
            fault = self._next_fault()
            if fault is None:
                return real(*args, **options)
            if fault.late:
                _perform_late(real, *args, **options)
            self._strike(fault)
            raise AssertionError

        return call

    def _next_fault(self) -> Fault | None:
        with self._lock:
            if self.crashed:
                raise Crash
            call, fault = self._calls, self._fault
            self._calls += 1
            return fault if fault and fault.call <= call < fault.call + fault.times else None

    def _strike(self, fault: Fault) -> None:
        self.strikes += 1
        if fault.number is None:
            self.crashed = True
            raise Crash
        raise OSError(fault.number, os.strerror(fault.number))

    @contextmanager
    def _as_volume_error(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise volume_error(error) from error


class FaultyDatabase(Database):
    """A database whose transactions are calls that may fail."""

    def __init__(self, path: Path, faults: FaultyVolume) -> None:
        super().__init__(path)
        self._faults = faults

    @contextmanager
    def writing(self, *, ledger: bool = False) -> Iterator[sa.Connection]:
        with self._faults.transaction(), super().writing(ledger=ledger) as connection:
            yield connection

    @contextmanager
    def writing_synced(self) -> Iterator[sa.Connection]:
        with self._faults.transaction(), super().writing_synced() as connection:
            yield connection


def _perform_late(real: Callable[..., Any], *args: Any, **options: Any) -> None:
    match real.__name__:
        case "write" | "pwrite":
            descriptor, content, *place = args
            real(descriptor, content[: len(content) // 2], *place)
        case "scandir":
            real(*args, **options).close()
        case "open":
            os.close(real(*args, **options))
        case _:
            real(*args, **options)
