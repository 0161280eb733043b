"""The gateway as a web application: wiring only."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, nullcontext
from functools import partial
from importlib.metadata import version
from typing import Any, assert_never

from fastapi import FastAPI

from glitchflow_api.access import Authenticator, NoAuthentication
from glitchflow_api.admission import Admission
from glitchflow_api.bundle_routes import router as bundle_router
from glitchflow_api.bundle_socket import route as bundle_socket
from glitchflow_api.bundle_watch import BundleWatches
from glitchflow_api.datafind import router as datafind_router
from glitchflow_api.datapath import PATH, DataPath
from glitchflow_api.events import Hub
from glitchflow_api.graphql_route import router as graphql_router
from glitchflow_api.holding_routes import router as holding_router
from glitchflow_api.key_file import ApiKeys
from glitchflow_api.listeners import Listeners
from glitchflow_api.logic_client import LogicClient
from glitchflow_api.nlds.answers import NldsErrors, Slashed
from glitchflow_api.nlds.routes import router as nlds_router
from glitchflow_api.nlds.service import NldsService
from glitchflow_api.openapi import complete, describe_streamdata
from glitchflow_api.rate import RateLimit
from glitchflow_api.record_routes import router as record_router
from glitchflow_api.routes import data_route, router
from glitchflow_api.sessions import router as sessions
from glitchflow_api.settings import GatewaySettings
from glitchflow_api.tape_api import SLASHED
from glitchflow_api.tape_api import router as tape_router
from glitchflow_api.tier_routes import router as tier_router
from gwservice.asgi import NO_TELEMETRY, add_problem_handlers
from gwservice.logs import configure_logging
from gwservice.observability import Edge
from gwservice.relay import Relay
from gwservice.shutdown import calling_when_stopped
from gwservice.tracing import begin_tracing
from gwservice.watched_file import FileBroken, exiting_if_broken
from gwwire.public import AuthMode

log = logging.getLogger(__name__)

_DESCRIPTION = """
Takes gravitational-wave strain in, freezes the batch when it is large enough to train on, and archives it.

An answer of `CREATED` means that the segment is on the disk and counted. Every error is a problem document (RFC 9457)
with a stable `code`; `FROZEN` and `WAITING` are no problems, and have status 200.
"""


def create_app(settings: GatewaySettings, *, logic: LogicClient | None = None) -> FastAPI:
    """Return the application, which calls `logic` or else the dslogic of the settings.

    Raises:
        FileBroken: the keys that identify callers cannot be read, or NLDS_STATE cannot be used.

    """
    try:
        authenticator = create_authenticator(settings)
    except FileBroken as error:
        raise FileBroken(f"AUTH={settings.AUTH}: {error}") from error
    admission = Admission(authenticator, RateLimit(settings.RATE, settings.BURST) if settings.RATE else None)
    client = logic or LogicClient(settings)
    listeners, watches = Listeners(settings.EVENTS_LISTENERS), BundleWatches(client)
    nlds = NldsService(settings, client) if settings.NLDS_API == "on" else None
    hub = Hub(client, watches, listeners, interval=settings.EVENTS_INTERVAL)

    def end() -> None:
        hub.close()
        watches.close()
        authenticator.close()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with closing(client), calling_when_stopped(end):
            async with nlds.running() if nlds else nullcontext():
                yield

    app = FastAPI(
        title="GlitchFlow Datastore",
        description=_DESCRIPTION,
        version=version("glitchflow-datastore"),
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=lifespan,
        telemetry=NO_TELEMETRY,
        docs_url=None,  # FastAPI's own pages load their scripts from the internet
        redoc_url=None,
        redirect_slashes=False,  # its redirects name scheme and host; those of `Edge` do not
    )
    relay_to = partial(Relay, max_body=int(settings.MAX_BODY), body_seconds=settings.BODY_TIMEOUT)
    relay = relay_to(client.upstream)
    app.state.logic, app.state.events, app.state.relay = client, hub, relay
    app.state.listeners, app.state.bundle_watches = listeners, watches
    app.state.page_relay = relay_to(client.pages)
    app.state.waiting_relay = relay_to(client.waiting, until_gone=True)
    app.state.file_relay = relay_to(client.files, until_gone=True)
    app.state.feed_relay, app.state.claim_relay = (
        relay_to(upstream, until_gone=True) for upstream in (client.feeds, client.claims)
    )
    app.state.max_body, app.state.body_seconds = int(settings.MAX_BODY), settings.BODY_TIMEOUT
    app.state.auth, app.state.authenticator, app.state.admission = settings.AUTH, authenticator, admission
    data_path = DataPath(relay, settings.DS_SEND, admission, settings.MAX_STREAMS)
    app.router.routes.extend([data_route, bundle_socket])
    app.include_router(router)
    app.include_router(record_router)
    app.include_router(datafind_router)
    app.include_router(graphql_router)
    app.include_router(bundle_router)
    app.include_router(tier_router)
    app.include_router(tape_router)
    app.include_router(holding_router)
    app.include_router(sessions)
    if nlds:
        app.state.nlds = nlds
        app.include_router(nlds_router)
    add_problem_handlers(app)
    # In front of the layers that FastAPI itself puts around middlewares.
    slashed = Slashed(SLASHED) if nlds else SLASHED
    edge = Edge(
        app.build_middleware_stack(),
        "the gateway",
        handlers={("POST", PATH): data_path},
        admit=admission.admit,
        slashed=slashed,
    )
    app.middleware_stack = NldsErrors(edge) if nlds else edge
    app.openapi = partial(_openapi, app.openapi, settings.AUTH)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    return app


def start(settings: GatewaySettings) -> FastAPI:
    """Return the application of this process; exit with status 2 if a file that the settings name is unusable."""
    configure_logging("glitchflow_api")
    begin_tracing("glitchflow_api")
    with exiting_if_broken("glitchflow_api"):
        app = create_app(settings)
    if settings.AUTH is AuthMode.OFF:
        level = logging.INFO if settings.LISTEN.is_loopback else logging.WARNING
        log.log(
            level,
            "AUTH=off: EVERY CLIENT OF THIS GATEWAY MAY READ, STORE, FREEZE AND ARCHIVE. AUTH=keys requires API keys.",
        )
    if settings.AUTH is AuthMode.JWT and settings.JWT_JWKS.startswith("http://"):
        log.warning("JWT_JWKS=%s: keys fetched over http can be replaced by an attacker; use https", settings.JWT_JWKS)
    return app


def create_authenticator(settings: GatewaySettings) -> Authenticator:
    """Return the authenticator of the setting AUTH; raise FileBroken if its keys cannot be read."""
    match settings.AUTH:
        case AuthMode.OFF:
            return NoAuthentication()
        case AuthMode.KEYS:
            return ApiKeys(settings.KEYS_FILE)
        case AuthMode.JWT:
            # Here, because only a gateway that checks tokens needs the libraries for it.
            from glitchflow_api.tokens import Tokens, issuer_keys  # noqa: PLC0415

            return Tokens(settings, issuer_keys(settings.JWT_JWKS))
    assert_never(settings.AUTH)


def _openapi(derive: Any, auth: AuthMode) -> dict[str, Any]:
    document = derive()
    document["paths"][PATH] = describe_streamdata(DataPath.__call__.__doc__ or "")
    return complete(document, auth)
