"""The data path under the real gunicorn, over real sockets."""

import socket
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx2
import pytest

from scripts.trio import Trio
from tests.support.segments import JSON, segment_body

NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio]) -> Trio:
    return start_shared_trio({"MAX_BODY": "20kB"}, services=2)


@pytest.fixture
def client(trio: Trio) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=trio.url) as client:
        yield client
        client.post("/flushbuf")


def in_chunks(body: bytes) -> Iterator[bytes]:
    yield body[:10]
    yield body[10:]


def test_a_segment_may_come_in_chunks(client: httpx2.Client) -> None:
    assert client.post("/stream", content=in_chunks(segment_body(1)), headers=JSON).status_code == 201
    assert client.get("/bufstat").json()["n_itm"] == 1


@pytest.mark.parametrize("framing", ["whole", "in chunks"])
def test_a_segment_that_is_too_large_is_refused_and_the_next_one_is_not(client: httpx2.Client, framing: str) -> None:
    large = segment_body(1, samples=3000)
    answer = client.post("/stream", content=large if framing == "whole" else in_chunks(large), headers=JSON)
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")
    assert client.post("/stream", content=segment_body(1), headers=JSON).status_code == 201


def test_the_buffers_refusal_of_a_media_type_is_returned_unchanged(client: httpx2.Client) -> None:
    answer = client.post("/stream", content=segment_body(1), headers={"Content-Type": "text/plain"})
    assert (answer.status_code, answer.headers["content-type"]) == (415, "application/problem+json")


@pytest.mark.parametrize("path", ["/stream", "/freezeds", "/flushbuf"])
def test_a_compressed_body_is_refused_by_name(client: httpx2.Client, path: str) -> None:
    answer = client.post(path, content=b"\x1f\x8b", headers={**JSON, "Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["field"]) == (415, "Content-Encoding")


def test_a_key_travels_down_and_makes_a_retry_safe(client: httpx2.Client) -> None:
    headers = {**JSON, "Idempotency-Key": "a key"}
    first = client.post("/stream", content=segment_body(1), headers=headers)
    assert client.post("/stream", content=segment_body(1), headers=headers).text == first.text
    assert client.post("/stream", content=segment_body(2), headers=headers).json()["code"] == "idempotency-key-reused"


def test_only_post_and_options_are_for_the_way_of_the_data(client: httpx2.Client) -> None:
    offer = client.options("/stream")
    assert (offer.status_code, offer.headers["accept-post"]) == (204, "application/json, application/x-ndjson")
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        answer = client.request(method, "/stream")
        assert answer.status_code == 405
        assert "POST" in answer.headers["allow"]
    answer = client.post("/stream/")
    assert (answer.status_code, answer.headers["location"]) == (307, "../stream")


@pytest.mark.parametrize("framing", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson"])
def test_an_incomplete_segment_of_a_disconnected_client_is_not_stored(
    trio: Trio, client: httpx2.Client, framing: str, media_type: str
) -> None:
    place = urlsplit(trio.url)
    part = segment_body(1)[:-1]
    piece = b"%x\r\n%b\r\n" % (len(part), part) if "chunked" in framing else part
    with socket.create_connection((place.hostname or "", place.port or 0)) as gone:
        gone.sendall(f"POST /stream HTTP/1.1\r\nHost: x\r\nContent-Type: {media_type}\r\n{framing}\r\n\r\n".encode())
        gone.sendall(piece)
    assert client.post("/stream", content=segment_body(2), headers=JSON).status_code == 201
    assert client.get("/bufstat").json()["n_itm"] == 1


def test_many_segments_are_answered_line_by_line(client: httpx2.Client) -> None:
    lines = b"\n".join([segment_body(1), b"{}", segment_body(2)])
    answer = client.post("/stream", content=in_chunks(lines), headers=NDJSON)
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert len(answer.text.splitlines()) == 3
    assert client.get("/bufstat").json()["n_itm"] == 2
