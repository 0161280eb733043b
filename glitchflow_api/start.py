"""How the gateway begins, whoever serves it: settings, log, application, or one line that says why not."""

import logging
import sys

from fastapi import FastAPI

from glitchflow_api.app import create_app
from glitchflow_api.settings import AuthMode, GatewaySettings
from gwservice.logs import configure_logging
from gwservice.tracing import begin_tracing
from gwservice.watched import FileBroken

log = logging.getLogger(__name__)


def start(settings: GatewaySettings) -> FastAPI:
    """Make the application; exits with status 2 where what the settings name cannot be used."""
    configure_logging("glitchflow_api")
    begin_tracing("glitchflow_api")
    try:
        app = create_app(settings)
    except FileBroken as error:
        sys.stderr.write(f"glitchflow_api: AUTH={settings.AUTH}: {error}\n")
        sys.exit(2)
    if settings.AUTH is AuthMode.OFF:
        log.warning(
            "AUTH=off: WHOEVER REACHES THIS GATEWAY MAY READ, STORE, FREEZE AND ARCHIVE. AUTH=keys asks for a key."
        )
    if settings.AUTH is AuthMode.JWT and settings.JWT_JWKS.startswith("http://"):
        log.warning("JWT_JWKS=%s: who can change what comes over http can make tokens; use https", settings.JWT_JWKS)
    return app
