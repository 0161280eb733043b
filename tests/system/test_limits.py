"""Limits of the real trio: exactly the limit passes all services, and one more is refused with the limit's name."""

import json
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx2
import pytest
from fastapi.testclient import TestClient

from glitchflow_api.app import create_app as create_gateway
from glitchflow_api.settings import GatewaySettings
from gwwire.public import Scope
from scripts.trio import Trio
from tests.support.keyring import Keyring
from tests.support.segments import JSON, segment_body

NDJSON = {"Content-Type": "application/x-ndjson"}
MAX_BODY = 4000
BODY_TIMEOUT = 3


def segment(samples: int = 4, meta: object = None) -> bytes:
    body = {"h": [1.0] * samples, "t": [0, 1]} | ({} if meta is None else {"meta": meta})
    return json.dumps(body, separators=(",", ":")).encode()


def padded(size: int) -> bytes:
    body = segment()
    return body + b" " * (size - len(body))


# The largest allowed request, the smallest refused one, and the message.
EDGES = {
    "MAX_BODY": (padded(MAX_BODY), padded(MAX_BODY + 1), 413, "too-large"),
    "MAX_SAMPLES": (segment(50), segment(51), 422, "too-many-samples"),
    "MAX_META": (segment(meta={"a": "x" * 92}), segment(meta={"a": "x" * 93}), 422, "meta-too-large"),
    "MAX_DEPTH": (segment(meta={"a": [[]]}), segment(meta={"a": [[[]]]}), 422, "too-deep"),
}


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio]) -> Trio:
    return start_shared_trio(
        {
            "MAX_BODY": str(MAX_BODY),
            "MAX_SAMPLES": "50",
            "MAX_META": "100",
            "MAX_DEPTH": "4",
            "HEADER_TIMEOUT": "2",
            "BODY_TIMEOUT": str(BODY_TIMEOUT),
            "MAX_CONNECTIONS": "40",
            "MAX_STREAMS": "8",
            "MAX_WAITING": "6",
        }
    )


def addresses(trio: Trio) -> list[tuple[str, str]]:
    """The addresses of the gateway, dslogic and the buffer."""
    urls = {service.name: service.url for service in trio.services}
    return [
        (urls["glitchflow_api"], "/streamdata"),
        (urls["dslogic"], "/stream"),
        (urls["databuffer"], "/sendF"),
    ]


@pytest.mark.parametrize("limit", EDGES)
def test_the_limit_itself_passes_and_one_more_is_refused_by_name_at_every_tier(trio: Trio, limit: str) -> None:
    allowed, more, status, code = EDGES[limit]
    for url, path in addresses(trio):
        assert httpx2.post(url + path, content=allowed, headers=JSON).status_code in {200, 201}
        refused = httpx2.post(url + path, content=more, headers=JSON)
        assert (refused.status_code, refused.json()["code"]) == (status, code)
        assert limit in refused.json()["detail"]
        lines = httpx2.post(url + path, content=allowed + b"\n" + more + b"\n" + allowed, headers=NDJSON)
        assert lines.status_code == 200
        first, second, third = map(json.loads, lines.text.splitlines())
        assert first["resp"] == third["resp"] == "CREATED"
        assert second["code"] == code


# ---- slow senders and floods


def connect(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), 60)


def rest_of(connection: socket.socket) -> bytes:
    received = b""
    with connection:
        connection.settimeout(60)
        while piece := connection.recv(65536):
            received += piece
    return received


@contextmanager
def dripping(url: str, beginning: bytes, count: int) -> Iterator[list[socket.socket]]:
    """Hold `count` connections that send a byte now and then, after `beginning`."""
    over = threading.Event()
    with ExitStack() as stack:
        connections = [stack.enter_context(connect(url)) for _ in range(count)]
        for connection in connections:
            connection.sendall(beginning)

        def drip() -> None:
            while not over.wait(0.05):
                for connection in connections:
                    try:
                        connection.send(b"1")
                    except OSError:
                        continue

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield connections
        finally:
            over.set()
            thread.join()


def head(path: str, kind: str, length: int | None) -> bytes:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n{framing}\r\n\r\n".encode()


