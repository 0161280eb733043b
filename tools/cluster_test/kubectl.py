"""The only code that calls kubectl: one context, one namespace, time limits."""

import json
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.cluster_test.errors import KubectlFailed

#: The time limit of a call.
_SECONDS = 120.0
_FORWARDING = re.compile(r"Forwarding from (127\.0\.0\.1:\d+) ->")


@dataclass(frozen=True)
class Kubectl:
    """Calls kubectl for one context and one namespace, independent of the current ones."""

    context: str
    namespace: str

    def command(self, *arguments: str) -> list[str]:
        """Return the whole command line."""
        return ["kubectl", f"--context={self.context}", f"--namespace={self.namespace}", *arguments]

    def try_run(
        self, *arguments: str, given: str | None = None, seconds: float = _SECONDS
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl and return the completed process.

        Raises:
            KubectlFailed: it timed out.

        """
        command = self.command(*arguments)
        try:
            return subprocess.run(command, input=given, capture_output=True, text=True, check=False, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise KubectlFailed(f"no end after {seconds:.0f} s: kubectl {' '.join(arguments)}") from None

    def run(self, *arguments: str, given: str | None = None, seconds: float = _SECONDS) -> str:
        """Run kubectl and return its output.

        Raises:
            KubectlFailed: it timed out or failed.

        """
        done = self.try_run(*arguments, given=given, seconds=seconds)
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
            raise KubectlFailed(f"kubectl {' '.join(arguments)}: status {done.returncode}: {said}")
        return done.stdout

    def read(self, *arguments: str) -> dict[str, Any]:
        """Run a kubectl command and return its output, one JSON object."""
        answer: dict[str, Any] = json.loads(self.run(*arguments, "--output=json"))
        return answer

    def pods(self, name: str) -> list[dict[str, Any]]:
        """Return the pods of a part of the system, by its label."""
        items: list[dict[str, Any]] = self.read("get", "pods", f"--selector=app.kubernetes.io/name={name}")["items"]
        return items

    def wait_rollout(self, workload: str, *, seconds: float = 300.0) -> None:
        """Wait until a workload runs as described."""
        self.run("rollout", "status", workload, f"--timeout={seconds:.0f}s", seconds=seconds + 30)

    def evict(self, pod: str, *, seconds: float = 180.0) -> None:
        """Evict a pod by the Eviction API, as a drain does.

        Raises:
            KubectlFailed: the API refuses for another reason than a used-up disruption budget, or until the time is up.

        """
        order = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": self.namespace}}
        route = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/eviction"
        end = time.monotonic() + seconds
        while True:
            done = self.try_run("create", f"--raw={route}", "--filename=-", given=json.dumps(order))
            if done.returncode == 0:
                return
            # A disruption budget that is used up rejects the eviction, and a drain retries.
            if "disruption budget" not in done.stderr or time.monotonic() > end:
                raise KubectlFailed(f"evicting {pod}: {done.stderr.strip()}")
            time.sleep(2)

    def execute(self, pod: str, command: Sequence[str], *, seconds: float) -> subprocess.CompletedProcess[str]:
        """Run a command in a pod."""
        return self.try_run("exec", pod, "--", *command, seconds=seconds)

    @contextmanager
    def port_forward(self, target: str, port: int) -> Iterator[str]:
        """Yield a local address that leads to a port of the cluster."""
        command = self.command("port-forward", "--address=127.0.0.1", target, f":{port}")
        # A file, not a pipe: kubectl prints a line for each connection, and would block on a full pipe.
        with (
            tempfile.NamedTemporaryFile("w+") as said,
            subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT) as process,
        ):
            try:
                yield f"http://{_forwarded(process, Path(said.name), target)}"
            finally:
                process.terminate()


def _forwarded(process: subprocess.Popen[bytes], said: Path, target: str) -> str:
    """Wait until kubectl prints its local address, and return it."""
    end = time.monotonic() + _SECONDS
    while process.poll() is None and time.monotonic() < end:
        if found := _FORWARDING.search(said.read_text()):
            return found[1]
        time.sleep(0.1)
    raise KubectlFailed(f"kubectl port-forward {target}: {said.read_text().strip() or 'no answer'}")
