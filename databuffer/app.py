"""The buffer as a web application: wiring only."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from databuffer.buffer import Buffer
from databuffer.metadata import LogStream, Metadata
from databuffer.routes import router
from databuffer.settings import BufferSettings
from databuffer.volume import Volume
from gwservice.asgi import add_problem_handlers


def create_buffer(settings: BufferSettings) -> Buffer:
    """Make the buffer that keeps its files where `settings` say."""
    volume = Volume(settings.DTVOLROOT, settings.DATAROOT, settings.DATANM)
    metadata = Metadata(settings.ADMROOT / settings.ADMFNM, settings.ADMROOT / settings.DSST)
    stream = LogStream(settings.LOGROOT / settings.LOGSTREAM)
    return Buffer(volume, metadata, stream, queue_size=settings.WCHSZ)


def create_app(buffer: Buffer, *, max_body: int) -> FastAPI:
    """Make the application; the buffer opens when it starts and finishes its work when it stops.

    Args:
        buffer: what the endpoints talk to.
        max_body: bytes of the largest request body.

    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await buffer.open()
        yield
        await buffer.close()

    app = FastAPI(title="GlitchFlow databuffer", lifespan=lifespan)
    app.state.buffer = buffer
    app.state.max_body = max_body
    app.include_router(router)
    add_problem_handlers(app)
    return app
