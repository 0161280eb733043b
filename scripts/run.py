"""`make run`: the three services in the foreground under one supervisor.

Ctrl-C or SIGTERM stops all of them cleanly; a service that dies takes the others down, with status 1.
"""

import logging
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from gwservice.logs import configure_logging
from scripts.trio import Ports, ServiceDied, Trio

log = logging.getLogger(__name__)


class _Stop(Exception):
    """Somebody asked the supervisor to stop."""


class _Supervised(Trio):
    """The trio, which stops on SIGINT and SIGTERM.

    The handler only notes the signal and `check` raises: an exception raised by the handler itself could end
    anything, a line of the log or the stop of the services included.
    """

    _asked: str = ""

    def listen(self) -> None:
        """Note SIGINT and SIGTERM from now on."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, _: FrameType | None) -> None:
        self._asked = signal.Signals(number).name

    def check(self) -> None:
        """Raise _Stop if a signal has come, ServiceDied if a service has ended."""
        if self._asked:
            raise _Stop(self._asked)
        super().check()


def ports_from_environment() -> Ports:
    """Read PORT_API, PORT_LOGIC and PORT_BUFFER."""
    try:
        return Ports(*(int(os.environ.get(f"PORT_{name}", default)) for name, default in _DEFAULT_PORTS))
    except ValueError as error:
        sys.exit(f"run: PORT_API, PORT_LOGIC and PORT_BUFFER are port numbers: {error}")


_DEFAULT_PORTS = (("API", 8000), ("LOGIC", 5000), ("BUFFER", 8080))


def main() -> int:
    """Run until asked to stop (0), or until a service dies (1)."""
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
