"""A client that pushes without a pause while the cluster changes, and the ledger of its segments."""

import json
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from threading import Event, Thread
from types import TracebackType
from typing import Self

from tools.cluster_test.errors import ClusterTestError, KubectlFailed, StepFailed
from tools.cluster_test.gateway import Stored

#: Runs a command in the client's pod.
Runner = Callable[[Sequence[str]], subprocess.CompletedProcess[str]]

CHANNEL = "H1:SIM-STRAIN"
#: Seconds of strain, and segments, in one call of the client.
ROUND = 40
#: Preprocessing needs more than twice its highest frequency, 500 Hz.
_RATE = 2048


def push_command(t0: int) -> list[str]:
    """Return the command that pushes the segments `[t0, t0 + ROUND)` and retries for minutes."""
    return [
        *("gwclient", "simulate", "--detectors", CHANNEL.partition(":")[0], "--seconds", str(ROUND)),
        *("--rate", str(_RATE), "--t0", str(t0), "--concurrency", "4", "--tries", "60", "--json"),
    ]


@dataclass
class Ledger:
    """The GPS times of the acknowledged segments."""

    _next: "count[int]" = field(default_factory=lambda: count(1_400_000_000, ROUND))
    times: list[int] = field(default_factory=list)

    def push(self, run: Runner) -> None:
        """Push one round.

        Raises:
            StepFailed: a segment was not acknowledged despite the client's retries.

        """
        t0 = next(self._next)
        done = run(push_command(t0))
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
            raise StepFailed(f"the client gave up with status {done.returncode}: {said}")
        report = json.loads(done.stdout)
        if report["acknowledged"] != ROUND:
            raise StepFailed(f"{report['acknowledged']} of {ROUND} segments were acknowledged")
        self.times += range(t0, t0 + ROUND)

    def check(self, stored: Sequence[Stored], since: int = 0) -> str:
        """Compare with the stored segments, from `times[since]` on.

        Raises:
            StepFailed: an acknowledged segment is missing, or stored twice.

        """
        there = Counter(one.t0 for one in stored if one.channel == CHANNEL)
        wanted = self.times[since:]
        lost = [t0 for t0 in wanted if not there[t0]]
        twice = [t0 for t0 in wanted if there[t0] > 1]
        if lost or twice:
            raise StepFailed(
                f"{len(lost)} acknowledged segments lost {lost[:3]}, {len(twice)} stored twice {twice[:3]}"
            )
        return f"{len(wanted)} segments acknowledged while it happened, each stored once"


class Pusher:
    """Pushes round after round in a thread during a `with` block."""

    def __init__(self, ledger: Ledger, run: Runner) -> None:
        self._ledger = ledger
        self._run = run
        self._enough = Event()
        self._begun = Event()
        self._error: ClusterTestError | None = None
        self._thread = Thread(target=self._push)

    def __enter__(self) -> Self:
        """Start; the first round is complete when this returns."""
        self._thread.start()
        self._begun.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the current round; raise the client's error unless the block raised another."""
        self._enough.set()
        self._thread.join()
        if self._error and error is None:
            raise self._error

    def _push(self) -> None:
        try:
            self._ledger.push(self._run)
            self._begun.set()
            while not self._enough.is_set():
                self._ledger.push(self._run)
            self._ledger.push(self._run)  # shows an error at the end of the block
        except (StepFailed, KubectlFailed) as error:
            self._error = error
        except (KeyError, ValueError) as error:
            self._error = StepFailed(f"the client's report cannot be read: {error!r}")
        finally:
            self._begun.set()
