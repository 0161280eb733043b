"""The gateway's `app`, for `fastapi run glitchflow_api/main.py --port 8000`."""

from glitchflow_api.app import create_app
from glitchflow_api.settings import GatewaySettings
from gwservice.logs import configure_logging

configure_logging("glitchflow_api")
app = create_app(GatewaySettings.load())
