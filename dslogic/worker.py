"""Gunicorn's worker for dslogic: uvicorn, with the Flask application that gunicorn loads behind the relay."""

import math
import os
import signal
from typing import Any, ClassVar, cast

from flask import Flask
from uvicorn_worker import UvicornWorker

from dslogic.asgi import asgi_application
from gwservice.asgi_types import ASGIApp
from gwservice.server import collect_less_garbage, limited


class Worker(UvicornWorker):  # type: ignore[misc]  # the package ships no types
    """A worker with uvloop, without WebSockets and without a log line per request."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "http": limited(),
        "ws": "none",
        "access_log": False,
        "lifespan": "on",
        "proxy_headers": False,
        # Once a second, whatever the clock says: uvicorn compares its times, and one may be set back.
        "timeout_notify": -math.inf,
    }

    def load_wsgi(self) -> None:
        """Load the Flask application, and put the relay in front of it."""
        super().load_wsgi()
        collect_less_garbage()
        self.wsgi: ASGIApp = asgi_application(cast("Flask", self.wsgi))

    async def callback_notify(self) -> None:
        """Notify gunicorn every second that the worker is alive; stop if gunicorn is not."""
        self.notify()
        if os.getppid() != self.ppid:
            os.kill(os.getpid(), signal.SIGTERM)
