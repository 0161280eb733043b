"""How the gateway begins, whoever serves it: settings, log, application, or one line that says why not."""

import logging
import ssl
import sys

from fastapi import FastAPI

from glitchflow_api.app import create_app
from glitchflow_api.settings import GatewaySettings
from gwservice.logs import configure_logging
from gwservice.tls import ServerTls
from gwservice.tracing import begin_tracing
from gwservice.watched_file import FileBroken
from gwwire.public import AuthMode

log = logging.getLogger(__name__)


def own_tls(settings: GatewaySettings) -> ssl.SSLContext | None:
    """Give the gateway's own TLS, where it has any; exits with status 2 where that cannot be used."""
    if settings.TLS_CERT is None or settings.TLS_KEY is None:
        return None
    try:
        return ServerTls(settings.TLS_CERT, settings.TLS_KEY).context
    except FileBroken as error:
        sys.stderr.write(f"glitchflow_api: TLS_CERT, TLS_KEY: {error}\n")
        sys.exit(2)


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
