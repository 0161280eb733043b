"""The web application of the buffer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from databuffer.buffer import Buffer
from databuffer.holdings.quotas import Quotas
from databuffer.routes import SegmentRoute, routers
from databuffer.settings import BufferSettings
from databuffer.storage.catalog import Catalog, Database
from databuffer.storage.metadata import LogStream, Metadata
from databuffer.storage.store import Store
from databuffer.storage.volume import Volume
from databuffer.tiers.backends.open import open_tiers
from gwservice.asgi import NO_TELEMETRY, add_problem_handlers
from gwservice.asgi_types import ASGIApp
from gwservice.observability import Edge, admit_caller
from gwservice.security import CallerSecret
from gwservice.shutdown import calling_when_stopped
from gwwire.segment import SegmentLimits


def create_store(settings: BufferSettings, *, links: bool = False) -> Store:
    """Return the store with the files of the settings; no file is touched until it is opened.

    `links`: see `Volume`.
    """
    return Store(
        Volume(settings.DTVOLROOT, settings.DATAROOT, settings.DATANM, links=links),
        Metadata(settings.ADMROOT / settings.ADMFNM, settings.ADMROOT / settings.DSST),
        Catalog(Database(settings.ADMROOT / "catalog.sqlite"), settings.DTVOLROOT / ".ledger"),
        LogStream(settings.LOGROOT / settings.LOGSTREAM),
        LogStream(settings.LOGROOT / f"next.{settings.LOGSTREAM}"),
    )


def create_buffer(settings: BufferSettings) -> Buffer:
    """Return the buffer of the settings."""
    return Buffer(
        create_store(settings),
        queue_size=settings.WCHSZ,
        on_frozen=settings.ON_FROZEN,
        limits=SegmentLimits(settings.MAX_SAMPLES, int(settings.MAX_META), settings.MAX_DEPTH),
        group_quota=int(settings.GROUP_QUOTA),
        bundle_cache=int(settings.BUNDLE_CACHE),
        bundle_quota=int(settings.BUNDLE_QUOTA),
        tiers=open_tiers(settings.TIERS),
        move_rate=int(settings.MOVE_RATE),
        scrub_every=settings.SCRUB_EVERY,
        high_water=settings.OBJECT_HIGH_WATER,
        recall_pin=settings.RECALL_PIN,
        holding_quotas=Quotas(int(settings.HOLDING_QUOTA), settings.tier_quotas),
        holding_grace=settings.HOLDING_GRACE,
        holding_tiering=settings.holding_tiering,
    )


def create_app(buffer: Buffer, *, max_body: int, secret: CallerSecret | None = None) -> ASGIApp:
    """Return the application, which opens the buffer at its start and closes it at its end.

    Request bodies and lines of streams have at most `max_body` bytes. Callers present the `secret`, if there is one.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await buffer.open()
        with calling_when_stopped(buffer.stop_waiting):
            yield
        await buffer.close()

    app = FastAPI(
        title="GlitchFlow databuffer",
        lifespan=lifespan,
        telemetry=NO_TELEMETRY,
        docs_url=None,  # FastAPI's own pages load their scripts from the internet
        redoc_url=None,
        redirect_slashes=False,  # its redirects name scheme and host; those of `Edge` do not
    )
    app.state.buffer = buffer
    app.state.max_body = max_body
    for router in routers:
        app.include_router(router)
    add_problem_handlers(app)
    handlers = {("POST", SegmentRoute.path): SegmentRoute(buffer, max_body)}
    return Edge(app, "the buffer", handlers=handlers, admit=admit_caller(secret) if secret else None)
