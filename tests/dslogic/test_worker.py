import asyncio
import time

from uvicorn import Config, Server

from dslogic.worker import Worker


def test_gunicorn_is_notified_also_after_the_clock_was_set_back() -> None:
    notified: list[float] = []

    async def notify() -> None:
        notified.append(time.monotonic())

    async def tick_twice() -> None:
        server = Server(Config("nothing:app", callback_notify=notify, timeout_notify=kwargs["timeout_notify"]))
        await server.on_tick(0)
        server.last_notified += 1000
        await server.on_tick(10)

    kwargs = Worker.CONFIG_KWARGS
    asyncio.run(tick_twice())
    assert len(notified) == 2
