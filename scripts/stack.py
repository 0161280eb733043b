"""`make up`, `make down` and `make clean-volumes`: the services of docker-compose.yml on this machine.

    python -m scripts.stack up|down|clean-volumes

`down` keeps the data; `clean-volumes` deletes them after a `yes` on standard input.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence

from scripts.engine import IMAGES, ROOT, EngineMissing, ImageNames, engine, exists

_SERVICES = ("databuff", "dslogic", "gflapi")
#: The images of the services; those of the client and of preprocessing are built on request.
_NEEDED = IMAGES[:3]
_START_SECONDS = 120.0


class StackFailed(Exception):
    """A command failed; the message has the reason."""


class Stack:
    """The services of docker-compose.yml, as a Compose project.

    Args:
        project: by default the name that Compose uses: COMPOSE_PROJECT_NAME, or the folder's name.

    """

    def __init__(self, project: str | None = None) -> None:
        folder = re.sub("[^-_a-z0-9]", "", ROOT.name.lower()).lstrip("-_")
        self.project = project or os.environ.get("COMPOSE_PROJECT_NAME") or folder
        self._docker = engine()
        self.compose = [*_find_compose(self._docker), "--project-name", self.project]

    def up(self) -> str:
        """Start the services, building missing images, and return when all are healthy.

        Returns:
            The gateway's address.

        Raises:
            StackFailed: a missing image could not be built, or the services did not start or get healthy in time;
                the end of their logs is printed.

        """
        names = ImageNames.from_environment(os.environ)
        if missing := [image for image in _NEEDED if not exists(self._docker, names.of(image))]:
            self._build(missing)
        if self._run("up", "--detach", "--no-build", *_SERVICES):
            self._print_logs()
            raise StackFailed("the services could not be started")
        self.wait_until_healthy()
        return self.url

    @property
    def url(self) -> str:
        """The gateway's address."""
        return f"http://{self._ask('port', 'gflapi', '8000').strip()}"

    def wait_until_healthy(self) -> None:
        """Wait until every service's container is healthy.

        Raises:
            StackFailed: the containers were not healthy in time.

        """
        deadline = time.monotonic() + _START_SECONDS
        while set((states := self.health()).values()) != {"healthy"}:
            if time.monotonic() > deadline:
                self._print_logs()
                raise StackFailed(f"not healthy after {_START_SECONDS:.0f} s: {states}")
            time.sleep(0.5)

    def down(self, *, volumes: bool = False) -> None:
        """Stop the services and remove their containers, and the volumes if asked for.

        Raises:
            StackFailed: not everything could be removed.

        """
        if self._run("--profile", "monitoring", "down", *(["--volumes"] if volumes else [])):
            raise StackFailed("not everything could be removed")

    def volumes(self) -> list[str]:
        """Return the names of the project's volumes."""
        mine = f"label=com.docker.compose.project={self.project}"
        return _output(self._docker, "volume", "ls", "--quiet", "--filter", mine).split()

    def container(self, service: str) -> str:
        """Return the id of a service's container, running or not, or an empty string if there is none."""
        labels = {"project": self.project, "service": service, "oneoff": "False"}
        filters = (
            word for name, value in labels.items() for word in ("--filter", f"label=com.docker.compose.{name}={value}")
        )
        return _output(self._docker, "ps", "--all", "--quiet", "--no-trunc", *filters).strip()

    def health(self) -> dict[str, str]:
        """Return the health of each service, or the state of its container if it is not running."""
        return {service: self._health(self.container(service)) for service in _SERVICES}

    def _health(self, container: str) -> str:
        if not container:
            return "missing"
        state = json.loads(_output(self._docker, "inspect", "--format", "{{json .State}}", container))
        return str(state["Health"]["Status"] if state["Running"] else state["Status"])

    def _build(self, images: Sequence[str]) -> None:
        if subprocess.run([sys.executable, "-m", "tools.images", *images], cwd=ROOT, check=False).returncode:
            raise StackFailed("the images could not be built")

    def _print_logs(self) -> None:
        self._run("ps")
        self._run("logs", "--tail", "20")

    def _ask(self, *arguments: str) -> str:
        return _output(*self.compose, *arguments)

    def _run(self, *arguments: str) -> int:
        # All profiles: `down` also stops containers that were started by hand.
        environment = {**os.environ, "COMPOSE_PROFILES": "client,preproc"}
        return subprocess.run([*self.compose, *arguments], cwd=ROOT, check=False, env=environment).returncode


def _output(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def _find_compose(docker: str) -> list[str]:
    """Return the command of Compose v2, or of docker-compose if there is no v2."""
    if not subprocess.run([docker, "compose", "version"], check=False, capture_output=True).returncode:
        return [docker, "compose"]
    if program := shutil.which("docker-compose"):
        return [program]
    raise StackFailed("neither `docker compose` nor docker-compose is installed")


def _up(stack: Stack) -> None:
    url = stack.up()
    print(f"ready at {url}, page at {url}/dspage; data on the volume {stack.project}_data")


def _down(stack: Stack) -> None:
    stack.down()
    print(f"stopped; the data stay on {', '.join(stack.volumes()) or 'no volume'}")


def _clean_volumes(stack: Stack) -> None:
    volumes = stack.volumes()
    if not volumes:
        print("there is no volume to delete")
        return
    print(f"This deletes {', '.join(volumes)}: every segment, archive and dataset on them, for good.")
    print("Type yes to go on: ", end="", flush=True)
    if sys.stdin.readline().strip() != "yes":
        raise StackFailed("nothing was deleted")
    stack.down(volumes=True)
    print("deleted")


_ORDERS = {"up": _up, "down": _down, "clean-volumes": _clean_volumes}


def main() -> int:
    """Run the command on the command line."""
    if len(sys.argv) != 2 or sys.argv[1] not in _ORDERS:  # noqa: PLR2004 (the program and one order)
        print(f"usage: python -m scripts.stack {'|'.join(_ORDERS)}", file=sys.stderr)
        return 2
    try:
        _ORDERS[sys.argv[1]](Stack())
    except (EngineMissing, StackFailed) as failed:
        print(f"{sys.argv[1]}: {failed}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
