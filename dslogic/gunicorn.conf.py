"""The gunicorn configuration of dslogic: `gunicorn -c dslogic/gunicorn.conf.py "dslogic.app:create_app('default')"`.

Options on the command line and in GUNICORN_CMD_ARGS, such as `-b 127.0.0.1:5000`, replace what is set here.
"""

import os
import socket
from typing import Any

from gwservice.listening import check_can_listen
from gwservice.logs import log_config
from gwservice.tracing import begin_tracing, end_tracing


def on_starting(arbiter: Any) -> None:
    """Exit with one line if an address cannot be used; gunicorn would try for 5 s, and log two lines each time."""
    if arbiter.master_pid or "LISTEN_FDS" in os.environ or arbiter.cfg.reuse_port:  # sockets that others may have too
        return
    for address in arbiter.address:
        if isinstance(address, tuple):  # not the path of a socket
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            setting = "-b HOST:PORT, also in GUNICORN_CMD_ARGS"
            check_can_listen(*address, service="dslogic", setting=setting, family=family)


def post_fork(_: Any, __: Any) -> None:
    """Start tracing in the worker: traces are sent by a thread, which a fork does not copy."""
    begin_tracing("dslogic")


def worker_exit(_: Any, __: Any) -> None:
    """Send the traces that were not sent yet."""
    end_tracing()


bind = "0.0.0.0:5000"
worker_class = "dslogic.worker.Worker"
# One event loop relays; several workers would have separate metrics.
workers = 1
# A bad setting then stops the service at start instead of every worker in turn.
preload_app = True
# Longer than the gateway keeps an idle connection, so that none is closed at the moment it is used.
keepalive = 120
graceful_timeout = 8
timeout = 60
logconfig_dict = log_config("dslogic")
# A read-only file system cannot hold the socket.
control_socket_disable = True
