"""XRootD that fails now and then: a client whose calls fail, and a proxy that cuts and delays in the middle."""

import functools
import importlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum, auto
from types import SimpleNamespace
from typing import Any

import pytest

#: Calls from one that fails to the next: an operation of the largest test has 14 of them.
_STEP = 3


class FaultyCalls:
    """The calls of tiers that are opened in the block `with failing_calls(late=…)`; late: with their effect."""

    def __init__(self, *, late: bool) -> None:
        self._late = late
        self._left = self._armed = -1
        self._first = itertools.cycle(range(_STEP))
        self._lock = threading.Lock()

    def begin(self, attempt: int) -> None:
        """Make one of the next calls fail: one of the first, and a later one with each attempt of an operation."""
        with self._lock:
            self._left = next(self._first) if not attempt else self._armed + _STEP
            self._armed = self._left

    def call(self, real: Callable[..., tuple[Any, Any]], *args: Any, **options: Any) -> tuple[Any, Any]:
        """Call the real client, unless it is the call that fails."""
        with self._lock:
            self._left -= 1
            fails = self._left == -1
        if not fails:
            return real(*args, **options)
        if self._late:
            real(*args, **options)
        return SimpleNamespace(ok=False, errno=0, message="[ERROR] Operation expired"), None


class _FaultyObject:
    """An object of the client."""

    def __init__(self, faults: FaultyCalls, real: Any) -> None:
        self._faults = faults
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return functools.partial(self._faults.call, getattr(self._real, name))


@contextmanager
def failing_calls(*, late: bool) -> Iterator[FaultyCalls]:
    """Count the calls of tiers that are opened in the block; they can fail, with their effect or without."""
    xrootd = importlib.import_module("databuffer.tiers.backends.xrootd")  # needs an extra
    faults = FaultyCalls(late=late)
    file, file_system = xrootd.File, xrootd.FileSystem
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xrootd, "File", lambda: _FaultyObject(faults, file()))
        patch.setattr(xrootd, "FileSystem", lambda url: _FaultyObject(faults, file_system(url)))
        yield faults


class Trouble(Enum):
    """The fault of a request."""

    NONE = auto()
    REQUEST_CUT = auto()  # the connection ends in the middle of the request
    ANSWER_CUT = auto()  # the server did it; the connection ends in the middle of the answer
    SLOW = auto()  # both pause in the middle
    SILENT = auto()  # no answer comes


_PAUSE = 0.02
_FAULTY_ATTEMPTS = 3
#: Bytes of the first message of a client, of the head of a request, and of the head of an answer.
_HELLO, _REQUEST_HEAD, _ANSWER_HEAD = 20, 24, 8
#: kXR_auth, kXR_protocol, kXR_login, kXR_endsess and kXR_bind: a connection is never cut before it can be used.
_LOGIN = {3000, 3006, 3007, 3023, 3024}
#: The client repeats what was cut by itself; a `prepare -e` that happens twice would release another request's keys.
_PREPARE = 3021


class FaultyXRootDProxy:
    """Requests after the login get the `troubles` in turn."""

    def __init__(self, target: str, troubles: Sequence[Trouble]) -> None:
        self.target = target
        self.address = ""
        self._calm = False
        self._troubles = itertools.cycle(troubles)
        self._lock = threading.Lock()

    def begin(self, attempt: int) -> None:
        """End the troubles in later attempts of an operation."""
        self._calm = attempt >= _FAULTY_ATTEMPTS

    def next(self, request: int) -> Trouble:
        """Return what happens to the next request."""
        if request in _LOGIN or self._calm:
            return Trouble.NONE
        with self._lock:
            trouble = next(self._troubles)
            return Trouble.REQUEST_CUT if trouble is Trouble.ANSWER_CUT and request == _PREPARE else trouble


class _Connection:
    """A client's connection and the one to the server."""

    def __init__(self, proxy: FaultyXRootDProxy, client: socket.socket) -> None:
        host, _, port = proxy.target.rpartition(":")
        self._proxy = proxy
        self._client = client
        self._server = socket.create_connection((host, int(port)))
        self._troubles: dict[bytes, Trouble] = {}  # of the answers that are still to come, by stream id
        passing = (self._pass_requests, self._pass_answers)
        self._threads = [threading.Thread(target=self._run, args=(each,)) for each in passing]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Cut the connection and wait until nothing uses it."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._client.close()
        self._server.close()

    def _run(self, pass_on: Callable[[], None]) -> None:
        with suppress(OSError, EOFError):
            pass_on()
        self._cut()

    def _cut(self) -> None:
        """Cut both connections, the server's first: a client that returns while its session is there has to wait."""
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_WR)
            while self._server.recv(1 << 16):
                pass
        with suppress(OSError):
            self._client.shutdown(socket.SHUT_RDWR)

    def _pass_requests(self) -> None:
        self._server.sendall(_exactly(self._client, _HELLO))
        while True:
            head = _exactly(self._client, _REQUEST_HEAD)
            request = head + _exactly(self._client, int.from_bytes(head[20:]))
            trouble = self._proxy.next(int.from_bytes(head[2:4]))
            self._troubles[head[:2]] = trouble
            _send(self._server, request, trouble, Trouble.REQUEST_CUT)

    def _pass_answers(self) -> None:
        while True:
            head = _exactly(self._server, _ANSWER_HEAD)
            answer = head + _exactly(self._server, int.from_bytes(head[4:]))
            trouble = self._troubles.pop(head[:2], Trouble.NONE)
            if trouble is not Trouble.SILENT:
                _send(self._client, answer, trouble, Trouble.ANSWER_CUT)


def _send(target: socket.socket, message: bytes, trouble: Trouble, cut: Trouble) -> None:
    """Send a message; raise EOFError after half of it if the trouble is the cut."""
    middle = len(message) // 2
    if trouble is cut:
        target.sendall(message[:middle])
        raise EOFError
    if trouble is Trouble.SLOW:
        target.sendall(message[:middle])
        time.sleep(_PAUSE)
        message = message[middle:]
    target.sendall(message)


def _exactly(source: socket.socket, number: int) -> bytes:
    received = bytearray(number)
    rest = memoryview(received)
    while rest:
        count = source.recv_into(rest)
        if not count:
            raise EOFError
        rest = rest[count:]
    return bytes(received)


@contextmanager
def faulty_xrootd_proxy(target: str, troubles: Sequence[Trouble], port: int = 0) -> Iterator[FaultyXRootDProxy]:
    """Serve until the block ends; port 0 is a free one."""
    proxy = FaultyXRootDProxy(target, troubles)
    connections: list[_Connection] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                connections.append(_Connection(proxy, listener.accept()[0]))

    with socket.create_server(("127.0.0.1", port)) as listener:
        proxy.address = f"127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield proxy
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for each in connections:
                each.end()
