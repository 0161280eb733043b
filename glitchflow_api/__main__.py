"""`python -m glitchflow_api`: the gateway under uvicorn with uvloop and httptools, in the trio's log format."""

from glitchflow_api.app import create_app
from glitchflow_api.settings import GatewaySettings
from gwservice.asgi import serve
from gwservice.logs import configure_logging


def main() -> None:
    """Run the gateway until SIGTERM or SIGINT; exits with status 0."""
    settings = GatewaySettings.load()
    configure_logging("glitchflow_api")
    serve(create_app(settings), settings.LISTEN, service="glitchflow_api")


if __name__ == "__main__":
    main()
