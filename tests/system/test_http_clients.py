"""HTTP requests of other programs at each service: HEAD, and answers to clients of HTTP/1.0."""

import socket
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx2
import pytest

from scripts.trio import Trio
from tests.support.segments import segment_body

ROUTES = {
    "glitchflow_api": [
        *("/stats", "/dumpbuf", "/desc", "/overview", "/batches", "/batches/none", "/segments?limit=1", "/coverage"),
        *("/log", "/dspage", "/docs", "/openapi.json", "/problems", "/whoami", "/healthz", "/readyz", "/nothing"),
    ],
    "dslogic": ["/bufstat", "/dsdesc", "/dumpf", "/dumpflog", "/", "/overview", "/healthz", "/readyz", "/nothing"],
    "databuffer": ["/stat", "/dstat", "/dumpF", "/dumpLogF", "/segments", "/healthz", "/readyz", "/nothing"],
}


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio]) -> Trio:
    trio = start_shared_trio()
    httpx2.post(f"{trio.url}/streamdata", content=segment_body(1), headers={"Content-Type": "application/json"})
    return trio


def address_of(trio: Trio, service: str) -> str:
    return next(each.url for each in trio.services if each.name == service)


@pytest.mark.parametrize(("service", "path"), [(service, path) for service in ROUTES for path in ROUTES[service]])
def test_head_has_the_headers_of_get_and_no_body(trio: Trio, service: str, path: str) -> None:
    url, own = address_of(trio, service) + path, {"X-Request-ID": "the-same"}
    get, head = httpx2.get(url, headers=own), httpx2.head(url, headers=own)
    assert (head.status_code, head.content) == (get.status_code, b"")
    changing = {"date"} if "overview" not in path else {"date", "content-length"}
    of_head, of_get = (sorted(each.headers.multi_items()) for each in (head, get))
    assert [each for each in of_head if each[0] not in changing] == [each for each in of_get if each[0] not in changing]


def test_head_of_a_stored_segment_has_its_length_and_digest_at_every_tier(trio: Trio) -> None:
    [name] = httpx2.get(f"{trio.url}/dumpbuf").json()["nmlist"]
    for service in trio.services:
        get, head = (httpx2.request(method, f"{service.url}/segments/{name}") for method in ("GET", "HEAD"))
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) == len(get.content)
        assert head.headers["etag"] == get.headers["etag"]


@pytest.mark.parametrize("beyond", ["bytes={size}-", "bytes=-0", "bytes={size}-{size}9"])
def test_a_range_beyond_a_segment_is_refused_by_every_service(trio: Trio, beyond: str) -> None:
    [name] = httpx2.get(f"{trio.url}/dumpbuf").json()["nmlist"]
    size = len(httpx2.get(f"{trio.url}/segments/{name}").content)
    for service in trio.services:
        answer = httpx2.get(f"{service.url}/segments/{name}", headers={"Range": beyond.format(size=size)})
        assert (answer.status_code, answer.json()["code"]) == (416, "range-not-satisfiable")
        assert answer.headers["content-range"] == f"bytes */{size}"


@pytest.mark.parametrize(
    "unread", ["bytes=abc", "lines=0-1", "bytes=5-2", "bytes=-", "bytes=0-0,2-2", f"bytes={'9' * 5000}-"]
)
def test_a_range_that_is_none_or_many_is_answered_with_all_bytes(trio: Trio, unread: str) -> None:
    [name] = httpx2.get(f"{trio.url}/dumpbuf").json()["nmlist"]
    url = f"{trio.url}/segments/{name}"
    whole, answer = httpx2.get(url), httpx2.get(url, headers={"Range": unread})
    assert (answer.status_code, answer.content) == (200, whole.content)


def test_a_range_of_a_segment_has_its_bytes_while_the_etag_is_the_same(trio: Trio) -> None:
    [name] = httpx2.get(f"{trio.url}/dumpbuf").json()["nmlist"]
    url = f"{trio.url}/segments/{name}"
    whole = httpx2.get(url)
    for asked, bytes_ in (
        ("bytes=2-4", slice(2, 5)),
        ("bytes=-3", slice(-3, None)),
        ("bytes=2-99999999", slice(2, None)),
    ):
        answer = httpx2.get(url, headers={"Range": asked, "If-Range": whole.headers["etag"]})
        assert (answer.status_code, answer.content) == (206, whole.content[bytes_])
    answer = httpx2.get(url, headers={"Range": "bytes=2-4", "If-Range": '"another"'})
    assert (answer.status_code, answer.content) == (200, whole.content)


def test_head_of_a_stream_of_events_ends(trio: Trio) -> None:
    answer = httpx2.head(f"{trio.url}/events")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")


def talk(url: str, request: bytes) -> Iterator[bytes]:
    place = urlsplit(url)
    with socket.create_connection((str(place.hostname), place.port), 60) as connection:
        connection.sendall(request)
        while part := connection.recv(1 << 16):
            yield part


def test_a_client_of_http_1_0_gets_lines_without_chunks(trio: Trio) -> None:
    body = b"".join(segment_body(number) + b"\n" for number in range(3))
    head = b"POST /%b HTTP/1.0\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n"
    for service, path in {"databuffer": b"sendF", "dslogic": b"stream", "glitchflow_api": b"streamdata"}.items():
        answer = b"".join(talk(address_of(trio, service), head % (path, len(body)) + body))
        head_of_answer, _, lines = answer.partition(b"\r\n\r\n")
        assert b"chunked" not in head_of_answer.lower()
        assert [b'"CREATED"' in line for line in lines.splitlines()] == [True] * 3


def test_a_client_of_http_1_0_receives_events_without_chunks(trio: Trio) -> None:
    heard = b""
    for part in talk(trio.url, b"GET /events HTTP/1.0\r\nHost: x\r\n\r\n"):
        heard += part
        if b"event: overview" in heard:
            break
    head, _, events = heard.partition(b"\r\n\r\n")
    assert b"chunked" not in head.lower()
    assert events.startswith(b"retry: ")
