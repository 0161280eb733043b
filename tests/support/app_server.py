"""An aiohttp application on a free loopback port, served by a thread."""

import asyncio
import socket
import threading
from typing import Self

from aiohttp import web


class AppServer:
    """Use it as `with AppServer(app) as server`; `server.url` is its address."""

    url: str

    def __init__(self, app: web.Application) -> None:
        self._app = app

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(60)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(60)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()

    async def _start(self) -> None:
        self._runner = web.AppRunner(self._app, shutdown_timeout=0.1)
        await self._runner.setup()
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        await web.SockSite(self._runner, self._socket).start()
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    async def _end(self) -> None:
        # asyncio would leave a connection open that it accepts in the round of the loop in which the server is closed.
        self._loop.remove_reader(self._socket)
        for _ in range(3):
            await asyncio.sleep(0)
        await self._runner.cleanup()
        # Nobody waits for a slow answer to a disconnected client, not even the runner.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
