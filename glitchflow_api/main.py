"""The gateway's `app`, for `fastapi run glitchflow_api/main.py --port 8000`.

That command has its own server, which supports no TLS_CERT and no limits of connections.
"""

import logging
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from glitchflow_api.app import start
from glitchflow_api.settings import GatewaySettings
from gwservice.logs import configure_logging

# The server of `fastapi run` starts after this; it would start this many processes, each with its own limits.
os.environ.pop("WEB_CONCURRENCY", None)
_settings = GatewaySettings.load()
if _settings.TLS_CERT is not None:
    sys.stderr.write("glitchflow_api: TLS_CERT: only `python -m glitchflow_api` serves https; this command does not\n")
    sys.exit(2)
app = start(_settings)
_lifespan = app.router.lifespan_context


@asynccontextmanager
async def _configure_log(app: FastAPI) -> AsyncIterator[None]:
    """Log as `python -m glitchflow_api` does; this command's server has set up its own logging before."""
    configure_logging("glitchflow_api")
    async with _lifespan(app):
        yield


app.router.lifespan_context = _configure_log
logging.getLogger(__name__).warning(
    "HEADER_TIMEOUT, MAX_CONNECTIONS and, for streams, BODY_TIMEOUT are not enforced here: "
    "only `python -m glitchflow_api` enforces them"
)
