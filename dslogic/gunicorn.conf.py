"""How gunicorn runs dslogic: `gunicorn -c dslogic/gunicorn.conf.py "dslogic.app:create_app('default')"`."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from gunicorn.glogging import Logger
from gunicorn.http.unreader import SocketUnreader

from gwservice.logs import log_config
from gwservice.tracing import begin_tracing, end_tracing

# Where the workers keep what they count, each in files of its own, so that any of them can tell it all.
_SETTING = "PROMETHEUS_MULTIPROC_DIR"
_counts = Path(os.environ.get(_SETTING) or f"{tempfile.gettempdir()}/dslogic-metrics-{os.getuid()}-{os.getpid()}")
raw_env = [f"{_SETTING}={_counts}"]


def on_starting(_: Any) -> None:
    """Forget what an earlier run counted that was killed."""
    for path in _counts.glob("*.db"):
        path.unlink()


def post_fork(_: Any, __: Any) -> None:
    """Begin to make traces in a worker: what sends them is a thread, which no fork takes along."""
    begin_tracing("dslogic")


def worker_exit(_: Any, __: Any) -> None:
    """Send the traces that have not been sent yet."""
    end_tracing()


def child_exit(_: Any, worker: Any) -> None:
    """Tell what a worker counted in its life together with what the others count, and nothing of what it was doing."""
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415 (it looks for the folder above)

    mark_process_dead(worker.pid)


def on_exit(_: Any) -> None:
    """Leave nothing behind."""
    shutil.rmtree(_counts, ignore_errors=True)


class NoAccessLog(Logger):
    """Gunicorn's log without a line per request, whose parts gunicorn gathers even where nobody reads it."""

    def access(self, *_: Any) -> None:
        """Say nothing."""


# What a thread asks of its socket at a time. Gunicorn asks for all the rest of the body, and copies it with each piece
# that is taken: with 32 threads at it, that was most of the memory, and an eighth of the CPU time of large segments.
SocketUnreader.max_body_chunk = 64 * 1024

bind = "0.0.0.0:5000"
worker_class = "dslogic.worker.Worker"
workers = 2
# A thread waits for the buffer's disk most of its time.
# Each stream of segments holds one as long as it lasts, and a gateway passes on MAX_STREAMS of them.
threads = 64
# A bad setting then stops the service at start instead of every worker in turn.
preload_app = True
# Longer than the gateway keeps an idle connection, so that none is closed at the moment it is used.
keepalive = 120
graceful_timeout = 8
timeout = 60
logger_class = NoAccessLog
logconfig_dict = log_config("dslogic")
# Nobody steers gunicorn through a socket here, and a read-only file system has no place for it.
control_socket_disable = True
