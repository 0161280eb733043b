"""Requests to bring keys from tape online; they survive a restart."""

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import RLock
from uuid import uuid4

import msgspec

from gwservice.atomic import replace_file, sync
from gwservice.regular_file import UnusableFile, read_regular
from gwwire.decoding import parse_json

log = logging.getLogger(__name__)

#: Bytes; no request has so many keys.
_LARGEST = 2**30


class TapeRequest(msgspec.Struct, frozen=True):
    """Keys that a request keeps online, and why some of them did not come online."""

    keys: tuple[str, ...]
    failed: dict[str, str] = {}


class TapeRequests:
    """One file per request, named after its id; ids are in the order of the requests.

    Methods raise OSError if the folder cannot be used. The `lock` makes several calls one step.
    """

    def __init__(self, folder: Path) -> None:
        self.lock = RLock()
        self._folder = folder
        self._requests: dict[str, TapeRequest] | None = None

    def add(self, keys: Sequence[str]) -> str:
        """Store a request; return its id."""
        request = f"{time.time_ns():020d}-{uuid4().hex[:8]}"
        with self.lock:
            self._set(request, TapeRequest(tuple(dict.fromkeys(keys))))
        return request

    def get(self, request: str) -> TapeRequest | None:
        """Return a request, or None if it does not exist or released all its keys."""
        with self.lock:
            return self._all().get(request)

    def wanted(self) -> list[str]:
        """Return the keys to bring online and keep there, the oldest request first."""
        with self.lock:
            requests = self._all().values()
            return list(dict.fromkeys(key for one in requests for key in one.keys if key not in one.failed))

    def fail(self, key: str, reason: str) -> None:
        """Store why a key did not come online, in every request that waits for it."""
        with self.lock:
            for request, one in list(self._holding(key)):
                if key not in one.failed:
                    self._set(request, TapeRequest(one.keys, {**one.failed, key: reason}))

    def release(self, key: str) -> None:
        """Take a key from the oldest request that has it, if there is one."""
        with self.lock:
            for request, one in self._holding(key):
                self._set(request, TapeRequest(tuple(kept for kept in one.keys if kept != key), one.failed))
                return

    def _holding(self, key: str) -> Iterator[tuple[str, TapeRequest]]:
        return ((request, one) for request, one in self._all().items() if key in one.keys)

    def _all(self) -> dict[str, TapeRequest]:
        if self._requests is None:
            found = ((file.stem, _read(file)) for file in sorted(self._folder.glob("[0-9]*.json")))
            self._requests = {request: value for request, value in found if value}
        return self._requests

    def _set(self, request: str, value: TapeRequest) -> None:
        requests, file = self._all(), self._folder / f"{request}.json"
        if value.keys:
            replace_file(file, msgspec.json.encode(value))
            requests[request] = value
        else:
            file.unlink(missing_ok=True)
            sync(self._folder)
            del requests[request]


def _read(file: Path) -> TapeRequest | None:
    """Return a request, or None if its file was damaged: the keys are asked for again."""
    try:
        return parse_json(read_regular(file, _LARGEST), TapeRequest)
    except (UnusableFile, msgspec.DecodeError) as error:
        log.warning("%s is not a request, and is left out: %s", file, error)
        return None
