"""One log line format for every process of the trio: `2026-11-20T23:41:07.123Z INFO databuffer: message`."""

import logging
import logging.config
import time
from typing import Any


class LineFormatter(logging.Formatter):
    """Time in UTC with milliseconds, level, service, message."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"


def log_config(service: str) -> dict[str, Any]:
    """Give the `logging.config` dictionary of a service: everything goes to standard error, in one format."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {"()": LineFormatter, "format": f"%(asctime)s %(levelname)s {service}: %(message)s"},
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"}},
        "root": {"level": "INFO", "handlers": ["stderr"]},
        "loggers": {
            # The web servers bring handlers of their own; the root's is enough. A line per request would drown
            # what an operator looks for: the stored segments have their own log, LogStream.json.
            name: {"level": level, "handlers": [], "propagate": True}
            for name, level in (
                ("uvicorn", "WARNING"),
                ("uvicorn.error", "WARNING"),
                ("uvicorn.access", "CRITICAL"),
                ("gunicorn.error", "WARNING"),
                ("gunicorn.access", "CRITICAL"),
            )
        },
    }


def configure_logging(service: str) -> None:
    """Make this process log in the one format."""
    logging.config.dictConfig(log_config(service))
