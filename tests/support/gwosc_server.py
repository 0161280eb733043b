"""A stand-in for gwosc.org: serves strain files by the routes that gwosc 0.8 and gwpy 4 use.

It is meant for the unmodified libraries: start the program under test with GWOSC_SERVER_URL set to `url`
(gwosc reads it once, when it is imported).
"""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import msgspec

#: What GWOSC says of the first event.
GW150914_GPS = 1126259462.4


class GwoscServer:
    """Serves the GW150914 files of a folder, named by LIGO-T050017 (`L-L1_LOSC_4_V2-1126259446-32.hdf5`).

    Use it as `with GwoscServer(folder) as gwosc`; `gwosc.url` is its address. While `down`, it answers 503.
    """

    def __init__(self, folder: Path) -> None:
        self.files = {path.name: path for path in sorted(folder.glob("*.hdf5"))}
        self.requests: list[str] = []
        self.down = False

    def __enter__(self) -> Self:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.requests.append(self.path)
                status, kind, body = server.answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

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
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(10)

    def answer(self, target: str) -> tuple[int, str, bytes]:
        """Give status, media type and body for a request target."""
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

    def _api(self, route: str, query: dict[str, str]) -> dict[str, Any] | None:
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
                return _page([])
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


def _page(results: list[dict[str, Any]]) -> dict[str, Any]:
    return {"results_count": len(results), "num_pages": 1, "next": None, "previous": None, "results": results}
