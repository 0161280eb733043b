"""Events about changes of the datastore, sent by a real gateway over real connections."""

import asyncio
import itertools
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from glitchflow_api.bundle_watch import BundleWatches
from glitchflow_api.events import EVENT_STREAM, Hub, Listener
from glitchflow_api.listeners import Listeners
from glitchflow_api.logic_client import LogicClient
from glitchflow_api.processing import Processing
from glitchflow_api.settings import GatewaySettings
from gwwire.overview import Overview
from gwwire.records import Steps
from scripts.trio import Trio
from tests.support.event_stream import Event, EventStream, Listening
from tests.support.outage import without
from tests.support.segments import JSON, segment_body

FAST = {"MAX_SIZE": "200", "EVENTS_INTERVAL": "0.1", "EVENTS_LISTENERS": "4"}


@pytest.fixture(scope="module")
def shared_trio(start_shared_trio: Callable[..., Trio]) -> Trio:
    return start_shared_trio(FAST)


@pytest.fixture
def trio(shared_trio: Trio) -> Iterator[Trio]:
    yield shared_trio
    post(shared_trio, "/cleanbuf", {"msg": "the test is over"})


def post(trio: Trio, path: str, body: object) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = JSON if content.count(b"\n") == 0 else {"Content-Type": "application/x-ndjson"}
    request = urllib.request.Request(trio.url + path, content, headers)  # noqa: S310 (an http address of ours)
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 (see above)
        return bytes(answer.read())


def store(trio: Trio, count: int) -> None:
    lines = b"".join(segment_body(number) + b"\n" for number in range(count))
    assert post(trio, "/streamdata", lines + b"\n").count(b"CREATED") == count


def segments_of(events: EventStream, count: int) -> list[Any]:
    """Return the next segments, which may be in several events."""
    received: list[Any] = []
    while len(received) < count:
        received += events.next("segments").data["items"]
    return received


def newest(trio: Trio, count: int) -> int:
    """Return the seq of the last of `count` segments after its event was received."""
    with EventStream(trio.url) as events:
        return int(events.until("overview", n_itm=count).data["seq"])


def test_a_new_listener_receives_the_overview_at_once_and_then_the_events(trio: Trio) -> None:
    with EventStream(trio.url) as events:
        assert events.status == 200
        assert events.headers["Content-Type"].startswith(EVENT_STREAM)
        assert events.headers["Cache-Control"] == "no-store"
        assert events.next().kind == "overview"
        store(trio, 1)
        first = events.until("overview", n_itm=1)
        assert first.id == first.data["seq"]

        store(trio, 3)
        received: list[dict[str, object]] = []
        while len(received) < 3:
            news = events.next("segments")
            received += news.data["items"]
            assert news.id == received[-1]["seq"]
            assert not news.data["more"]
        assert [segment["seq"] for segment in received] == [first.data["seq"] + number for number in (1, 2, 3)]
        listed = urllib.request.urlopen(f"{trio.url}/segments?after={first.id}").read()  # noqa: S310 (an address of the trio)
        assert received == json.loads(listed)["segments"]
        assert events.until("overview", n_itm=4).id == received[-1]["seq"]

        post(trio, "/train", {"user": "alice", "token": "secret"})
        assert events.until("overview", state="FROZEN").data["holder"] == "alice"
        post(trio, "/cleanbuf", {"msg": "done"})
        emptied = events.until("overview", state="OPERATIONAL")
        assert emptied.data["n_itm"] == 0
        assert emptied.id == received[-1]["seq"]


def test_a_listener_that_reconnects_receives_the_segments_since(trio: Trio) -> None:
    store(trio, 1)
    last = newest(trio, 1)
    store(trio, 2)
    with EventStream(trio.url, last) as events:
        assert [segment["seq"] for segment in segments_of(events, 2)] == [last + 1, last + 2]


def test_a_listener_far_behind_receives_the_last_segments_and_that_there_are_more(trio: Trio) -> None:
    store(trio, 230)
    last = newest(trio, 230)
    with EventStream(trio.url, last - 230) as events:
        news = events.next("segments")
        assert news.data["more"]
        assert [segment["seq"] for segment in news.data["items"]] == list(range(last - 199, last + 1))
        assert news.id == last


def test_a_listener_with_a_seq_beyond_the_newest_receives_later_segments(trio: Trio) -> None:
    store(trio, 1)
    last = newest(trio, 1)
    with EventStream(trio.url, 10**9) as events:
        assert events.next("overview")
        store(trio, 1)
        assert events.next("segments").data["items"][0]["seq"] == last + 1


def test_listeners_beyond_the_limit_are_refused_with_a_retry_time(trio: Trio) -> None:
    streams = [EventStream(trio.url) for _ in range(4)]
    try:
        for stream in streams:
            assert stream.next("overview")
        with EventStream(trio.url) as refused:
            assert refused.status == 503
            assert refused.headers["Retry-After"]
            assert json.loads(refused.rest())["code"] == "too-many-connections"
        streams.pop().__exit__(None, None, None)
        while True:  # the gateway has to notice that one went away
            with EventStream(trio.url) as events:
                if events.status == 200:
                    break
    finally:
        for stream in streams:
            stream.__exit__(None, None, None)


@pytest.mark.parametrize("last", ["abc", "-1", "", "1.5", "9" * 19, "9" * 5000, "\xb2", "3 4"])
def test_a_last_event_id_of_another_server_means_from_now_on(trio: Trio, last: str) -> None:
    store(trio, 1)
    with EventStream(trio.url, last) as events:
        assert events.status == 200
        assert events.until("overview", n_itm=1)
        store(trio, 1)
        assert len(events.next("segments").data["items"]) == 1


