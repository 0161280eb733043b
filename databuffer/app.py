"""The buffer as a web application: wiring only."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from databuffer.buffer import Buffer
from databuffer.routes import SegmentDoor, data_route, router
from databuffer.settings import BufferSettings
from databuffer.storage.catalog import Catalog, Database
from databuffer.storage.metadata import LogStream, Metadata
from databuffer.storage.store import Store
from databuffer.storage.volume import Volume
from gwservice import tracing
from gwservice.asgi import NO_TELEMETRY, add_problem_handlers
from gwservice.door_asgi import CallerDoor
from gwservice.hop import HopSecret
from gwservice.observed_asgi import Observed
from gwservice.patience import Patience
from gwservice.traced_asgi import Traced
from gwwire.segment import SegmentLimits


def create_store(settings: BufferSettings) -> Store:
    """Make the store whose files lie where `settings` say; nothing is touched until it is opened."""
    return Store(
        Volume(settings.DTVOLROOT, settings.DATAROOT, settings.DATANM),
        Metadata(settings.ADMROOT / settings.ADMFNM, settings.ADMROOT / settings.DSST),
        Catalog(Database(settings.ADMROOT / "catalog.sqlite"), settings.DTVOLROOT / ".ledger"),
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


def create_app(buffer: Buffer, *, max_body: int, body_seconds: float = 90, secret: HopSecret | None = None) -> FastAPI:
    """Make the application; the buffer opens when it starts and finishes its work when it stops.

    Args:
        buffer: what the endpoints talk to.
        max_body: bytes of the largest request body.
        body_seconds: for a body to come, or for the next piece of a stream.
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
    app.state.patience = Patience(body_seconds)
    app.router.routes.append(data_route)
    app.include_router(router)
    app.add_middleware(SegmentDoor)
    if secret:
        app.add_middleware(CallerDoor, secret=secret)
    if tracing.wanted():
        app.add_middleware(Traced)
    app.add_middleware(Observed, data_path=data_route.path)
    add_problem_handlers(app)
    return app
