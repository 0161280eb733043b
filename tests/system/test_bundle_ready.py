"""The WebSocket /bundles/{bundle}/ready and the event `bundle`, of the real trio with keys."""

import asyncio
import http.client
import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from glitchflow_api.bundle_watch import _WAIT_SECONDS
from gwwire.public import Scope
from scripts.trio import Trio
from tests.support.event_stream import EventStream
from tests.support.keyring import Keyring
from tests.support.outage import without
from tests.support.scrape import scrape
from tests.support.slow_bundle import SlowBundle

LISTENERS = 200
_numbers = itertools.count()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return Keyring(tmp_path_factory.mktemp("keys") / "keys.json")


@pytest.fixture(scope="module")
def key(keys: Keyring) -> str:
    return keys.make("reader", Scope.READ, Scope.STREAM)


@pytest.fixture(scope="module")
def leaving(keys: Keyring) -> str:
    """Return a key that a test revokes."""
    return keys.make("leaving", Scope.READ)


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio], keys: Keyring, key: str, leaving: str) -> Trio:
    assert key and leaving  # noqa: PT018 (the gateway reads keys that are made later only after seconds)
    return start_shared_trio({**keys.settings, "EVENTS_LISTENERS": str(LISTENERS), "EVENTS_INTERVAL": "0.1"})


@pytest.fixture
def bundle(trio: Trio, key: str) -> Iterator[SlowBundle]:
    with SlowBundle(trio, f"X1:SLOW-{next(_numbers)}", headers={"Authorization": f"Bearer {key}"}) as bundle:
        yield bundle


def ready(trio: Trio, bundle: str, key: str | None, **headers: str) -> connect:
    url = f"{trio.url.replace('http', 'ws', 1)}/bundles/{bundle}/ready"
    given = {} if key is None else {"Authorization": f"Bearer {key}"}
    return connect(url, additional_headers=given | headers, proxy=None, open_timeout=60)


async def rest(socket: ClientConnection) -> tuple[list[str], int, str]:
    """Return the remaining texts, and the code and the reason of the end."""
    texts = []
    with suppress(ConnectionClosed):
        while True:
            async with asyncio.timeout(60):
                texts.append(str(await socket.recv()))
    return texts, socket.close_code or 0, socket.close_reason or ""


async def refusal(trio: Trio, bundle: str, key: str | None, **headers: str) -> tuple[int, str]:
    """Return the status and the code of the problem that a handshake is answered with."""
    with pytest.raises(InvalidStatus) as refused:
        await ready(trio, bundle, key, **headers)
    answer = refused.value.response
    assert answer.headers["Content-Type"] == "application/problem+json"
    return answer.status_code, json.loads(answer.body or b"")["code"]


def stop_and_start(trio: Trio) -> None:
    gateway = trio.processes["glitchflow_api"]
    with without(trio, "glitchflow_api"):
        assert gateway.returncode == 0


def questions(trio: Trio) -> int:
    """Return how many questions for a bundle dslogic has relayed."""
    labels = {"method": "GET", "route": "/bundles/{rest}"}
    return int(scrape(trio.services[1].url).value("glitchflow_http_requests_total", **labels))


@pytest.mark.anyio
async def test_the_texts_follow_the_building_to_its_end(trio: Trio, bundle: SlowBundle, key: str) -> None:
    async with ready(trio, bundle.id, key) as socket:
        assert await socket.recv() == "BUILDING 0%"
        for percent in (20, 40, 60):
            await asyncio.to_thread(bundle.release)
            assert await socket.recv() == f"BUILDING {percent}%"
        await asyncio.to_thread(bundle.release)
        texts, code, _ = await rest(socket)
        assert (texts[-1], code) == ("READY", 1000)
        assert set(texts[:-1]) <= {"BUILDING 80%"}
    async with ready(trio, bundle.id, key) as socket:
        assert await rest(socket) == (["READY"], 1000, "")


@pytest.mark.anyio
async def test_many_listeners_cost_one_question_and_all_hear_the_end(trio: Trio, bundle: SlowBundle, key: str) -> None:
    async with AsyncExitStack() as stack:
        sockets = await asyncio.gather(
            *(stack.enter_async_context(ready(trio, bundle.id, key)) for _ in range(LISTENERS))
        )
        assert {await socket.recv() for socket in sockets} == {"BUILDING 0%"}
        assert await refusal(trio, bundle.id, key) == (503, "too-many-connections")
        before, began = questions(trio), time.monotonic()
        await asyncio.to_thread(bundle.release)
        assert [await socket.recv() for socket in sockets] == ["BUILDING 20%"] * LISTENERS
        asked = questions(trio) - before
        assert asked <= 2 + (time.monotonic() - began) / _WAIT_SECONDS  # some may have ended after their time
        hearing = [asyncio.create_task(rest(socket)) for socket in sockets]
        await asyncio.to_thread(bundle.release, 3)
        assert {(texts[-1], code) for texts, code, _ in await asyncio.gather(*hearing)} == {("READY", 1000)}


@pytest.mark.anyio
async def test_a_bundle_that_is_cancelled_says_so(trio: Trio, bundle: SlowBundle, key: str) -> None:
    async with ready(trio, bundle.id, key) as socket:
        await asyncio.to_thread(bundle.release)
        await asyncio.to_thread(bundle.cancel)
        await asyncio.to_thread(bundle.release)
        texts, code, _ = await rest(socket)
        assert (texts[-1], code) == ("CANCELLED", 1000)


