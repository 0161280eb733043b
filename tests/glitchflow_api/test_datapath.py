"""Concurrent requests of many segments: at most MAX_STREAMS; another one waits, or is refused."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from glitchflow_api import datapath
from glitchflow_api.access import ANYBODY, NoAuthentication
from glitchflow_api.admission import Admission
from glitchflow_api.datapath import DataPath
from glitchflow_api.errors import TooManyStreams
from gwservice.asgi_types import Message, Scope, Send
from gwservice.correlation import RequestContext
from gwservice.relay import Relay
from gwservice.upstream import Upstream

pytestmark = pytest.mark.anyio


class HeldRelay(Relay):
    """Begins to answer, and continues when the test says so."""

    def __init__(self) -> None:
        super().__init__(Upstream("http://127.0.0.1:9", "dslogic"), max_body=100)
        self.begun = 0
        self.over = asyncio.Event()
        self.error: Exception | None = None

    async def stream(self, request: RequestContext, send: Send, *_: Any, **__: Any) -> None:  # noqa: ARG002
        self.begun += 1
        await self.over.wait()
        if self.error:
            raise self.error


async def nothing(*_: Any) -> Message:
    return {"type": "http.request"}


def scope() -> Scope:
    context = RequestContext({b"content-type": b"application/x-ndjson"})
    context.caller = ANYBODY
    return {"type": "http", "context": context}


async def ignore(_: Message) -> None:
    return


async def test_a_stream_has_its_turn_when_another_ends_and_is_refused_when_none_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    relay = HeldRelay()
    path = DataPath(relay, "/stream", Admission(NoAuthentication()), streams=1)
    first = asyncio.create_task(path(scope(), nothing, ignore))
    await asyncio.sleep(0)
    monkeypatch.setattr(datapath, "_TURN_SECONDS", 0.05)
    with pytest.raises(TooManyStreams, match="MAX_STREAMS") as refused:
        await path(scope(), nothing, ignore)
    assert refused.value.retry_after == 1

    monkeypatch.setattr(datapath, "_TURN_SECONDS", 30)
    waiting = asyncio.create_task(path(scope(), nothing, ignore))
    await asyncio.sleep(0.01)
    assert relay.begun == 1
    relay.over.set()
    await first
    await waiting
    assert relay.begun == 2


async def test_a_stream_that_breaks_off_gives_its_place_back() -> None:
    relay = HeldRelay()
    relay.error = ConnectionResetError()
    relay.over.set()
    path = DataPath(relay, "/stream", Admission(NoAuthentication()), streams=1)
    for _ in range(3):
        with suppress(ConnectionResetError):
            await path(scope(), nothing, ignore)
    assert relay.begun == 3
