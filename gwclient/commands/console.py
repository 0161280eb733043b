"""How every command calls the gateway, and prints the answer."""

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
    """Print an answer: as JSON for programs, as text for people."""
    click.echo(msgspec.json.encode(answer).decode() if connection.as_json else words)


def call_gateway(connection: Connection, question: Callable[[GlitchflowClient], Coroutine[Any, Any, T]]) -> T:
    """Return the result of a coroutine that gets an open client."""

    async def work() -> T:
        async with connection.client() as client:
            return await question(client)

    return asyncio.run(work())


def stop_on_signal(say: Callable[[str], None]) -> asyncio.Event:
    """Return an event that is set at Ctrl-C or SIGTERM; a second signal ends the process."""
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
