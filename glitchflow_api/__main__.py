"""`python -m glitchflow_api`: the gateway under uvicorn with uvloop and httptools; `keys` manages API keys."""

import sys

from glitchflow_api import keys
from glitchflow_api.app import start
from glitchflow_api.bundle_socket import PATH_PATTERN
from glitchflow_api.settings import GatewaySettings
from gwservice.asgi import serve
from gwservice.connection_limits import Limits
from gwservice.tls import server_tls
from gwservice.watched_file import exiting_if_broken
from gwservice.websocket import websocket_at


def main() -> int:
    """Run the gateway until SIGTERM or SIGINT, or carry out one command about keys."""
    match sys.argv[1:]:
        case ["keys", *arguments]:
            return keys.main(arguments, "python -m glitchflow_api keys")
        case []:
            settings = GatewaySettings.load()
            limits = Limits(
                header_seconds=settings.HEADER_TIMEOUT,
                body_seconds=settings.BODY_TIMEOUT,
                stall_seconds=settings.BODY_TIMEOUT,
                connections=settings.MAX_CONNECTIONS,
            )
            tls = None
            if settings.TLS_CERT and settings.TLS_KEY:
                with exiting_if_broken("glitchflow_api: TLS_CERT, TLS_KEY"):
                    tls = server_tls(settings.TLS_CERT, settings.TLS_KEY)
            app = start(settings)
            socket = websocket_at(PATH_PATTERN)
            serve(
                app,
                settings.LISTEN,
                service="glitchflow_api",
                setting="LISTEN",
                limits=limits,
                tls=tls,
                proxy_headers=True,
                websocket=socket,
            )
            return 0
        case _:
            sys.stderr.write("usage: python -m glitchflow_api [keys ...]\n")
            return 2


if __name__ == "__main__":
    sys.exit(main())
