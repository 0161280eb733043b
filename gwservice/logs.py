"""One log for every process of the trio: a line per event on standard error, with the same fields everywhere.

As JSON, for programs: `{"time", "level", "service", "logger", "message"}`, then `request_id` and `trace_id` where the
line belongs to a request, what the event itself tells (`event`, `batch`, `code` …), and `exception`. As text, for a
terminal: `2026-11-20T23:41:07.123Z INFO databuffer: message [request_id]`.
"""

import logging
import logging.config
import os
import re
import sys
import time
from enum import StrEnum
from typing import Any

import msgspec

from gwservice.correlation import current_request


class LogFormat(StrEnum):
    """How log lines are written."""

    JSON = "json"
    TEXT = "text"


#: What every record has; the others are what an event tells about itself.
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


#: Characters of a message or a value that are told: some hold names and notes of senders, as long as they like.
_MOST_CHARACTERS = 1000
#: What would begin a line of its own, or steer the terminal: some messages hold names that others made up.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def _shortened(value: object) -> object:
    if isinstance(value, str) and len(value) > _MOST_CHARACTERS:
        return f"{value[:_MOST_CHARACTERS]}… ({len(value)} characters)"
    return value


class TextFormatter(logging.Formatter):
    """Time in UTC with milliseconds, level, service, message, request."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self, service: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)s {service}: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's own name)
        """Write all but the exception."""
        request = current_request()
        record.message = _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], str(_shortened(record.message)))
        return super().formatMessage(record) + (f" [{request.id}]" if request else "")


class JsonFormatter(logging.Formatter):
    """An object a line; what an event tells is never allowed to hide what every line tells."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": _shortened(record.getMessage()),
        }
        if request := current_request():
            line["request_id"] = request.id
            if request.trace_id:
                line["trace_id"] = request.trace_id
        for name, value in vars(record).items():
            if name not in _PLAIN:
                line.setdefault(name, _shortened(value))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def _formatter(service: str) -> logging.Formatter:
    # Read here, because gunicorn logs before there are settings; those say what is wrong with a bad value.
    wanted = os.environ.get("LOG_FORMAT") or (LogFormat.TEXT if sys.stderr.isatty() else LogFormat.JSON)
    return TextFormatter(service) if wanted == LogFormat.TEXT else JsonFormatter(service)


def log_config(service: str) -> dict[str, Any]:
    """Give the `logging.config` dictionary of a service: everything goes to standard error, in one format."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": _formatter, "service": service}},
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
    logging.captureWarnings(capture=True)
    logging.config.dictConfig(log_config(service))
