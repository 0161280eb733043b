"""The log of every service: one line per event on standard error, with the same fields everywhere.

As JSON, for programs: `{"time", "level", "service", "logger", "message"}`, then `request_id` and `trace_id` if the line
belongs to a request, the fields of the event (`event`, `batch`, `code` …), and `exception`. As text, for a terminal:
`2026-11-20T23:41:07.123Z INFO databuffer: message [request_id]`.
"""

import logging
import logging.config
import os
import sys
import time
from collections.abc import Callable, Hashable
from enum import StrEnum
from typing import Any

import msgspec

from gwservice.correlation import current_request
from gwservice.streams import open_closed_streams
from gwwire.names import printable


class LogFormat(StrEnum):
    """The format of log lines."""

    JSON = "json"
    TEXT = "text"


#: The attributes of every record; others are the fields of its event.
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
#: Upper limit of the characters written of a message or a value: some contain names and notes of clients.
_MOST_CHARACTERS = 1000
_SERVER_LOGGERS = {
    "WARNING": ("uvicorn", "uvicorn.error", "gunicorn.error"),
    "CRITICAL": ("uvicorn.access", "gunicorn.access"),
}
#: Upper limit of lines of one kind, and the seconds that it applies to.
MOST = 20
SECONDS = 10.0


def _shortened(value: object) -> object:
    if isinstance(value, str) and len(value) > _MOST_CHARACTERS:
        return f"{value[:_MOST_CHARACTERS]}… ({len(value)} characters)"
    return value


class TextFormatter(logging.Formatter):
    """Formats a record as time in UTC with milliseconds, level, service, message, request."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self, service: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)s {service}: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's own name)
        """Format a record without its exception."""
        request = current_request()
        record.message = printable(str(_shortened(record.message)))  # some messages contain names from clients
        return super().formatMessage(record) + (f" [{request.id}]" if request else "")


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object; the fields of an event cannot replace those of every line."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
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
    # Read here, because gunicorn logs before there are settings; those report a bad value.
    wanted = os.environ.get("LOG_FORMAT") or (LogFormat.TEXT if sys.stderr.isatty() else LogFormat.JSON)
    return TextFormatter(service) if wanted == LogFormat.TEXT else JsonFormatter(service)


def log_config(service: str) -> dict[str, Any]:
    """Return the `logging.config` dictionary of a service: everything goes to standard error."""
    open_closed_streams()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": _formatter, "service": service}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "stream": "ext://sys.stderr"}},
        "root": {"level": "INFO", "handlers": ["stderr"]},
        "loggers": {
            # The web servers bring handlers of their own; the root's is enough. A line per request would hide what an
            # operator looks for: the stored segments have their own log, LogStream.json.
            name: {"level": level, "handlers": [], "propagate": True}
            for level, names in _SERVER_LOGGERS.items()
            for name in names
        },
    }


def configure_logging(service: str) -> None:
    """Make this process log to standard error in this format."""
    logging.captureWarnings(capture=True)
    logging.config.dictConfig(log_config(service))


class LogLimit:
    """Limits repeated lines: a full disk fails every request, and the log must stay readable."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, most: int = MOST, seconds: float = SECONDS
    ) -> None:
        self._clock = clock
        self._most = most
        self._seconds = seconds
        self._windows: dict[Hashable, tuple[float, int, int]] = {}  # start, written, omitted; of few kinds

    def admit(self, kind: Hashable) -> int | None:
        """Return how many lines of this kind were omitted since the last one, or None to omit this one too."""
        now = self._clock()
        start, written, omitted = self._windows.get(kind, (now, 0, 0))
        if now - start >= self._seconds:
            start, written = now, 0
        if written == self._most:
            self._windows[kind] = start, written, omitted + 1
            return None
        self._windows[kind] = start, written + 1, 0
        return omitted
