"""The gateway as a web application: wiring only."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from importlib.metadata import version
from typing import Any, assert_never

from fastapi import FastAPI

from glitchflow_api.access import Authenticator, NoAuthentication
from glitchflow_api.admission import Admission
from glitchflow_api.bundle_routes import router as bundle_router
from glitchflow_api.datafind import router as datafind_router
from glitchflow_api.datapath import PATH, DataPath
from glitchflow_api.events import Hub
from glitchflow_api.graphql_route import router as graphql_router
from glitchflow_api.key_file import ApiKeys
from glitchflow_api.logic_client import LogicClient
from glitchflow_api.openapi import complete, describe_streamdata
from glitchflow_api.rate import RateLimit
from glitchflow_api.record_routes import router as record_router
from glitchflow_api.routes import data_route, router
from glitchflow_api.sessions import router as sessions
from glitchflow_api.settings import GatewaySettings
from gwservice.asgi import NO_TELEMETRY, add_problem_handlers
from gwservice.logs import configure_logging
from gwservice.observability import Edge
from gwservice.relay import Relay
from gwservice.shutdown import calling_when_stopped
from gwservice.tracing import begin_tracing
from gwservice.watched_file import exiting_if_broken
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
        FileBroken: the keys that identify callers cannot be read.

    """
    authenticator = create_authenticator(settings)
    admission = Admission(authenticator, RateLimit(settings.RATE, settings.BURST) if settings.RATE else None)
    client = logic or LogicClient(settings)
    hub = Hub(client, interval=settings.EVENTS_INTERVAL, max_listeners=settings.EVENTS_LISTENERS)

    def end() -> None:
        hub.close()
        authenticator.close()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with closing(client.upstream), closing(client.waiting), calling_when_stopped(end):
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
    relay = Relay(client.upstream, max_body=int(settings.MAX_BODY), body_seconds=settings.BODY_TIMEOUT)
    app.state.logic, app.state.events, app.state.relay = client, hub, relay
    app.state.waiting_relay = Relay(
        client.waiting, max_body=int(settings.MAX_BODY), body_seconds=settings.BODY_TIMEOUT, until_gone=True
    )
    app.state.max_body, app.state.body_seconds = int(settings.MAX_BODY), settings.BODY_TIMEOUT
    app.state.auth, app.state.authenticator, app.state.admission = settings.AUTH, authenticator, admission
    data_path = DataPath(relay, settings.DS_SEND, admission, settings.MAX_STREAMS)
    app.router.routes.append(data_route)
    app.include_router(router)
    app.include_router(record_router)
    app.include_router(datafind_router)
    app.include_router(graphql_router)
    app.include_router(bundle_router)
    app.include_router(sessions)
    add_problem_handlers(app)
    # In front of the layers that FastAPI itself puts around middlewares.
    app.middleware_stack = Edge(
        app.build_middleware_stack(), handlers={("POST", PATH): data_path}, admit=admission.admit
    )
    app.openapi = partial(_openapi, app.openapi, settings.AUTH)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    return app


def start(settings: GatewaySettings) -> FastAPI:
    """Return the application of this process; exit with status 2 if a file that the settings name is unusable."""
    configure_logging("glitchflow_api")
    begin_tracing("glitchflow_api")
    with exiting_if_broken(f"glitchflow_api: AUTH={settings.AUTH}"):
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
