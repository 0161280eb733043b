"""Shared by the services: settings, logging, the HTTP server, the client of the next service, the relay."""

import os

# FastAPI imports OpenTelemetry, which fails if one of these names a plug-in that is not installed.
for _name in ("OTEL_PROPAGATORS", "OTEL_PYTHON_CONTEXT"):
    os.environ.pop(_name, None)