def test_a_body_that_is_too_slow_is_refused_and_the_connection_ends(trio: Trio) -> None:
    url, path = addresses(trio)[0]
    with dripping(url, head(path, "application/json", 3000), 1) as [connection]:
        answer = rest_of(connection)
    assert answer.startswith(b"HTTP/1.1 408 "), answer
    assert b'"code":"timeout"' in answer
    assert b"BODY_TIMEOUT" in answer


def test_headers_that_come_too_slowly_end_the_connection(trio: Trio) -> None:
    gateway = trio.url
    with dripping(gateway, b"GET /stats HTTP/1.1\r\nHost: x\r\nX-Slow: ", 1) as [connection]:
        answer = rest_of(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"HEADER_TIMEOUT" in answer
    assert rest_of(connect(gateway)).startswith(b"HTTP/1.1 408 "), "so does a connection that says nothing"


HEADS_WITHOUT_END = {
    "address": b"GET /",
    "one header": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: ",
    "what follows chunks": b"POST /session HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Long: ",
}


@pytest.mark.parametrize("beginning", HEADS_WITHOUT_END.values(), ids=HEADS_WITHOUT_END)
def test_a_head_without_end_is_not_gathered(trio: Trio, beginning: bytes) -> None:
    sent, most = 0, 20_000_000
    with connect(trio.url) as connection, suppress(ConnectionError):
        connection.sendall(beginning)
        while sent < most:
            connection.sendall(b"a" * 65536)
            sent += 65536
    assert sent < most
    with connect(trio.url) as connection:
        connection.sendall(beginning)
        time.sleep(0.1)  # unread bytes when the connection is closed would discard the answer
        connection.sendall(b"a" * 66_000)
        answer = rest_of(connection)
    # A busy server that has read the beginning together with the rest gives it up after HEADER_TIMEOUT.
    refused = any(status in answer for status in (b"HTTP/1.1 400 ", b"HTTP/1.1 408 "))
    assert refused or beginning.endswith(b"chunked\r\n\r\n0\r\nX-Long: ")


def test_the_longest_headers_that_a_browser_sends_pass(trio: Trio) -> None:
    assert httpx2.get(f"{trio.url}/healthz", headers={"Cookie": "a=" + "b" * 60_000}).status_code == 200


def test_many_small_chunks_are_no_head_without_end(trio: Trio) -> None:
    line = segment() + b"\n"
    pieces = (line if number % 500 == 0 else b" " for number in range(5_000))
    answer = httpx2.post(f"{trio.url}/streamdata", content=pieces, headers=NDJSON)
    assert answer.text.count('"CREATED"') == 10


def test_a_stream_of_few_small_lines_is_stored_as_it_comes(trio: Trio) -> None:
    def stored() -> int:
        return int(httpx2.get(f"{trio.url}/stats").json()["n_itm"])

    def lines() -> Iterator[bytes]:
        for _ in range(6):
            expected = stored() + 1
            yield segment() + b"\n"
            deadline = time.monotonic() + 60
            while stored() < expected:
                assert time.monotonic() < deadline
            time.sleep(0.6)  # together they take longer than BODY_TIMEOUT, but none by itself

    answer = httpx2.post(f"{trio.url}/streamdata", content=lines(), headers=NDJSON)
    assert answer.text.count('"CREATED"') == 6


def test_the_limit_of_an_order_does_not_depend_on_max_body() -> None:
    with TestClient(create_gateway(GatewaySettings.model_validate({}))) as gateway:
        for path in ("/session", "/train"):
            refused = gateway.post(path, content=b'"' + b"a" * 70_000 + b'"', headers=JSON)
            assert (refused.status_code, refused.json()["code"]) == (413, "too-large")


def test_a_client_that_asks_for_another_protocol_does_not_hold_a_connection(trio: Trio) -> None:
    asking = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    asking += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    for _ in range(45):  # more than MAX_CONNECTIONS, one after the other
        with connect(trio.url) as connection:
            connection.sendall(asking)
            assert rest_of(connection).startswith(b"HTTP/1.1 200 ")
    assert httpx2.get(f"{trio.url}/stats").status_code == 200


def test_a_long_query_or_header_reaches_the_tier_that_parses_it(trio: Trio) -> None:
    found = httpx2.get(f"{trio.url}/segments?{'&'.join(f'channel={n:0200}' for n in range(25))}")
    assert (found.status_code, found.json()["segments"]) == (200, [])
    headers = {**JSON, "Idempotency-Key": "k" * 9000}
    refused = httpx2.post(f"{trio.url}/streamdata", content=segment(), headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid-request")


def test_a_stream_that_pauses_too_long_is_refused(trio: Trio) -> None:
    url, path = addresses(trio)[0]
    with connect(url) as connection:
        connection.sendall(head(path, "application/x-ndjson", None))
        answer = rest_of(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"BODY_TIMEOUT" in answer


def test_a_stream_that_pauses_too_long_ends_after_the_answers_so_far(trio: Trio) -> None:
    url, path = addresses(trio)[0]
    line = segment() + b"\n"
    with connect(url) as connection:
        connection.sendall(head(path, "application/x-ndjson", None) + b"%x\r\n%b\r\n" % (len(line), line))
        answer = rest_of(connection)
    assert answer.count(b'"CREATED"') == 1
    assert not answer.endswith(b"0\r\n\r\n"), "the client sees that the answer has no end"


def test_connections_beyond_the_limit_are_refused_and_probes_are_still_answered(
    start_trio: Callable[..., Trio],
) -> None:
    url = start_trio({"MAX_CONNECTIONS": "40", "HEADER_TIMEOUT": "60"}).url  # they say nothing for so long
    with ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(connect(url))
        refused = httpx2.get(f"{url}/stats")
        assert (refused.status_code, refused.json()["code"]) == (503, "too-many-connections")
        assert "MAX_CONNECTIONS" in refused.json()["detail"]
        assert refused.headers["retry-after"] == "1"
        assert httpx2.get(f"{url}/healthz").status_code == 200
    deadline = time.monotonic() + 60
    while httpx2.get(f"{url}/stats").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def latency(url: str, count: int = 25) -> float:
    """The median time that a well-behaved client waits for a segment to be stored, s."""
    times = []
    with httpx2.Client(base_url=url) as client:
        for number in range(count):
            began = time.perf_counter()
            assert client.post("/streamdata", content=segment_body(number), headers=JSON).json()["resp"] == "CREATED"
            times.append(time.perf_counter() - began)
    return statistics.median(times)


@pytest.mark.parametrize(
    ("kind", "to"),
    [("application/json", 0), ("application/x-ndjson", 0), ("application/json", 1), ("application/x-ndjson", 1)],
    ids=["bodies", "streams", "bodies to dslogic", "streams to dslogic"],
)
def test_slow_senders_do_not_slow_down_other_clients(trio: Trio, kind: str, to: int) -> None:
    url, path = addresses(trio)[to]
    alone = latency(trio.url)
    with dripping(url, head(path, kind, 3000), 24):
        beside = latency(trio.url)
    assert beside < max(10 * alone, BODY_TIMEOUT / 2), "nobody waits until slow senders are given up"


def test_a_flood_is_refused_and_other_clients_are_served(start_trio: Callable[..., Trio], tmp_path: Path) -> None:
    keys = Keyring(tmp_path / "keys.json")
    good, greedy = (keys.make(name, Scope.STREAM, Scope.READ) for name in ("good", "greedy"))
    trio = start_trio({**keys.settings, "RATE": "10", "BURST": "60"})
    over = threading.Event()
    statuses: list[int] = []

    def flood() -> None:
        with httpx2.Client(base_url=trio.url, headers={"Authorization": f"Bearer {greedy}"}) as client:
            while not over.is_set() and len(statuses) < 3000:
                statuses.append(client.get("/stats").status_code)

    began = time.monotonic()
    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        with httpx2.Client(base_url=trio.url, headers={"Authorization": f"Bearer {good}"}) as client:
            number = 0
            while number < 20 or 429 not in statuses:
                stored = client.post("/streamdata", content=segment_body(number), headers=JSON)
                assert stored.json()["resp"] == "CREATED"
                number += 1
                time.sleep(0.03)  # within RATE and BURST
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert statuses.count(200) <= 60 + 10 * (time.monotonic() - began) + 1
    assert set(statuses) == {200, 429}


# ---- requests that wait


def test_readers_of_changes_leave_connections_to_claims_and_segments(trio: Trio) -> None:
    feed, claim = {"feed": "continuous"}, {"worker": "one", "kind": "nothing"}
    with httpx2.Client(base_url=trio.url, timeout=20) as client, ExitStack() as readers:
        parts = [readers.enter_context(client.stream("GET", "/changes", params=feed)).iter_bytes() for _ in range(6)]
        assert all(next(each) for each in parts)
        refused = client.get("/changes", params=feed)
        assert (refused.status_code, refused.json()["code"]) == (503, "too-many-connections")
        assert "MAX_WAITING" in refused.json()["detail"]
        assert refused.headers["retry-after"] == "5"
        assert client.post("/steps/idle/claim", json=claim).json()["records"] == []
        assert client.get("/steps").status_code == 200
        assert client.post("/streamdata", content=segment(), headers=JSON).json()["resp"] == "CREATED"
        readers.close()
        while client.get("/changes").status_code != 200:
            time.sleep(0.01)


# ---- quota


def test_a_groups_quota_is_in_every_answer_and_ends_with_a_problem(
    start_trio: Callable[..., Trio], tmp_path: Path
) -> None:
    keys = Keyring(tmp_path / "keys.json")
    both = [
        {"Authorization": f"Bearer {keys.make(name, Scope.STREAM, Scope.READ, group='detchar')}"}
        for name in ("alice", "bob")
    ]
    other = {"Authorization": f"Bearer {keys.make('eve', Scope.STREAM, Scope.READ, group='cbc')}"}
    other["X-Group"] = "detchar"  # the group that a client sends is ignored
    size = len(segment())
    trio = start_trio({**keys.settings, "GROUP_QUOTA": str(4 * size), "BUNDLE_QUOTA": "1kB"})
    with httpx2.Client(base_url=trio.url) as client:
        for number, who in enumerate([*both, both[0]]):
            key = {"Idempotency-Key": f"key {number}"}
            for _ in range(2):
                stored = client.post("/streamdata", content=segment(), headers={**JSON, **who, **key})
                assert stored.json()["resp"] == "CREATED"
                left = size * (3 - number)
                assert stored.headers["ratelimit"].startswith(f'"bytes";r={left};t=')
                assert stored.headers["ratelimit-policy"] == f'"bytes";q={4 * size};w=86400;qu="content-bytes"'
        seen = client.get("/stats", headers=both[1]).json()["quota"]
        assert (seen["group"], seen["limit"], seen["used"]) == ("detchar", 4 * size, 3 * size)
        assert 0 < seen["reset"] - time.time() <= 86_400
        lines = client.post("/streamdata", content=b"\n".join([segment()] * 3), headers={**NDJSON, **both[0]})
        assert [json.loads(line).get("code", "stored") for line in lines.text.splitlines()] == [
            "stored",
            *["quota-exceeded"] * 2,
        ]
        refused = client.post("/streamdata", content=segment(), headers={**JSON, **both[1]})
        assert (refused.status_code, refused.json()["code"]) == (429, "quota-exceeded")
        assert "GROUP_QUOTA" in refused.json()["detail"]
        assert 0 < int(refused.headers["retry-after"]) <= 86_400
        assert client.post("/streamdata", content=segment(), headers={**JSON, **other}).json()["resp"] == "CREATED"
        assert client.get("/stats", headers=other).json()["quota"]["used"] == size
        assert client.get("/stats", headers=other).json()["n_itm"] == 5

        # The group travels with an order of files, by whichever route.
        bundle = client.post("/bundles", json={"query": {}, "format": "hdf5"}, headers=other)
        assert (bundle.status_code, bundle.json()["code"]) == (429, "quota-exceeded")
        assert "group cbc may have 1,000 (BUNDLE_QUOTA)" in bundle.json()["detail"]
        mutation = {"query": "mutation { requestBundle(where: {}, format: hdf5) { id } }"}
        asked = client.post("/graphql", json=mutation, headers=both[0])
        assert "group detchar may have 1,000 (BUNDLE_QUOTA)" in asked.text
