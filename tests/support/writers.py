"""Many clients at once, each a thread with a real connection, that remember what was acknowledged."""

import itertools
import json
import threading
import time
from collections.abc import Callable
from typing import Any, Self

import urllib3
from urllib3.exceptions import HTTPError

from tests.support.segments import JSON, segment_body

Send = Callable[["Connection", int], bool]


class Connection:
    """One client's connection to a service; a broken one raises urllib3's HTTPError."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool = urllib3.PoolManager(retries=False, timeout=20)

    def get(self, path: str) -> Any:
        return self._pool.request("GET", self._url + path).json()

    def status(self, path: str) -> int:
        return self._pool.request("GET", self._url + path).status

    def post(self, path: str, body: bytes = b"{}", key: str | None = None) -> tuple[int, Any]:
        headers = JSON if key is None else {**JSON, "Idempotency-Key": key}
        answer = self._pool.request("POST", self._url + path, body=body, headers=headers)
        return answer.status, json.loads(answer.data)


def send_to_gateway(connection: Connection, number: int) -> bool:
    status, answer = connection.post("/streamdata", segment_body(number))
    assert status == 200, answer
    return bool(answer["resp"] == "CREATED")


def send_to_buffer(connection: Connection, number: int) -> bool:
    status, answer = connection.post("/sendF", segment_body(number))
    assert status == 201, answer
    return True


class Crowd:
    """Threads that repeat what they do until the crowd is dismissed; what fails in one of them fails the test.

    A broken connection ends a thread quietly where `may_break`: its server was meant to die.
    """

    def __init__(self, url: str, *, may_break: bool = False) -> None:
        self._url = url
        self._may_break = may_break
        self._threads: list[threading.Thread] = []
        self._over = threading.Event()
        self._failures: list[Exception] = []
        self.acknowledged: list[int] = []

    def repeat(self, act: Callable[[Connection], None], *, times: int = 1, pause: float = 0.0) -> None:
        """Have `times` threads repeat `act`, each over a connection of its own."""

        def run() -> None:
            connection = Connection(self._url)
            try:
                while not self._over.is_set():
                    act(connection)
                    time.sleep(pause)
            except HTTPError as error:
                if not self._may_break:
                    self._failures.append(error)
            except Exception as error:  # noqa: BLE001 (told in the test's own thread)
                self._failures.append(error)

        self._threads += [threading.Thread(target=run) for _ in range(times)]

    def push(self, send: Send, numbers: "itertools.count[int]", *, writers: int) -> None:
        """Have `writers` threads send segments, and remember those that were acknowledged."""

        def push_one(connection: Connection) -> None:
            number = next(numbers)
            if send(connection, number):
                self.acknowledged.append(number)

        self.repeat(push_one, times=writers)

    def wait_for(self, condition: Callable[[], bool], *, seconds: float = 60) -> None:
        """Wait until `condition` holds, or a thread has failed."""
        deadline = time.monotonic() + seconds
        while not condition() and not self._failures:
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.01)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        assert not self._failures, self._failures
