"""Some firewalls refuse the names of HTTP libraries: every request of the datastore has its own User-Agent."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from glitchflow_api.errors import IssuerAway
from glitchflow_api.tokens import KeysOfUrl
from gwclient.client import GlitchflowClient, Retry
from gwclient.errors import UnexpectedAnswer
from gwclient.sources.download import Downloads
from gwservice.upstream import Upstream
from gwwire.agent import USER_AGENT
from tests.support.raw_server import OK, ServerConnection, raw_server


async def fetch_keys(url: str) -> None:
    with pytest.raises(IssuerAway):  # "ok" is not a JWKS
        await KeysOfUrl(url).current()


async def ask_the_gateway(url: str) -> None:
    async with GlitchflowClient(url, retry=Retry(1)) as client:
        with pytest.raises(UnexpectedAnswer):
            await client.stats()


async def ask_the_next_tier(url: str) -> None:
    upstream = Upstream(url, "dslogic")
    await upstream.request(b"GET", b"/")
    upstream.close()


async def download(url: str) -> None:
    with TemporaryDirectory() as folder:
        downloads = Downloads(Path(folder), Retry(1, 0, 0), timeout=5, say=print)
        await asyncio.to_thread(downloads.fetch, f"{url}/file.hdf5")


@pytest.mark.parametrize("send", [fetch_keys, ask_the_gateway, ask_the_next_tier, download])
def test_a_request_names_the_datastore_and_its_version(send: Callable[[str], Coroutine[Any, Any, None]]) -> None:
    heads: list[bytes] = []

    def record(talk: ServerConnection) -> None:
        heads.append(talk.head())
        talk.say(OK)

    with raw_server(record) as server:
        asyncio.run(send(server.url))
    agents = [line for line in heads[0].split(b"\r\n") if line.lower().startswith(b"user-agent:")]
    assert [line.partition(b": ")[2].decode() for line in agents] == [USER_AGENT]
    assert USER_AGENT.startswith("glitchflow-datastore/")
