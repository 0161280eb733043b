"""Concurrent clients, each a thread with its own connection."""

import itertools
import json
import threading
import time
from collections.abc import Callable
from typing import Any, Self

import urllib3
from urllib3.exceptions import HTTPError

Send = Callable[["Connection", int], bool]


class Connection:
    """One client's connection to a service; a broken one raises urllib3's HTTPError."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool = urllib3.PoolManager(retries=False, timeout=60)

    def get(self, path: str) -> Any:
        """Return the JSON answer to a GET."""
        return self._pool.request("GET", self._url + path).json()

    def status(self, path: str) -> int:
        """Return the status of the answer to a GET."""
        return self._pool.request("GET", self._url + path).status

    def post(self, path: str, body: bytes = b"{}", key: str | None = None) -> tuple[int, Any]:
        """Return the status and the JSON of the answer to a POST of JSON."""
        headers = {"Content-Type": "application/json"} | ({} if key is None else {"Idempotency-Key": key})
        answer = self._pool.request("POST", self._url + path, body=body, headers=headers)
        return answer.status, json.loads(answer.data)


class ClientThreads:
    """Threads that repeat an action until the `with` block ends; an exception in a thread is raised there.

    A broken connection ends a thread without an error if `may_break`: its server was to be killed.

    Attributes:
        acknowledged: numbers of the segments that `push` sent and the server acknowledged.

    """

    def __init__(self, url: str, *, may_break: bool = False) -> None:
        self._url = url
        self._may_break = may_break
        self._threads: list[threading.Thread] = []
        self._over = threading.Event()
        self._failures: list[Exception] = []
        self.acknowledged: list[int] = []

    def repeat(self, act: Callable[[Connection], None], *, times: int = 1, pause: float = 0.0) -> None:
        """Start `times` threads that repeat `act`, each with its own connection."""

        def run() -> None:
            connection = Connection(self._url)
            try:
                while not self._over.is_set():
                    act(connection)
                    time.sleep(pause)
            except HTTPError as error:
                if not self._may_break:
                    self._failures.append(error)
            except Exception as error:  # noqa: BLE001 (raised again at the end of the `with` block)
                self._failures.append(error)

        self._threads += [threading.Thread(target=run) for _ in range(times)]

    def push(self, send: Send, numbers: "itertools.count[int]", *, writers: int) -> None:
        """Start `writers` threads that send segments, and store the numbers of those that were acknowledged."""

        def push_one(connection: Connection) -> None:
            number = next(numbers)
            if send(connection, number):
                self.acknowledged.append(number)

        self.repeat(push_one, times=writers)

    def wait_for(self, condition: Callable[[], bool], *, seconds: float = 60) -> None:
        """Wait until `condition` holds, or a thread has failed.

        Raises:
            TimeoutError: neither happened in time.

        """
        deadline = time.monotonic() + seconds
        while not condition() and not self._failures:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the condition did not hold within {seconds:.0f} s")
            time.sleep(0.01)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        if self._failures:
            raise ExceptionGroup("clients failed", self._failures)
