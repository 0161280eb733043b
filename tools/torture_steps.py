"""`make torture-steps`: kill listeners, buffer and gateway again and again while records are worked on.

16 listeners share a step on 2,000 records, which are written meanwhile. Exit status 1 if an acknowledged record is
lost, if a step is not DONE by its last attempt, or if two workers had the same attempt, or a record at the same time.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gwclient.client import GlitchflowClient, Retry
from gwwire.records import Record, RecordContent, StepState
from scripts.trio import ServiceDied, Trio, free_ports
from tools.torture import Violation

KIND, STEP = "torture", "work"
_LEASE = 3.0
_LISTENERS = 16
_WRITERS = 8
_DRAIN_SECONDS = 120
_SERVICES = ("databuffer", "glitchflow_api")
#: The file of an attempt has its beginning and end; it must not exist, because each attempt is given to one worker.
_PROGRAM = """set -C
file="$OUT/${GLITCHFLOW_RECORD#torture/}.$GLITCHFLOW_ATTEMPT"
echo "$PPID $(date +%s.%N)" >"$file" || exit 9
sleep "$PAUSE"
date +%s.%N >>"$file"
echo "{\\"attempt\\": $GLITCHFLOW_ATTEMPT, \\"listener\\": $PPID}"
"""


@dataclass(frozen=True)
class Plan:
    """The amount of work, the time for which it is disturbed, and the time of each record, in s."""

    records: int = 2000
    seconds: float = 120
    listeners: int = _LISTENERS
    pause: float = 0.5


@dataclass(frozen=True)
class Attempt:
    """The file of an attempt: its listener, and its times in s; one that was killed has no end."""

    number: int
    listener: int
    began: float
    ended: float | None


class StepTorture:
    """One run under `home`; a broken guarantee raises Violation. `kills` counts the kills by name."""

    def __init__(self, home: Path, seed: int, plan: Plan) -> None:
        self.plan = plan
        self.kills: Counter[str] = Counter()
        self.attempts: dict[str, list[Attempt]] = {}
        self._random = random.Random(seed)  # noqa: S311 (reproducible, not secret)
        self._killed: set[int] = set()
        self._report_of: dict[int, Path] = {}
        self._files, self._reports = home / "attempts", home / "reports"
        for folder in (home, self._files, self._reports):
            folder.mkdir(exist_ok=True)

    def start_listener(self, arguments: Sequence[str], environment: Mapping[str, str], report: Path) -> Any:
        """Start `gwclient` with these arguments, its output in a file."""
        with report.open("ab") as output:
            command = [sys.executable, "-m", "gwclient", *arguments]
            return subprocess.Popen(command, env=environment, stdout=output, stderr=output)

    async def run(self, trio: Trio) -> None:
        """Write the records, kill at random, wait until all is done, and check it."""
        self._trio = trio
        self._listeners = [self._launch() for _ in range(self.plan.listeners)]
        try:
            retry = Retry(tries=100, first=0.05, longest=0.5)
            async with GlitchflowClient(trio.url, retry=retry, timeout=10) as client:
                stop = time.monotonic() + self.plan.seconds
                await asyncio.gather(self._write_all(client), self._kill_until(stop))
                trio.wait_until_ready()
                await self._drain(client)
                await self._stop_listeners()
                self._check([record async for record in client.records.find(kind=KIND, page=1000)])
        finally:
            for process in self._listeners:
                process.kill()
                process.wait()

    def _launch(self) -> Any:
        report = self._reports / f"{len(list(self._reports.iterdir()))}.ndjson"
        arguments = ["listen", STEP, "--kind", KIND, "--lease", f"{_LEASE}", "--attempts", "100", "--json"]
        environment = {"SRV": self._trio.url, "OUT": str(self._files), "PAUSE": f"{self.plan.pause}"}
        listener = self.start_listener([*arguments, "--", "sh", "-c", _PROGRAM], os.environ | environment, report)
        self._report_of[listener.pid] = report
        return listener

    async def _write_all(self, client: GlitchflowClient) -> None:
        """Write the records during the first half of the time."""
        names = iter(range(self.plan.records))
        pause = self.plan.seconds / 2 * _WRITERS / self.plan.records

        async def write() -> None:
            for number in names:
                await client.records.put(f"{KIND}/{number}", RecordContent(conditions={"n": number}))
                await asyncio.sleep(pause)

        await asyncio.gather(*(write() for _ in range(_WRITERS)))

    async def _kill_until(self, stop: float) -> None:
        while time.monotonic() < stop:
            await asyncio.sleep(self._random.uniform(0.2, 1.8))
            if self._random.random() < 2 / 3:
                which = self._random.randrange(len(self._listeners))
                victim = self._listeners[which]
                self._killed.add(victim.pid)
                _kill(victim)
                self._listeners[which] = self._launch()
                self.kills["listener"] += 1
            else:
                name = self._random.choice(_SERVICES)
                _kill(self._trio.processes[name])
                await asyncio.sleep(self._random.uniform(0, 1))
                self._trio.launch(name)
                self.kills[name] += 1

    async def _drain(self, client: GlitchflowClient) -> None:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while sum(step.done for step in await client.records.steps() if step.name == STEP) < self.plan.records:
                self._trio.check()
                await asyncio.sleep(0.2)

    async def _stop_listeners(self) -> None:
        """Stop the listeners after each has said for what it listens: before that, the signal would kill it."""
        async with asyncio.timeout(_DRAIN_SECONDS):
            for process in self._listeners:
                while not self._report_of[process.pid].stat().st_size:  # noqa: ASYNC110 (it is another process)
                    await asyncio.sleep(0.1)
        for process in self._listeners:
            process.send_signal(signal.SIGTERM)
        codes = [await asyncio.to_thread(process.wait, 60) for process in self._listeners]
        _require(not any(codes), f"listeners ended with {codes}")

    # ---- the guarantees

    def _check(self, records: Sequence[Record]) -> None:
        names = sorted(record.id for record in records)
        _require(names == sorted(f"{KIND}/{number}" for number in range(self.plan.records)), "records are lost")
        reported = self._reported_done()
        for record in records:
            [step] = record.steps
            files = self.attempts[record.id] = self._attempts_on(record.id)
            _require(step.state is StepState.DONE, f"{record.id} is {step.state}")
            last = next((each for each in files if each.number == step.attempt), None)
            _require(last and last.ended, f"{record.id} is DONE by attempt {step.attempt}, which wrote no file")
            expected = last and {"attempt": last.number, "listener": last.listener}
            _require(step.result == expected, f"{record.id} has the result {step.result}, not {expected}")
            _require(files[-1] == last, f"{record.id} was given to a worker after it was DONE")
            done = set(reported.get(record.id, []))
            _require(done <= {step.attempt}, f"{record.id}: attempts {done} were reported as DONE")
            for earlier, later in itertools.pairwise(files):
                self._check_fence(record.id, earlier, later)

    def _check_fence(self, record: str, earlier: Attempt, later: Attempt) -> None:
        """Require that an attempt began after the lease of the one before had ended, unless that gave it back."""
        end = earlier.ended if earlier.ended and earlier.listener not in self._killed else earlier.began
        _require(later.began >= end - 0.05, f"{record}: {later} began before {earlier} was over")

    def _reported_done(self) -> dict[str, list[int]]:
        """Return the attempts that listeners reported as DONE, by record."""
        reported: dict[str, list[int]] = {}
        for report in self._reports.iterdir():
            for line in report.read_bytes().splitlines():
                with contextlib.suppress(ValueError):  # the last line of a killed one, or a warning
                    event = json.loads(line)
                    if event["state"] == "DONE":
                        reported.setdefault(event["record"], []).append(event["attempt"])
        return reported

    def _attempts_on(self, record: str) -> list[Attempt]:
        found = []
        for path in self._files.glob(f"{record.partition('/')[2]}.*"):
            words = path.read_text().split()
            if len(words) > 1:
                end = float(words[2]) if len(words) > 2 else None  # noqa: PLR2004 (listener, beginning, end)
                found.append(Attempt(int(path.suffix[1:]), int(words[0]), float(words[1]), end))
        return sorted(found, key=lambda attempt: attempt.number)


def _require(holds: object, complaint: str) -> None:
    if not holds:
        raise Violation(complaint)


def _kill(process: Any) -> None:
    process.kill()
    process.wait()


def main() -> int:
    """Run in a temporary folder, which is kept if a guarantee is broken."""
    parser = argparse.ArgumentParser("python -m tools.torture_steps", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=120, help="how long to kill (default: 120)")
    parser.add_argument("--seed", type=int, help="the seed of an earlier run (default: a new one)")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    home = Path(tempfile.mkdtemp(prefix="torture-steps-"))
    print(f"{options.seconds:.0f} s with seed {seed} in {home}", flush=True)
    torture = StepTorture(home, seed, Plan(seconds=options.seconds))
    began = time.monotonic()
    try:
        with (home / "services.log").open("ab") as log, Trio(home, free_ports(), output=log) as trio:
            asyncio.run(torture.run(trio))
    except (Violation, ExceptionGroup, TimeoutError, ServiceDied) as error:
        sys.stderr.write(f"failed with seed {seed}: {type(error).__name__}: {error}\nthe data are in {home}\n")
        return 1
    shutil.rmtree(home)
    tried = sum(map(len, torture.attempts.values()))
    kills = ", ".join(f"{number} x {name}" for name, number in sorted(torture.kills.items()))
    print(
        f"{len(torture.attempts)} records DONE in {time.monotonic() - began:.0f} s by {tried} attempts, with kills of "
        f"{kills}; none lost, each DONE once by its last attempt, no attempt given to two workers"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
