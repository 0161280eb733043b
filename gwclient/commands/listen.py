"""`gwclient listen`: run a program on every record that waits for a step."""

import asyncio
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import click
import msgspec

from gwclient.client import GlitchflowClient
from gwclient.commands.options import Connection, StrictCommand, name, parse_query, seconds, with_connection, with_query
from gwclient.commands.records import one_line
from gwclient.errors import INTERRUPTED, GatewayError
from gwclient.listen import Job, JobState, Listening, reason_of
from gwclient.program import run_program
from gwwire.records import BATCH_STEPS, LONGEST_LEASE, is_own

#: s between two notices of requests that are repeated.
_PAUSE = 5.0


@click.command(cls=StrictCommand)
@click.argument("step", type=name)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "--after", type=name, multiple=True, help="A step that has to be done before; may be given several times."
)
@click.option(
    "--before", type=name, multiple=True, help="A step that must not be done yet; may be given several times."
)
@click.option("--kind", type=name, help="Only records of this kind, the first part of the id.")
@click.option("--run", type=name, help="Only records of this run.")
@with_query
@click.option("--since", type=click.IntRange(0), default=0, help="Only records that changed after this seq.")
@click.option(
    "--attempts", type=click.IntRange(1, 100), default=5, show_default=True, help="Failures after which it is FAILED."
)
@click.option(
    "--concurrency", type=click.IntRange(1, 100), default=1, show_default=True, help="Records at the same time."
)
@click.option(
    "--lease",
    type=seconds(1, LONGEST_LEASE),
    default=600.0,
    show_default=True,
    help="Time after which another listener gets the record if this one is gone.",
)
@click.option("--worker", type=name, help="The name of this listener.  [default: HOST-PID]")
@with_connection
def listen(  # noqa: PLR0913, PLR0917 (one for each option)
    step: str,
    command: tuple[str, ...],
    after: tuple[str, ...],
    before: tuple[str, ...],
    kind: str | None,
    run: str | None,
    query: tuple[str, ...],
    since: int,
    attempts: int,
    concurrency: int,
    lease: float,
    worker: str | None,
    connection: Connection,
) -> None:
    """Run a program on every record that waits for a step.

    The program reads the record as JSON from standard input, and prints the result as JSON, or nothing. Exit code 0
    means that the step is DONE; otherwise it FAILED, with the end of standard error as the reason, and is tried again
    later. GLITCHFLOW_RECORD (id), GLITCHFLOW_STEP and GLITCHFLOW_ATTEMPT are in its environment.

    It runs until Ctrl-C or SIGTERM, and then finishes the present records (exit code 0). A second signal ends the
    programs and gives the records back (exit code 130). With --json, each beginning and end is a JSON object a line.

    \b
    Examples:
      gwclient listen move_to_sps --kind file -- ./move.sh
      gwclient listen fit --after move_to_sps --query 'temperature<0.02' --concurrency 4 -- python fit.py
      gwclient listen plot --after sealed --kind batch --query detector=L1 -- ./plot.sh
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    if shutil.which(command[0]) is None:
        raise click.UsageError(f"{command[0]} is not a program that can be started")
    wanted = parse_query(query, run=run)
    shown = _Shown(step, as_json=connection.as_json)

    async def work() -> None:
        async with (
            connection.client(shown.retrying) as client,
            client.listen(
                step, worker=worker, after=list(after), before=list(before), kind=kind, query=wanted, since=since,
                attempts=attempts, lease=lease,
            ) as listening,
        ):  # fmt: skip
            listening.on_change = shown.changed
            _stop_on_signal(listening, shown)
            handle = partial(run_program, command, step=step, environment=os.environ)
            shown.say(f"listening for {step}" + (f" after {', '.join(after)}" if after else ""))
            warning = asyncio.create_task(_warn_of_unknown(client, step, (*after, *before), shown))
            try:
                await listening.run(handle, concurrency=concurrency)
            finally:
                warning.cancel()

    try:
        asyncio.run(work())
    except asyncio.CancelledError:
        shown.clear()
        click.echo("gwclient: interrupted; the records are given back", err=True)
        sys.exit(INTERRUPTED)
    finally:
        shown.clear()


async def _warn_of_unknown(client: GlitchflowClient, step: str, others: Sequence[str], shown: "_Shown") -> None:
    """Warn of the other steps that nobody has declared, if the credential allows to list steps."""
    by_listeners = [each for each in others if each not in BATCH_STEPS and not is_own(each)]
    if not by_listeners:
        return
    with suppress(GatewayError):
        known = BATCH_STEPS | {each.name for each in await client.records.steps()}
        for each in by_listeners:
            if each not in known:
                there = ", ".join(sorted(known - {step}))
                shown.say(f"warning: nobody has declared the step {each} so far; the others are {there}")


def _stop_on_signal(listening: Listening, shown: "_Shown") -> None:
    """Finish the present work at Ctrl-C or SIGTERM, and cancel it at a second signal."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def interrupt(*, again: bool) -> None:
        if again and task:
            task.cancel()
            return
        listening.stop()
        shown.say("stopping when the present records are finished; a second signal gives them back")
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, partial(interrupt, again=True))

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, partial(interrupt, again=False))


class _Shown:
    """Shows jobs: with JSON a line for each change; else a line for each end, and a line of counts on a terminal."""

    def __init__(self, step: str, *, as_json: bool) -> None:
        self._step, self._as_json = step, as_json
        self._live = sys.stderr.isatty() and not as_json
        self._states: Counter[JobState] = Counter()
        self._noticed = -_PAUSE

    def changed(self, job: Job) -> None:
        """Show a job that began or ended."""
        self._states[job.state] += 1
        reason = reason_of(job.error) if job.error else None
        running = job.state is JobState.RUNNING
        if self._as_json:
            line = {"step": self._step, "record": job.record.id, "attempt": job.attempt, "state": job.state}
            if not running:
                line |= {"seconds": job.seconds, "result": job.result, "reason": reason}
            click.echo(msgspec.json.encode(line))
            sys.stdout.flush()
        elif not running:
            self._states[JobState.RUNNING] -= 1
            why = f": {one_line(reason)}" if reason else ""
            self.clear()
            click.echo(f"{job.record.id}  {job.state}  attempt {job.attempt}, {job.seconds:.1f} s{why}")
        self._count()

    def retrying(self, reason: str, delay: float) -> None:
        """Show that a request is repeated, unless another one was shown just before."""
        now = time.monotonic()
        if now - self._noticed >= _PAUSE:
            self._noticed = now
            self.say(f"{reason}; trying again in {delay:.1f} s")

    def say(self, line: str) -> None:
        """Show a line on standard error."""
        self.clear()
        click.echo(line, err=True)
        self._count()

    def clear(self) -> None:
        """Remove the line of counts."""
        if self._live:
            click.echo("\r\x1b[K", nl=False, err=True)

    def _count(self) -> None:
        if self._live:
            counts = ", ".join(f"{number:,} {state.lower()}" for state, number in self._states.items())
            click.echo(f"\r\x1b[K{self._step}: {counts}", nl=False, err=True)
