"""Try in another process whether a file can be read: the libraries for HDF5 and frames may crash, or never return.

`python -m gwclient.sources.probe SECONDS` reads the files named on its standard input, and answers each with a line.
"""

import atexit
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from gwclient.errors import InvalidSource
from gwclient.sources.recording import Recording, extension

#: Reads a file; its arguments are the path, the channels, and a function that is called with failures.
Read = Callable[[Path, Sequence[str], Callable[[str], object]], list[Recording]]
#: Samples of a channel that are tried; what follows is far from the structures of the file.
_MOST = 2**27


class Probe:
    """A process that reads files; it is started with the first one, and again after a file that has ended it.

    It gives a file up after `seconds` of CPU time for a channel.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    def check(self, path: Path, channels: Sequence[str]) -> None:
        """Raise InvalidSource if reading a file ends the process; other errors are left to the reader."""
        process = self._process or self._start()
        if process is None or process.stdin is None or process.stdout is None:
            return
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps([os.path.abspath(path), list(channels)]).encode() + b"\n")  # noqa: PTH100 (keeps links)
            process.stdin.flush()
            if process.stdout.readline():
                return
        status = self.close()
        if status == -signal.SIGPROF:
            raise InvalidSource(f"{path} is damaged: reading it does not end")
        if status == -signal.SIGKILL:
            raise InvalidSource(f"{path} cannot be read: the system ended the process, as it does if memory is short")
        ended = signal.Signals(-status).name if status < 0 else f"status {status}"
        raise InvalidSource(f"{path} is damaged: reading it ends the process ({ended})")

    def close(self) -> int:
        """End the process; return its status."""
        if self._process is None:
            return 0
        process, self._process = self._process, None
        process.communicate()
        return process.returncode

    def _start(self) -> subprocess.Popen[bytes] | None:
        command = [sys.executable, "-m", "gwclient.sources.probe", str(self._seconds)]
        with suppress(OSError):
            self._process = subprocess.Popen(  # noqa: S603 (our own program)
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C does not reach it
            )  # fmt: skip
        return self._process


#: Used for all files; the process ends when the standard input is closed.
PROBE = Probe()
atexit.register(PROBE.close)


def main() -> None:
    """Read the files named on standard input."""
    from gwclient.sources.file import FRAME_SUFFIX  # noqa: PLC0415 (it imports this module)
    from gwclient.sources.frames import read_frames  # noqa: PLC0415 (the same)
    from gwclient.sources.hdf5 import read_hdf5  # noqa: PLC0415 (the same)

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seconds = float(sys.argv[1])
    for line in sys.stdin.buffer:
        path, channels = json.loads(line)
        read: Read = read_frames if extension(Path(path)) == FRAME_SUFFIX else read_hdf5
        with suppress(Exception):
            _read_all(read, Path(path), channels, seconds)
        _limit(0)
        sys.stdout.buffer.write(b"read\n")
        sys.stdout.buffer.flush()


def _read_all(read: Read, path: Path, channels: Sequence[str], seconds: float) -> None:
    _limit(seconds)
    for recording in read(path, channels, lambda _: None):
        _limit(seconds)
        recording.read(0, min(recording.count, _MOST))


def _limit(seconds: float) -> None:
    """End the process after so much CPU time, also in a library; 0: no limit."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


if __name__ == "__main__":
    main()
