"""Questions to the real trio through the Python client."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gwclient import Datastore
from scripts.trio import Trio

T = TypeVar("T")


def ask(trio: Trio, question: Callable[[Datastore], Awaitable[T]]) -> T:
    async def work() -> T:
        async with Datastore(trio.url) as client:
            return await question(client)

    return asyncio.run(work())
