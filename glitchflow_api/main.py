"""The gateway's `app`, for `fastapi run glitchflow_api/main.py --port 8000`."""

from glitchflow_api.settings import GatewaySettings
from glitchflow_api.start import start

app = start(GatewaySettings.load())
