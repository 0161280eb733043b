"""A WLCG Tape REST API, version 1, for the files of a folder that another server serves; gfal2 is its judge.

A file is online while a stage request pins it. Otherwise it has no permissions, so that nobody can read it. A file that
was written goes to tape as soon as the API is asked for it. The robot works while its progress is asked for.
"""

import json
import os
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

_STATES = ("SUBMITTED", "STARTED", "COMPLETED")
_DURATION = r"P(\d+D)?(T(\d+H)?(\d+M)?(\d+S)?)?"


class Refused(Exception):
    """The status of an answer without a body."""


class TapeSite:
    """The tape of the files below `root`; with a `token`, requests need it. While it is `stuck`, nothing comes online.

    `requests` has the states of the files of each stage request, `pins` the requests that keep a path online, and
    `answered` the number of calls.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = ""
        self.token = ""
        self.stuck = False
        self.requests: dict[str, dict[str, str]] = {}
        self.pins: dict[str, set[str]] = {}
        self.authorizations: set[str | None] = set()
        self.answered = 0
        self._lock = threading.Lock()

    def answer(self, method: str, path: str, order: Any) -> tuple[int, Any]:
        """Return the status and body of an answer, or raise Refused."""
        parts = [part for part in path.split("/") if part]
        with self._lock:
            self.answered += 1
            match method, parts:
                case "POST", ["api", "v1", "stage"]:
                    return 201, {"requestId": self._stage(order)}
                case "GET", ["api", "v1", "stage", request]:
                    return 200, self._progress(request)
                case "POST", ["api", "v1", "stage", request, "cancel"]:
                    self._cancel(request, _paths(order))
                    return 200, None
                case "DELETE", ["api", "v1", "stage", request]:
                    self._states(request)
                    del self.requests[request]  # what is online stays pinned until it is released
                    return 204, None
                case "POST", ["api", "v1", "release", request]:
                    for each in _paths(order):
                        self._release(request, each)
                    return 200, None
                case "POST", ["api", "v1", "archiveinfo"]:
                    return 200, [{"path": path, **self._info(path)} for path in _paths(order)]
        raise Refused(404)

    def _stage(self, order: Any) -> str:
        if not isinstance(order, dict) or order.keys() != {"files"} or not order["files"]:
            raise Refused(400)
        if not all(re.fullmatch(_DURATION, file.get("diskLifetime", "P1D")) for file in order["files"]):
            raise Refused(400)
        request = str(uuid4())
        self.requests[request] = {file["path"]: _STATES[0] for file in order["files"]}
        return request

    def _progress(self, request: str) -> dict[str, Any]:
        states = self._states(request)
        for path, state in states.items():
            if not self._file(path).is_file():
                states[path] = "FAILED"
            elif state in _STATES[:-1] and not self.stuck:
                states[path] = _STATES[_STATES.index(state) + 1]
                if states[path] == _STATES[-1]:
                    self.pins.setdefault(_collapsed(path), set()).add(request)
                    self._file(path).chmod(0o644)
        failed = {"error": "no such file", "onDisk": False}
        files = [
            {"path": path, "state": state, **(failed if state == "FAILED" else {"onDisk": state == _STATES[-1]})}
            for path, state in states.items()
        ]
        return {"id": request, "createdAt": 0, "files": files}

    def _cancel(self, request: str, paths: list[str]) -> None:
        states = self._states(request)
        if not states.keys() >= set(paths):
            raise Refused(400)
        for path in paths:
            states[path] = "CANCELED" if states[path] in _STATES[:-1] else states[path]

    def _release(self, request: str, path: str) -> None:
        self.pins.get(_collapsed(path), set()).discard(request)
        self._info(path)

    def _info(self, path: str) -> dict[str, str]:
        file = self._file(path)
        if not file.is_file():
            return {"error": "no such file"}
        if not file.stat().st_size:
            return {"locality": "NONE"}
        if self.pins.get(_collapsed(path)):
            return {"locality": "DISK_AND_TAPE"}
        file.chmod(0)
        return {"locality": "TAPE"}

    def _states(self, request: str) -> dict[str, str]:
        if request not in self.requests:
            raise Refused(404)
        return self.requests[request]

    def _file(self, path: str) -> Path:
        return self.root / os.path.normpath(_collapsed(path)).lstrip("/")


def _collapsed(path: str) -> str:
    return re.sub("/+", "/", path)


def _paths(order: Any) -> list[str]:
    match order:
        case {"paths": [*paths]} if paths:
            return [str(path) for path in paths]
    raise Refused(400)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: TapeSite

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.site.authorizations.add(self.headers.get("Authorization"))
        try:
            if self.path == "/.well-known/wlcg-tape-rest-api":
                status, answer = 200, discovery(f"http://{self.headers['Host']}")
            elif self.site.token and self.headers.get("Authorization") != f"Bearer {self.site.token}":
                status, answer = 401, None
            else:
                status, answer = self.site.answer(self.command, self.path, json.loads(body) if body else None)
        except Refused as error:
            status, answer = error.args[0], None
        content = b"" if answer is None else json.dumps(answer).encode()
        self.send_response_only(status)
        if status != 204:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815 (the names that the base class wants)

    def log_message(self, *_: object) -> None:
        pass


def discovery(server: str) -> dict[str, Any]:
    """Return the document that says where the API of a server is."""
    endpoints = [
        {"uri": f"{server}/api/v0/", "version": "v0", "metadata": {}},
        {"uri": f"{server}/api/v1/", "version": "v1"},
    ]
    return {"sitename": "test", "description": "a folder", "endpoints": endpoints}


@contextmanager
def tape_rest_server(root: Path, tls: ssl.SSLContext | None = None) -> Iterator[TapeSite]:
    """Serve the files below `root`, and say so in its folder `.well-known`, until the block ends."""
    site = TapeSite(root)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": site}))
    server.daemon_threads = True
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    site.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    document = root / ".well-known" / "wlcg-tape-rest-api"
    before = document.read_bytes() if document.exists() else None
    document.write_text(json.dumps(discovery(site.url)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        document.unlink() if before is None else document.write_bytes(before)