def test_a_record_that_changes_is_sent_once_with_the_states_of_its_steps(trio: Trio) -> None:
    with EventStream(trio.url) as events:
        assert events.next("steps").data == []
        store(trio, 3)  # segments that nobody has written to are no changes
        post(trio, "/steps/copy/claim", {"worker": "w", "kind": "file"})
        assert events.next("steps").data[0]["name"] == "copy"
        post(trio, "/records", b'{"id": "file/a"}\n')
        post(trio, "/steps/copy/claim", {"worker": "w", "kind": "file"})
        received: list[dict[str, Any]] = []
        while not received or received[-1]["steps"] != {"copy": "RUNNING"}:
            received += events.next("change").data["items"]
        assert {each["id"] for each in received} == {"file/a"}
        assert received[-1].items() >= {"kind": "file", "status": "good", "last": None}.items()
        while events.next("steps").data[0]["running"] != 1:  # the counts may be older than the change
            pass


@pytest.mark.anyio
async def test_many_changes_are_one_event_with_a_hundred_of_the_records(trio: Trio) -> None:
    client = LogicClient(GatewaySettings.model_validate({"DS_BURL": trio.services[1].url}))
    processing = Processing(client)
    assert (await processing.read())[0] is None
    lines = b"".join(b'{"id": "many/%d"}\n' % number for number in range(150))
    assert (await asyncio.to_thread(post, trio, "/records", lines)).count(b'"rev"') == 150
    news, _ = await processing.read()
    assert news
    assert ([each.id for each in news.items], news.more) == ([f"many/{number}" for number in range(100)], True)
    assert (await processing.read())[0] is None
    await asyncio.to_thread(post, trio, "/records", b'{"id": "many/7"}\n' * 2)
    news, _ = await processing.read()
    assert news
    assert ([each.id for each in news.items], news.more) == (["many/7"], False)
    client.upstream.close()


def test_an_outage_of_a_tier_is_sent_as_one_event_and_its_end_as_another(trio: Trio) -> None:
    store(trio, 7)
    with EventStream(trio.url) as events:
        before = events.until("overview", n_itm=7).data  # no other test stores so many
        with without(trio, "dslogic"):
            assert events.next("problem").data["code"] == "upstream-unreachable"
            with EventStream(trio.url) as late:
                assert late.next().kind == "problem"
        received: list[Event] = []
        while not received or received[-1].kind != "overview":
            received.append(events.next())
        after = received[-1]
        problems = {event.data["code"] for event in received if event.kind == "problem"}
        assert problems <= {"upstream-timeout"}, "the start of dslogic may take longer than an answer may"
        assert (after.data["batch"], after.data["seq"]) == (before["batch"], before["seq"])


def test_listeners_do_not_keep_the_gateway_from_stopping(trio: Trio) -> None:
    listening = []
    for _ in range(3):
        stream = EventStream(trio.url)
        stream.next("overview")
        listening.append(Listening(stream))
    gateway = trio.processes["glitchflow_api"]
    with without(trio, "glitchflow_api"):
        assert gateway.returncode == 0
    for each in listening:
        each.join()
        assert each.whole, "it was ended by the gateway, not cut off after the 8 s that answers under way are given"


@pytest.mark.anyio
async def test_dslogic_is_polled_once_for_all_listeners_and_only_while_there_are_any(
    trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    counted: list[float] = []
    ask, ask_for_steps = LogicClient.overview, LogicClient.steps

    async def count(client: LogicClient) -> Overview:
        asked.append(time.monotonic())
        return await ask(client)

    async def count_steps(client: LogicClient) -> Steps:
        counted.append(time.monotonic())
        return await ask_for_steps(client)

    monkeypatch.setattr(LogicClient, "overview", count)
    monkeypatch.setattr(LogicClient, "steps", count_steps)
    client = LogicClient(GatewaySettings.model_validate({"DS_BURL": trio.services[1].url}))
    hub = Hub(client, BundleWatches(client), Listeners(100), interval=0.05)
    listeners = [hub.join(None) for _ in range(100)]
    received = await asyncio.gather(*(listener.next_event() for listener in listeners))
    assert len(set(received)) == 1
    while len(asked) < 4 or len(counted) < 2:  # noqa: ASYNC110 (it is counted by who knows of no events)
        await asyncio.sleep(0.01)
    assert min(later - earlier for earlier, later in itertools.pairwise(asked)) >= 0.05
    for listener in listeners:
        hub.leave(listener)
    until_now = len(asked) + len(counted)
    await asyncio.sleep(0.2)
    assert len(asked) + len(counted) == until_now
    client.upstream.close()


@pytest.mark.anyio
async def test_a_stream_requested_during_a_stop_ends_at_once() -> None:
    client = LogicClient(GatewaySettings.model_validate({}))
    hub = Hub(client, BundleWatches(client), Listeners(1), interval=1)
    hub.close()
    assert await hub.join(None).next_event() is None
    client.upstream.close()


@pytest.mark.anyio
async def test_a_listener_that_does_not_read_is_dropped() -> None:
    listener = Listener(7)
    for _ in range(16):
        listener.send_event(b"event: overview\ndata: {}\n\n")
    assert await listener.next_event() == b"id: 7\nevent: overview\ndata: {}\n\n"
    listener.send_event(b"")
    listener.send_event(b"")
    assert await listener.next_event() is None
