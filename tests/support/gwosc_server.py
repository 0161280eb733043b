"""A stand-in for gwosc.org: serves strain files by the routes that gwosc 0.8 and gwpy 4 use.

It is meant for the unmodified libraries: start the program under test with GWOSC_SERVER_URL set to `url`
(gwosc reads it once, when it is imported). It can fail on purpose: faults apply to coming requests, one each, in
the order they arrive, for targets with the prefix of a fault.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import msgspec

#: The metadata of the first event at GWOSC.
GW150914_GPS = 1126259462.4
_RUN = {"name": "O1", "gps_start": 1126051217, "gps_end": 1137254417, "detectors": ["H1", "L1"]}


@dataclass(frozen=True)
class Answering:
    """A fault: answer with this status instead."""

    status: int
    retry_after: str | None = None
    target: str = "/"
    body: bytes = b""
    location: str | None = None


@dataclass(frozen=True)
class Truncating:
    """A fault: close the connection after this number of bytes of the body."""

    bytes: int
    target: str = "/files/"


@dataclass(frozen=True)
class Stalling:
    """A fault: send this number of bytes, and then nothing for a while."""

    bytes: int
    seconds: float
    target: str = "/files/"


@dataclass(frozen=True)
class Pausing:
    """A fault: send this number of bytes, and the rest when `go_on` of the server is set."""

    bytes: int
    target: str = "/files/"


@dataclass(frozen=True)
class Overlapping:
    """A fault: send the whole file as if it were the rest of it (206)."""

    target: str = "/files/"


Fault = Answering | Truncating | Stalling | Pausing | Overlapping


class GwoscServer:
    """Serves the GW150914 files of a folder, named by LIGO-T050017 (`L-L1_LOSC_4_V2-1126259446-32.hdf5`).

    Use it as `with GwoscServer(folder) as gwosc`; `gwosc.url` is its address. While `down`, it answers 503. It serves
    ranges and ETags by default. `requests` has the requested targets, `fetched` those of files that were sent, `ranges`
    the ranges, `agents` the values of User-Agent. Files are served in every folder below /files/.
    """

    def __init__(
        self, folder: Path, faults: Iterable[Fault] = (), *, ranges: bool = True, versions: bool = True
    ) -> None:
        self.files = {path.name: path for path in sorted(folder.glob("*.hdf5"))}
        self.requests: list[str] = []
        self.ranges: list[str] = []
        self.fetched: list[str] = []
        self.agents: set[str] = set()
        self.faults = list(faults)
        self.down = False
        self._serves_ranges = ranges
        self._knows_versions = versions
        self._ended = threading.Event()
        self.go_on = threading.Event()

    def __enter__(self) -> Self:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append(self.path)
                server.agents.add(self.headers.get("User-Agent", ""))
                fault = server.next_fault(self.path)
                if isinstance(fault, Answering):
                    self.send_response(fault.status)
                    if fault.retry_after:
                        self.send_header("Retry-After", fault.retry_after)
                    if fault.location:
                        self.send_header("Location", fault.location)
                    self.send_header("Content-Length", str(len(fault.body)))
                    self.end_headers()
                    self.wfile.write(fault.body)
                    return
                status, kind, body = server.answer(self.path)
                version = server.version(body)
                if version and self.headers.get("If-None-Match") == version:
                    self.send_response(304)
                    self.end_headers()
                    return
                if self.path.startswith("/files/"):
                    server.fetched.append(self.path)
                unchanged = self.headers.get("If-Range", version) == version
                wanted = self.headers.get("Range") if unchanged else None
                status, body, span = server.cut("bytes=0-" if isinstance(fault, Overlapping) else wanted, status, body)
                self.send_response(status)
                self.send_header("Content-Range", span)
                if version:
                    self.send_header("ETag", version)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if server.send(self.wfile, body, fault):
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self.go_on.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(10)

    def next_fault(self, target: str) -> Fault | None:
        """Return the first fault for a target, and remove it."""
        for fault in self.faults:
            if target.startswith(fault.target):
                self.faults.remove(fault)
                return fault
        return None

    def send(self, out: BufferedIOBase, body: bytes, fault: Fault | None) -> bool:
        """Send a body, as far as its fault allows; return whether the connection has to be closed then."""
        size = fault.bytes if isinstance(fault, Truncating | Stalling | Pausing) else len(body)
        out.write(body[:size])
        out.flush()
        if isinstance(fault, Stalling):
            self.wait(fault.seconds)
        if isinstance(fault, Pausing):
            self.go_on.wait()
            out.write(body[size:])
        return isinstance(fault, Truncating | Stalling)

    def wait(self, seconds: float) -> None:
        """Wait this number of seconds, or until the server ends."""
        self._ended.wait(seconds)

    def version(self, body: bytes) -> str:
        """Return the ETag of a body, if it has one."""
        return f'"{sha256(body).hexdigest()}"' if self._knows_versions else ""

    def cut(self, wanted: str | None, status: int, body: bytes) -> tuple[int, bytes, str]:
        """Return status, body and Content-Range for a range such as `bytes=100-`."""
        if wanted is None or status != 200 or not self._serves_ranges:
            return status, body, ""
        self.ranges.append(wanted)
        first = int(wanted.removeprefix("bytes=").removesuffix("-"))
        size = len(body)
        if first >= size:
            return 416, b"", f"bytes */{size}"
        return 206, body[first:], f"bytes {first}-{size - 1}/{size}"

    def answer(self, target: str) -> tuple[int, str, bytes]:
        """Return status, media type and body for a request target."""
        url = urlsplit(target)
        if self.down:
            return 503, "text/plain", b"down"
        if url.path.startswith("/files/") and (path := self.files.get(url.path.rpartition("/")[2])):
            return 200, "application/octet-stream", path.read_bytes()
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        answer = self._api(url.path.removeprefix("/api/v2/"), query)
        if answer is None:
            return 404, "application/json", b'{"detail":"Not found."}'
        return 200, "application/json", msgspec.json.encode(answer)

    def _api(self, route: str, query: dict[str, str]) -> dict[str, Any] | None:  # noqa: PLR0911 (a route each)
        event = self._event()
        names = (event["name"], event["shortName"])
        match route.split("/"):
            case ["event-versions"]:
                inside = float(query["min-gps-time"]) <= event["gps"] <= float(query["max-gps-time"])
                return _page([event] if inside else [])
            case ["event-versions", name] if name in names:
                return event
            case ["event-versions", name, "strain-files"] if name in names:
                return _page([file for file in self._strain_files() if _matches(file, query)])
            case ["runs"]:
                return _page([_RUN])
            case ["runs", "O1"]:
                return _RUN
            case ["runs", "O1", "strain-files"]:
                inside = [file for file in self._strain_files() if _matches(file, query) and _overlaps(file, query)]
                return _page([{**file, "hdf5_url": file["download_url"]} for file in inside])
            case _:
                return None

    def _event(self) -> dict[str, Any]:
        return {
            "name": "GW150914",
            "shortName": "GW150914-v3",
            "version": 3,
            "catalog": "GWTC-1-confident",
            "gps": GW150914_GPS,
            "run": "O1",
            "detectors": sorted({file["detector"] for file in self._strain_files()}),
            "strain_files_url": f"{self.url}/api/v2/event-versions/GW150914-v3/strain-files",
        }

    def _strain_files(self) -> list[dict[str, Any]]:
        return [_describe(name, f"{self.url}/files/{name}") for name in self.files]


def _describe(name: str, url: str) -> dict[str, Any]:
    _, kind, start, duration = name.removesuffix(".hdf5").split("-")
    detector, _, rate, _ = kind.split("_")
    return {
        "gps_start": int(start),
        "duration": int(duration),
        "detector": detector,
        "sample_rate_kHz": int(rate),
        "file_format": "HDF",
        "download_url": url,
    }


def _matches(file: dict[str, Any], query: dict[str, str]) -> bool:
    return (
        query.get("detector", file["detector"]) == file["detector"]
        and query.get("sample-rate", str(file["sample_rate_kHz"])) == str(file["sample_rate_kHz"])
        and query.get("file-format", "hdf") == "hdf"
    )


def _overlaps(file: dict[str, Any], query: dict[str, str]) -> bool:
    start, stop = file["gps_start"], file["gps_start"] + file["duration"]
    return bool(float(query["start"]) < stop and start < float(query["stop"]))


def _page(results: list[dict[str, Any]]) -> dict[str, Any]:
    return {"results_count": len(results), "num_pages": 1, "next": None, "previous": None, "results": results}
