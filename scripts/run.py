"""`make run`: the three services in the foreground under one supervisor.

Ctrl-C or SIGTERM stops all of them cleanly; if a service ends by itself, the others are stopped, with status 1.
"""

import logging
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from gwservice.logs import configure_logging
from scripts.trio import Ports, ServiceDied, Trio, unusable_ports

log = logging.getLogger(__name__)


class _Stop(Exception):
    """A signal asked the supervisor to stop."""


class _Supervised(Trio):
    """The trio, which stops on SIGINT and SIGTERM.

    The handler only stores the signal and `check` raises: an exception raised by the handler itself could interrupt
    anything, such as a log line or the stop of the services.
    """

    _asked: str = ""

    def listen(self) -> None:
        """Store SIGINT and SIGTERM from now on."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._asked = signal.Signals(number).name

    def check(self) -> None:
        """Raise _Stop if a signal was received, ServiceDied if a service has ended."""
        if self._asked:
            raise _Stop(self._asked)
        super().check()


_DEFAULT_PORTS = Ports(8000, 5000, 8080)


def ports_from_environment() -> Ports:
    """Read PORT_API, PORT_LOGIC and PORT_BUFFER; exit with one line unless the services can listen there."""
    ports = Ports(*(_port(f"PORT_{name.upper()}", default) for name, default in _DEFAULT_PORTS._asdict().items()))
    if len(set(ports)) < len(ports):
        sys.exit(f"run: PORT_API, PORT_LOGIC and PORT_BUFFER must differ, not {', '.join(map(str, ports))}")
    if wrong := unusable_ports(ports):
        named = ", ".join(f"PORT_{name.upper()}={getattr(ports, name)} ({why})" for name, why in wrong.items())
        sys.exit(f"run: cannot listen on 127.0.0.1: {named}; set another port")
    return ports


def _port(setting: str, default: int) -> int:
    text = os.environ.get(setting, str(default))
    if not (text.isdecimal() and 0 < int(text) < 2**16):
        sys.exit(f"run: {setting}={text!r}: expected a port number from 1 to 65535")
    return int(text)


def main() -> int:
    """Run until asked to stop (0), or until a service ends by itself (1)."""
    configure_logging("run")
    home = Path(os.environ.get("GLITCHFLOW_HOME", "var"))
    trio = _Supervised(home, ports_from_environment())
    trio.listen()
    try:
        trio.start()
        log.info("ready at %s, page at %s/dspage, data under %s", trio.url, trio.url, trio.home)
        while True:
            trio.check()
            time.sleep(0.2)
    except _Stop as stop:
        log.info("stopping on %s", stop)
        return 0
    except ServiceDied as died:
        log.error("%s; stopping the others", died)  # noqa: TRY400 (its log has said why)
        return 1
    finally:
        trio.stop()
        log.info("stopped")


if __name__ == "__main__":
    sys.exit(main())
