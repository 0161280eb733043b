"""How gunicorn runs dslogic: `gunicorn -c dslogic/gunicorn.conf.py "dslogic.app:create_app('default')"`."""

from typing import Any

from gunicorn.glogging import Logger

from gwservice.logs import log_config


class NoAccessLog(Logger):
    """Gunicorn's log without a line per request, whose parts gunicorn gathers even where nobody reads it."""

    def access(self, *_: Any) -> None:
        """Say nothing."""


bind = "0.0.0.0:5000"
worker_class = "gthread"
workers = 2
# A thread waits for the buffer's disk most of its time.
threads = 32
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
