"""`make demo`: the whole workflow, in a fresh home and on free ports.

Strain is pushed through three real services, the batch is frozen, turned into spectrograms, and archived. `KEEP=1`
leaves the services running afterwards, until Ctrl-C.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from scripts.trio import ServiceDied, Trio, free_ports

#: Size of a complete batch, MB.
_MAX_SIZE = 5
_PROGRAMS = Path(sys.executable).parent


class DemoFailed(Exception):
    """A command of the demo failed; the message names it."""


class DemoRun:
    """Prints the steps of the demo, runs their commands, and shows their output."""

    def __init__(self, gateway: str, state: Path) -> None:
        self._environment = {**os.environ, "SRV": gateway, "XDG_STATE_HOME": str(state)}
        self._began = time.monotonic()

    def announce(self, text: str) -> None:
        """Print what happens next, and the time since the start."""
        print(f"{time.monotonic() - self._began:5.1f} s  {text}", flush=True)

    def run(self, *command: str, expect: int = 0, lines: int | None = None) -> None:
        """Run a command as a user would type it, and print the first `lines` of its output, or all.

        Raises:
            DemoFailed: it did not exit with the status `expect`.

        """
        print(f"         $ {' '.join(command)}", flush=True)
        program, *arguments = command
        done = subprocess.run(
            [str(_PROGRAMS / program), *arguments],
            check=False,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said = done.stdout.splitlines()
        ended_well = done.returncode == expect
        for line in said[:lines] if ended_well else said:
            print(f"           {line}", flush=True)
        if not ended_well:
            raise DemoFailed(f"{' '.join(command)} ended with status {done.returncode}, not {expect}")


def run_demo(trio: Trio) -> None:
    """Push, freeze, preprocess, archive.

    Raises:
        DemoFailed: a command failed.

    """
    demo = DemoRun(trio.url, trio.home / "state")
    outcome = trio.home / "dataset"
    demo.announce(f"The trio runs: gateway {trio.url}, a batch is complete at {_MAX_SIZE} MB (MAX_SIZE).")
    demo.announce("Push 24 s of simulated strain of two detectors, one segment a second.")
    demo.run("gwclient", "simulate", "--detectors", "H1,L1", "--seconds", "24", "--seed", "1")
    demo.run("gwclient", "stats")
    demo.announce("Freeze the batch for training: it is still too small. Push 8 s more and try again.")
    demo.run("gwclient", "train", "--user", "alice", "--token", "demo")
    demo.run("gwclient", "simulate", "--seconds", "8", "--t0", "1400000024")
    demo.run("gwclient", "train", "--user", "alice", "--token", "demo")
    demo.announce("The batch is frozen: a push is refused, and the client exits with status 1.")
    demo.run("gwclient", "simulate", "--detectors", "L1", "--seconds", "1", "--t0", "1400000032", expect=1)
    demo.announce("Turn the frozen batch into spectrograms.")
    batch = str(trio.home / "datavar" / "data")
    demo.run("python", "-m", "preproc", "run", "--data", batch, "--out", str(outcome), lines=6)
    demo.announce("Archive the batch; the datastore accepts data again.")
    demo.run("gwclient", "clean")
    demo.run("gwclient", "desc")
    (archive,) = (trio.home / "datavar").glob("2*")
    shutil.rmtree(trio.home / "state", ignore_errors=True)  # the cursors for a gateway that ends now
    demo.announce("Done. The results:")
    print(f"         archive   {archive}")
    print(f"         dataset   {outcome / 'dataset.h5'}")
    print(f"         picture   {outcome / 'spectrograms.png'}")
    print("         Real data, with internet access: gwclient push --event GW150914", flush=True)


def main() -> int:
    """Run the demo once; return 0 if every step succeeded."""
    print("         Start the services, push, freeze, make spectrograms, archive: about 20 s.", flush=True)
    home = Path(tempfile.mkdtemp(prefix="glitchflow-demo-"))
    with (home / "services.log").open("ab") as output:
        try:
            with Trio(home, free_ports(), {"MAX_SIZE": f"{_MAX_SIZE}MB"}, output=output) as trio:
                run_demo(trio)
                if os.environ.get("KEEP"):
                    print(f"         Still running (KEEP={os.environ['KEEP']}): {trio.url}/dspage, Ctrl-C stops it.")
                    keep_running(trio)
        except (DemoFailed, ServiceDied) as error:
            print(f"demo: {error}; the services' log is {home / 'services.log'}", file=sys.stderr)
            return 1
    return 0


def keep_running(trio: Trio) -> None:
    """Leave the services running until Ctrl-C, or until one ends."""
    with suppress(KeyboardInterrupt):
        while True:
            trio.check()
            time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
