"""The gateway as a web application: wiring only."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from importlib.metadata import version
from typing import Any, assert_never

from fastapi import FastAPI, Request, Response

from glitchflow_api.access import Authenticator, NoAuthentication
from glitchflow_api.api_keys import ApiKeys
from glitchflow_api.datapath import PATH, DataPath, pass_problem_on, store
from glitchflow_api.errors import ProblemFromBelow
from glitchflow_api.events import Hub
from glitchflow_api.gate import Gate
from glitchflow_api.logic_client import LogicClient
from glitchflow_api.openapi import complete, describe_streamdata
from glitchflow_api.rate import RateLimit
from glitchflow_api.routes import data_route, router
from glitchflow_api.sessions import router as sessions
from glitchflow_api.settings import GatewaySettings
from gwservice import tracing
from gwservice.asgi import NO_TELEMETRY, add_problem_handlers
from gwservice.observed_asgi import Observed
from gwservice.patience import Patience
from gwservice.stopping import calling_when_stopped
from gwservice.traced_asgi import Traced
from gwwire.public import AuthMode

_DESCRIPTION = """
Takes gravitational-wave strain in, freezes the batch when it is large enough to train on, and archives it.

An answer of `CREATED` means that the segment is on the disk and counted. Whatever goes wrong is told as a problem
document (RFC 9457) with a stable `code`; `FROZEN` and `WAITING` are no problems, and have status 200.
"""


def create_app(settings: GatewaySettings, *, logic: LogicClient | None = None) -> FastAPI:
    """Make the application.

    Args:
        settings: where dslogic is, and the limits.
        logic: how dslogic is called, where not as the settings say.

    Raises:
        FileBroken: the keys that callers are known by cannot be read.

    """
    authenticator = create_authenticator(settings)
    client = logic or LogicClient(settings)
    hub = Hub(client, interval=settings.EVENTS_INTERVAL, most=settings.EVENTS_LISTENERS)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with closing(client), calling_when_stopped(hub.close):
            yield

    app = FastAPI(
        title="GlitchFlow Datastore",
        description=_DESCRIPTION,
        version=version("glitchflow-datastore"),
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        lifespan=lifespan,
        telemetry=NO_TELEMETRY,
    )
    app.state.logic, app.state.events = client, hub
    app.state.max_body = int(settings.MAX_BODY)
    app.state.patience = Patience(settings.BODY_TIMEOUT)
    app.state.streams = asyncio.Semaphore(settings.MAX_STREAMS)
    app.state.auth = settings.AUTH
    app.state.authenticator = authenticator
    app.add_middleware(DataPath)
    if settings.RATE:
        app.add_middleware(RateLimit, rate=settings.RATE, burst=settings.BURST)
    app.add_middleware(Gate, authenticator=authenticator)
    if tracing.wanted():
        app.add_middleware(Traced)
    app.add_middleware(Observed, data_path=PATH)  # the last one added is the outermost
    app.router.routes.append(data_route)
    app.include_router(router)
    app.include_router(sessions)
    add_problem_handlers(app)
    app.add_exception_handler(ProblemFromBelow, _pass_on)
    app.openapi = partial(_openapi, app.openapi, settings.AUTH)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    return app


def create_authenticator(settings: GatewaySettings) -> Authenticator:
    """Make what knows callers by their credentials.

    Raises:
        FileBroken: the keys cannot be read.

    """
    match settings.AUTH:
        case AuthMode.OFF:
            return NoAuthentication()
        case AuthMode.KEYS:
            return ApiKeys(settings.KEYS_FILE)
        case AuthMode.JWT:
            # Here, so that only who checks tokens loads what it takes.
            from glitchflow_api.issuer_keys import issuer_keys  # noqa: PLC0415
            from glitchflow_api.tokens import Tokens  # noqa: PLC0415

            return Tokens(settings, issuer_keys(settings.JWT_JWKS))
    assert_never(settings.AUTH)


def _openapi(derive: Any, auth: AuthMode) -> dict[str, Any]:
    document = derive()
    document["paths"][PATH] = describe_streamdata(store.__doc__ or "")
    return complete(document, auth)


async def _pass_on(_: Request, error: Any) -> Response:
    return pass_problem_on(error)
