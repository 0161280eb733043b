"""The buffer as a web application: wiring only."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from databuffer.buffer import Buffer
from databuffer.routes import data_route, router, store
from databuffer.settings import BufferSettings
from databuffer.storage.catalog import Catalog
from databuffer.storage.metadata import LogStream, Metadata
from databuffer.storage.store import Store
from databuffer.storage.volume import Volume
from gwservice.asgi import NO_TELEMETRY, add_problem_handlers
from gwservice.observability import Edge, admit_caller
from gwservice.security import CallerSecret
from gwwire.segment import SegmentLimits


def create_store(settings: BufferSettings) -> Store:
    """Make the store whose files lie where `settings` say; nothing is touched until it is opened."""
    return Store(
        Volume(settings.DTVOLROOT, settings.DATAROOT, settings.DATANM),
        Metadata(settings.ADMROOT / settings.ADMFNM, settings.ADMROOT / settings.DSST),
        Catalog(settings.ADMROOT / "catalog.sqlite"),
        LogStream(settings.LOGROOT / settings.LOGSTREAM),
        LogStream(settings.LOGROOT / f"next.{settings.LOGSTREAM}"),
    )


def create_buffer(settings: BufferSettings) -> Buffer:
    """Make the buffer that keeps its files where `settings` say."""
    return Buffer(
        create_store(settings),
        queue_size=settings.WCHSZ,
        on_frozen=settings.ON_FROZEN,
        limits=SegmentLimits(settings.MAX_SAMPLES, int(settings.MAX_META), settings.MAX_DEPTH),
        group_quota=int(settings.GROUP_QUOTA),
    )


def create_app(buffer: Buffer, *, max_body: int, secret: CallerSecret | None = None) -> FastAPI:
    """Make the application; the buffer opens when it starts and finishes its work when it stops.

    Args:
        buffer: what the endpoints talk to.
        max_body: bytes of the largest request body.
        secret: what callers must present; None: everybody is answered.

    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await buffer.open()
        yield
        await buffer.close()

    app = FastAPI(title="GlitchFlow databuffer", lifespan=lifespan, telemetry=NO_TELEMETRY)
    app.state.buffer = buffer
    app.state.max_body = max_body
    app.router.routes.append(data_route)
    app.include_router(router)
    app.add_middleware(
        Edge, handlers={("POST", data_route.path): store}, admit=admit_caller(secret) if secret else None
    )
    add_problem_handlers(app)
    return app
