"""A proxy in front of an HTTP server on this machine that fails now and then, in several ways."""

import itertools
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from enum import Enum, auto
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import SHUT_RDWR
from types import MappingProxyType
from urllib.parse import urlsplit


class Trouble(Enum):
    """The fault of a request."""

    NONE = auto()
    CLOSED = auto()  # the connection ends before the request reaches the server
    LOST = auto()  # the server did it, the answer is lost
    CUT = auto()  # the answer ends in the middle of its body
    SLOW_DOWN = auto()  # 503
    DELAYED = auto()


_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
_DELAY = 0.1


class FaultyProxy:
    """Requests get the `troubles` in turn; `requests` counts them, `troubled` those that were not let through."""

    def __init__(self, target: str, troubles: Sequence[Trouble], others: Mapping[str, str]) -> None:
        self.target = urlsplit(target).netloc
        self.others = {prefix: urlsplit(url).netloc for prefix, url in others.items()}
        self.troubles = itertools.cycle(troubles)
        self.url = ""
        self.requests = 0
        self.troubled = 0
        self._lock = threading.Lock()

    def target_of(self, path: str) -> str:
        """Return the address of the server that a request is for."""
        return next((host for prefix, host in self.others.items() if path.startswith(prefix)), self.target)

    def next(self) -> Trouble:
        """Return what happens to the next request."""
        with self._lock:
            trouble = next(self.troubles)
            self.requests += 1
            self.troubled += trouble is not Trouble.NONE
            return trouble


@contextmanager
def faulty_proxy(
    target: str, troubles: Sequence[Trouble], others: Mapping[str, str] = MappingProxyType({})
) -> Iterator[FaultyProxy]:
    """Serve until the block ends; `others` are the servers of paths by prefix."""
    proxy = FaultyProxy(target, troubles, others)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": proxy}))
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


#: Headers that the proxy writes itself.
_HOP = {"content-length", "transfer-encoding", "connection"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy

    def handle_one_request(self) -> None:
        try:
            self.raw_requestline = self.rfile.readline()
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            self._pass_on(self.proxy.next())
        except OSError:
            self.close_connection = True

    def _pass_on(self, trouble: Trouble) -> None:
        if trouble is Trouble.CLOSED:
            self._close()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if trouble is Trouble.SLOW_DOWN:
            self._answer(503, "Service Unavailable", [], _SLOW_DOWN)
            return
        if trouble is Trouble.DELAYED:
            time.sleep(_DELAY)
        with closing(HTTPConnection(self.proxy.target_of(self.path), timeout=60)) as connection:
            connection.request(self.command, self.path, body, dict(self.headers.items()))
            answer = connection.getresponse()
            content, headers = answer.read(), answer.getheaders()
            length = answer.getheader("Content-Length")
        if trouble is Trouble.LOST:
            self._close()
            return
        sent = content[: len(content) // 2] if trouble is Trouble.CUT else content
        kept = [(name, value) for name, value in headers if name.lower() not in _HOP]
        self._answer(answer.status, answer.reason, kept, sent, int(length) if length else len(content))
        if trouble is Trouble.CUT:
            self._close()

    def _answer(
        self, status: int, reason: str, headers: list[tuple[str, str]], body: bytes, length: int | None = None
    ) -> None:
        self.send_response_only(status, reason)
        for name, value in headers:
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)
        self.wfile.flush()

    def _close(self) -> None:
        self.close_connection = True
        self.connection.shutdown(SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        pass
