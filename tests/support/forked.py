"""Programs of this project as processes whose imports are done.

Most of the time that a program takes to start is spent on imports. A process of this module is forked from one that has
made them, and then runs a module as `python -m` does. In all else it is a process like any other.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import chdir
from multiprocessing.reduction import DupFd
from pathlib import Path
from subprocess import CompletedProcess, Popen, TimeoutExpired
from typing import IO, Any, NoReturn, Self, cast

from scripts.trio import Service, Trio

_ROOT = Path(__file__).parents[2]
_CONTEXT = multiprocessing.get_context("forkserver")
_SERVICES = ["databuffer.__main__", "glitchflow_api.__main__", "dslogic.app", "dslogic.worker", "gunicorn.app.wsgiapp"]
_CONTEXT.set_forkserver_preload([*_SERVICES, "preproc.cli", "gwclient.cli", "tests.support.preloaded"])


class Forked:
    """A running program, with what the tests use of `subprocess.Popen`.

    Args:
        module: the module to run, with the arguments of its command line.
        environment: all variables of its environment.
        output: where its output and errors go, or None for the pipes `stdout` and `stderr`.

    """

    def __init__(self, module: Sequence[str], environment: Mapping[str, str], output: IO[bytes] | None = None) -> None:
        pipes = [] if output else [os.pipe(), os.pipe()]
        readers: list[IO[str] | None] = [os.fdopen(reader) for reader, _ in pipes]
        self.stdout, self.stderr = readers or [None, None]
        ends = [output.fileno()] * 2 if output else [end for _, end in pipes]
        self.args = module
        self._process = _CONTEXT.Process(target=_run, args=(list(module), dict(environment), _Output(ends)))
        with chdir(_ROOT):  # the first start begins the process that is forked; gunicorn keeps the folder of its import
            self._process.start()
        for _, end in pipes:
            os.close(end)

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutExpired(list(self.args), timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return the rest of what it writes to the pipes, at most 64 KiB of errors, once it has ended."""
        assert self.stdout
        assert self.stderr
        with self.stdout, self.stderr:
            seen = self.stdout.read(), self.stderr.read()
        self.wait(timeout)
        return seen

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
        for pipe in (self.stdout, self.stderr):
            if pipe:
                pipe.close()


def run_forked(module: Sequence[str], environment: Mapping[str, str]) -> CompletedProcess[str]:
    """Run a module to its end, as `subprocess.run` does a command, with nothing to read."""
    process = Forked(module, environment)
    out, errors = process.communicate()
    return CompletedProcess(list(module), process.wait(), out, errors)


class ForkedTrio(Trio):
    """The trio as forked processes."""

    def start_process(self, service: Service, environment: Mapping[str, str]) -> Popen[bytes]:
        _python, _m, *module = service.command
        return cast("Popen[bytes]", Forked(module, environment, self.output))

    def kill(self) -> None:
        """Kill the services and their workers: a test that is over need not wait until each has stopped."""
        running = [process for process in self.processes.values() if process.poll() is None]
        for process in running:
            os.killpg(process.pid, signal.SIGKILL)  # `_run` has made it a session
        for process in running:
            process.wait()


class _Output:
    """File descriptors on their way to the child."""

    def __init__(self, ends: Sequence[int]) -> None:
        self._ends = ends

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, tuple(map(DupFd, self._ends))


def _received(*ends: Any) -> list[int]:
    return [end.detach() for end in ends]


def _run(module: list[str], environment: dict[str, str], ends: list[int]) -> None:
    """Become what `python -m MODULE ARGUMENT...` would be."""
    for end, number in zip(ends, (1, 2), strict=True):
        os.dup2(end, number)
    for end in set(ends):
        os.close(end)
    sys.stdout = os.fdopen(1, "w")
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace")
    os.setsid()
    os.chdir(_ROOT)
    os.environ.clear()
    os.environ.update(environment)
    os.execv = _run_instead
    try:
        _run_module(module)
    finally:
        atexit._run_exitfuncs()  # noqa: SLF001 (a forked child would end without)
        sys.stdout.flush()


def _run_instead(_python: Any, command: Any) -> NoReturn:
    """Run the module that dslogic would replace this process by."""
    _run_module(command[2:])
    sys.exit()


def _run_module(module: list[str]) -> None:
    sys.argv[:] = module
    sys.modules.pop(f"{module[0]}.__main__", None)
    runpy.run_module(module[0], run_name="__main__", alter_sys=True)
