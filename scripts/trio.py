"""The three services as processes of this machine, with their data under one home."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple, Self
from urllib.error import HTTPError, URLError

_ROOT = Path(__file__).parents[1]
_HOST = "127.0.0.1"
#: From which ports are drawn; processes with ranges of their own never draw the same.
PORTS = range(10_000, 32_768)
_random = random.SystemRandom()  # a different sequence in every process
_START_SECONDS = 60.0
_STOP_SECONDS = 12.0


class Ports(NamedTuple):
    """The ports on which the services listen."""

    api: int
    logic: int
    buffer: int


def draw_ports(number: int) -> list[int]:
    """Return free ports.

    They are drawn at random from below the ephemeral range, so that another process is unlikely to get one of them
    before the services start.
    """
    with ExitStack() as held:
        ports: list[int] = []
        while len(ports) < number:
            with suppress(OSError):
                ports.append(held.enter_context(socket.create_server((_HOST, _random.choice(PORTS)))).getsockname()[1])
        return ports


def free_ports() -> Ports:
    """Return three free ports."""
    return Ports(*draw_ports(len(Ports._fields)))


def unusable_ports(ports: Ports) -> dict[str, str]:
    """Return the ports on which a service cannot listen, by name, with the reason."""
    found = {}
    with ExitStack() as held:
        for name, port in ports._asdict().items():
            try:
                held.enter_context(socket.create_server((_HOST, port)))
            except OSError as error:
                found[name] = os.strerror(error.errno or 0)
    return found


class ServiceDied(Exception):
    """A service ended by itself; the message has its name and status."""


@dataclass(frozen=True)
class Service:
    """One service: the command and environment that start it, and its address."""

    name: str
    command: list[str]
    environment: dict[str, str]
    url: str


def describe(home: Path, ports: Ports) -> list[Service]:
    """Return the services with their data in the original's tree under `home`, the buffer first."""
    api, logic, buffer = (f"http://{_HOST}:{port}" for port in ports)
    python = sys.executable
    return [
        Service(
            "databuffer",
            [python, "-m", "databuffer"],
            {
                "SERVURL": f"{_HOST}:{ports.buffer}",
                "DTVOLROOT": str(home / "datavar"),
                "DATAROOT": str(home / "datavar" / "data"),
                "ADMROOT": str(home / "appdata" / "adm"),
                "LOGROOT": str(home / "appdata" / "log"),
            },
            buffer,
        ),
        Service(
            "dslogic",
            [python, "-m", "dslogic", "-b", f"{_HOST}:{ports.logic}"],
            {"DB_BURL": buffer},
            logic,
        ),
        Service(
            "glitchflow_api",
            [python, "-m", "glitchflow_api"],
            {"LISTEN": f"{_HOST}:{ports.api}", "DS_BURL": logic},
            api,
        ),
    ]


class Trio:
    """The three services, or the lower ones of them, started together and stopped together.

    Args:
        home: where the data lie; created if missing.
        ports: where the services listen.
        environment: settings on top of this process's environment.
        each: settings of single services on top of that, by their names.
        output: where the services write their log, or None for this process's own output.
        services: their number, from the buffer up.

    """

    def __init__(  # noqa: PLR0913 (all but the first two have defaults)
        self,
        home: Path,
        ports: Ports,
        environment: Mapping[str, str] | None = None,
        *,
        each: Mapping[str, Mapping[str, str]] | None = None,
        output: IO[bytes] | None = None,
        services: int = 3,
    ) -> None:
        self.home = home.absolute()
        self.services = describe(self.home, ports)[:services]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = dict(environment or {})
        self._each = each or {}
        self.output = output

    @property
    def url(self) -> str:
        """The address of the uppermost service: the gateway's."""
        return self.services[-1].url

    def start(self) -> None:
        """Start the services and return when all are ready.

        Raises:
            ServiceDied: one of them ended, or did not get ready in time.

        """
        for service in self.services:
            self.launch(service.name)
        self.wait_until_ready()

    def launch(self, name: str) -> None:
        """Start one service, without waiting for it."""
        service = next(service for service in self.services if service.name == name)
        environment = {**os.environ, **service.environment, **self._environment, **self._each.get(name, {})}
        self.processes[name] = self.start_process(service, environment)

    def start_process(self, service: Service, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start the process of a service with this environment."""
        return subprocess.Popen(
            service.command,
            cwd=_ROOT,
            env=environment,
            stdout=self.output,
            stderr=self.output,
            # Ctrl-C reaches the supervisor alone, which then stops the services in their order.
            start_new_session=True,
        )

    def wait_until_ready(self) -> None:
        """Wait until the uppermost service reports that every service is ready.

        Raises:
            ServiceDied: a service ended, or did not get ready in time.

        """
        deadline = time.monotonic() + _START_SECONDS
        # The lowest first: a service that is probed before the one below is ready logs an error.
        probes = [*(f"{service.url}/healthz" for service in self.services[:-1]), f"{self.url}/readyz"]
        for probe in probes:
            while not _answers(probe):
                self.check()
                if time.monotonic() > deadline:
                    raise ServiceDied(f"the services were not ready after {_START_SECONDS:.0f} s")
                time.sleep(0.05)

    def check(self) -> None:
        """Raise ServiceDied if a service has ended."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                raise ServiceDied(f"{name} ended with status {process.returncode}")

    def stop(self) -> None:
        """Stop the services, the gateway first, so that accepted requests are completed."""
        for name, process in reversed(self.processes.items()):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                sys.stderr.write(f"{name} did not stop in {_STOP_SECONDS:.0f} s; killing it\n")
                process.kill()
                process.wait()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _answers(probe: str) -> bool:
    try:
        with urllib.request.urlopen(probe, timeout=5) as response:  # noqa: S310 (an http address of ours)
            return bool(response.status == 200)  # noqa: PLR2004 (HTTP's own number)
    except HTTPError as error:
        error.close()
        return False
    except (URLError, OSError):
        return False
