"""How every command asks the gateway, and tells the answer."""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click
import msgspec

from gwclient.client import GlitchflowClient
from gwclient.options import Connection

T = TypeVar("T")


def print_answer(connection: Connection, answer: Any, words: str) -> None:
    """Tell an answer: as JSON for programs, in words for people."""
    click.echo(msgspec.json.encode(answer).decode() if connection.as_json else words)


def call_gateway(connection: Connection, question: Callable[[GlitchflowClient], Coroutine[Any, Any, T]]) -> T:
    """Open a client, ask, and close it."""

    async def work() -> T:
        async with connection.client() as client:
            return await question(client)

    return asyncio.run(work())


def stop_on_signal(say: Callable[[str], None]) -> asyncio.Event:
    """Give an event of the running loop that is set at Ctrl-C or SIGTERM; a second one does not wait."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        stop.set()
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(each)
        say("stopping; what is on its way may still arrive")

    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, interrupt)
    return stop
