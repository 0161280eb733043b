"""A client that pushes all the time while something else happens, and the account of what it pushed."""

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

#: Runs a command where the client is.
Runner = Callable[[Sequence[str]], subprocess.CompletedProcess[str]]

CHANNEL = "H1:SIM-STRAIN"
#: Seconds of strain, and so segments, of one call of the client.
ROUND = 40
#: Preprocessing goes up to 500 Hz, and needs some room above.
_RATE = 2048


def push_command(t0: int) -> list[str]:
    """Give the call that pushes the segments `[t0, t0 + ROUND)`, and keeps trying for minutes."""
    return [
        *("gwclient", "simulate", "--detectors", CHANNEL.partition(":")[0], "--seconds", str(ROUND)),
        *("--rate", str(_RATE), "--t0", str(t0), "--concurrency", "4", "--tries", "60", "--json"),
    ]


@dataclass
class Ledger:
    """What was acknowledged: the GPS times of the segments, each once."""

    _next: "count[int]" = field(default_factory=lambda: count(1_400_000_000, ROUND))
    times: list[int] = field(default_factory=list)

    def push(self, run: Runner) -> None:
        """Push one round.

        Raises:
            StepFailed: not everything was acknowledged, so there was an error that the client's retries did not absorb.

        """
        t0 = next(self._next)
        done = run(push_command(t0))
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
            raise StepFailed(f"the client gave up with status {done.returncode}: {said}")
        told = json.loads(done.stdout)
        if told["acknowledged"] != ROUND:
            raise StepFailed(f"{told['acknowledged']} of {ROUND} segments were acknowledged")
        self.times += range(t0, t0 + ROUND)

    def check(self, stored: Sequence[Stored], since: int = 0) -> str:
        """Compare with what is stored, from the round that began with `times[since]` on.

        Raises:
            StepFailed: an acknowledged segment is missing, or one is there twice.

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
    """Pushes round after round in a thread, from the beginning of the `with` to its end."""

    def __init__(self, ledger: Ledger, run: Runner) -> None:
        self._ledger = ledger
        self._run = run
        self._enough = Event()
        self._begun = Event()
        self._error: ClusterTestError | None = None
        self._thread = Thread(target=self._push)

    def __enter__(self) -> Self:
        """Begin; a first round is through when this returns."""
        self._thread.start()
        self._begun.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the round under way end; what the client could not do counts where nothing else went wrong."""
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
            self._ledger.push(self._run)  # what was broken at the end would show now
        except (StepFailed, KubectlFailed) as error:
            self._error = error
        except (KeyError, ValueError) as error:
            self._error = StepFailed(f"the client's account cannot be read: {error!r}")
        finally:
            self._begun.set()