@pytest.mark.anyio
async def test_what_a_client_sends_does_nothing(trio: Trio, bundle: SlowBundle, key: str) -> None:
    async with ready(trio, bundle.id, key) as socket, ready(trio, bundle.id, key) as other:
        for garbage in ("READY", "x" * 1000, b"\0" * 60_000, ""):
            await socket.send(garbage)
        async with asyncio.timeout(60):
            await (await socket.ping())
        assert await other.recv() == "BUILDING 0%"
        await other.send(b"x" * 100_000)
        with pytest.raises(ConnectionClosed):
            await other.recv()
        assert other.close_code == 1009
        assert await socket.recv() == "BUILDING 0%"
        await asyncio.to_thread(bundle.release, 4)
        assert (await rest(socket))[0][-1] == "READY"


def test_bytes_that_are_no_frames_close_only_their_connection(trio: Trio, bundle: SlowBundle, key: str) -> None:
    address = urlsplit(trio.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
    handshake = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    handshake |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Authorization": f"Bearer {key}"}
    connection.request("GET", f"/bundles/{bundle.id}/ready", headers=handshake)
    assert connection.sock
    answer = connection.sock.recv(65536)
    assert answer.startswith(b"HTTP/1.1 101 ")
    connection.sock.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
    while connection.sock.recv(65536):
        pass
    connection.close()
    assert bundle.state()["state"] == "BUILDING"


@pytest.mark.anyio
async def test_a_handshake_is_refused_as_a_question_is(trio: Trio, bundle: SlowBundle, key: str) -> None:
    assert await refusal(trio, "nothing", key) == (404, "not-found")
    assert await refusal(trio, "a%2Fb", key) == (404, "not-found")
    assert await refusal(trio, bundle.id, None) == (401, "unauthorized")
    assert await refusal(trio, bundle.id, "gf_0123456789ab_unknown") == (401, "unauthorized")
    assert await refusal(trio, bundle.id, key, Origin="https://evil.example.org") == (403, "cross-site")
    async with ready(trio, bundle.id, None, Cookie=f"glitchflow={key}", Origin=trio.url) as socket:
        assert await socket.recv() == "BUILDING 0%"
    assert "handshake" not in (trio.home / "services.log").read_text()


def test_a_plain_question_says_that_this_is_a_websocket(trio: Trio, bundle: SlowBundle, key: str) -> None:
    answer = httpx2.get(f"{trio.url}/bundles/{bundle.id}/ready", headers={"Authorization": f"Bearer {key}"})
    assert (answer.status_code, answer.json()["code"]) == (426, "upgrade-required")
    assert (answer.headers["upgrade"], answer.headers["connection"]) == ("websocket", "upgrade")
    assert httpx2.get(f"{trio.url}/bundles/{bundle.id}/ready").status_code == 401


@pytest.mark.anyio
async def test_a_key_that_is_revoked_ends_it(trio: Trio, bundle: SlowBundle, keys: Keyring, leaving: str) -> None:
    async with ready(trio, bundle.id, leaving) as socket:
        assert await socket.recv() == "BUILDING 0%"
        keys.change(leaving, revoked=datetime.now(UTC))
        texts, code, reason = await rest(socket)  # which waits 20 s
        assert (texts, code) == ([], 1008)
        assert "no longer valid" in reason


@pytest.mark.anyio
async def test_a_question_waits_for_another_percent_or_for_the_end(bundle: SlowBundle) -> None:
    began = time.monotonic()
    assert bundle.state(wait=0.2, after=0)["percent"] == 0
    assert time.monotonic() - began >= 0.2
    asking = asyncio.create_task(asyncio.to_thread(bundle.state, wait=20, after=0))
    await asyncio.to_thread(bundle.release)
    assert (await asking)["percent"] == 20
    asking = asyncio.create_task(asyncio.to_thread(bundle.state, wait=20))
    await asyncio.to_thread(bundle.release, 3)
    assert (await asking)["state"] == "READY"


@pytest.mark.anyio
async def test_listeners_of_events_learn_how_far_it_is_built(trio: Trio, key: str) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    with EventStream(trio.url, key=key) as events:
        assert events.next("steps")
        with SlowBundle(trio, "X1:EVENTS", headers=headers) as bundle:
            received = events.until("bundle", id=bundle.id)  # the one before may have been finished just now
            assert received.data == {"id": bundle.id, "state": "BUILDING", "percent": 0}
            bundle.release()
            assert events.until("bundle", id=bundle.id, percent=20).data["state"] == "BUILDING"
            with EventStream(trio.url, key=key) as late:
                assert late.until("bundle", id=bundle.id)
            bundle.release(3)
            assert events.until("bundle", id=bundle.id, state="READY").data["percent"] == 100


@pytest.mark.anyio
async def test_an_outage_of_dslogic_is_waited_for(trio: Trio, bundle: SlowBundle, key: str) -> None:
    async with ready(trio, bundle.id, key) as socket:
        assert await socket.recv() == "BUILDING 0%"
        with without(trio, "dslogic"):
            assert (await refusal(trio, "another", key))[0] == 502
        await asyncio.to_thread(bundle.release, 4)
        assert (await rest(socket))[0][-1] == "READY"


@pytest.mark.anyio
async def test_the_gateway_closes_it_when_it_stops(trio: Trio, bundle: SlowBundle, key: str) -> None:
    async with AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(ready(trio, bundle.id, key)) for _ in range(3)]
        for socket in sockets:
            assert await socket.recv() == "BUILDING 0%"
        ends = [asyncio.create_task(rest(socket)) for socket in sockets]
        await asyncio.to_thread(stop_and_start, trio)
        assert [await end for end in ends] == [([], 1001, "the gateway stops")] * 3
