"""A receiver of OpenTelemetry traces over HTTP, like a collector."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Span:
    """A span as it was received; ids are hexadecimal."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    linked: tuple[tuple[str, str], ...]
    attributes: dict[str, str | int]
    failed: bool


class Receiver:
    """Receives spans while it is open.

    Attributes:
        spans: all received spans.
        bodies: the exports that contained them.

    """

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.bodies: list[bytes] = []
        self.url = ""

    def wait_for(self, count: int, seconds: float = 60) -> list[Span]:
        """Wait for a number of spans, and return all of them."""
        deadline = time.monotonic() + seconds
        while len(self.spans) < count:
            assert time.monotonic() < deadline, f"{len(self.spans)} spans came, not {count}: {self.spans}"
            time.sleep(0.02)
        return list(self.spans)

    def take(self, body: bytes) -> None:
        """Store an export."""
        self.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans.append(
                        Span(
                            about["service.name"],
                            span.name,
                            span.trace_id.hex(),
                            span.span_id.hex(),
                            span.parent_span_id.hex(),
                            tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
                            {each.key: each.value.string_value or each.value.int_value for each in span.attributes},
                            span.status.code == span.status.STATUS_CODE_ERROR,
                        )
                    )


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Open a receiver on a free port of the loopback."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            assert self.headers["Content-Type"] == "application/x-protobuf"
            receiver.take(self.rfile.read(int(self.headers["Content-Length"])))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield receiver
        server.shutdown()
        thread.join()
