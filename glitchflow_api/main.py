"""The gateway's `app`, for `fastapi run glitchflow_api/main.py --port 8000`.

That command has its own server, which supports no TLS_CERT and no limits of connections.
"""

import logging
import sys

from glitchflow_api.app import start
from glitchflow_api.settings import GatewaySettings

_settings = GatewaySettings.load()
if _settings.TLS_CERT is not None:
    sys.stderr.write("glitchflow_api: TLS_CERT: only `python -m glitchflow_api` serves https; this command does not\n")
    sys.exit(2)
app = start(_settings)
logging.getLogger(__name__).warning(
    "HEADER_TIMEOUT, MAX_CONNECTIONS and, for streams, BODY_TIMEOUT are not in force here: "
    "only `python -m glitchflow_api` enforces them"
)
