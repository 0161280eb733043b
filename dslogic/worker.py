"""Gunicorn's worker for dslogic: uvicorn, with the Flask application that gunicorn loads behind the relay."""

from typing import Any, ClassVar, cast

from flask import Flask
from uvicorn_worker import UvicornWorker

from dslogic.asgi import asgi_application
from gwservice.asgi_types import ASGIApp


class Worker(UvicornWorker):  # type: ignore[misc]  # the package ships no types
    """A worker with uvloop and httptools, without WebSockets and without a log line per request."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "http": "httptools",
        "ws": "none",
        "access_log": False,
        "lifespan": "on",
    }

    def load_wsgi(self) -> None:
        """Load the Flask application, and put the relay in front of it."""
        super().load_wsgi()
        self.wsgi: ASGIApp = asgi_application(cast("Flask", self.wsgi))
