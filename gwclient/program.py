"""Run a program on a record: the record on its standard input, the result on its standard output."""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec

from gwclient.listen import Job, JobFailed
from gwwire.records import MOST_BYTES

#: s between SIGTERM and SIGKILL.
_GRACE = 5.0
_PART = 65536
#: Bytes of standard error that are kept.
_TAIL = 4000


async def run_program(command: Sequence[str], job: Job, step: str, environment: Mapping[str, str]) -> object:
    """Return the JSON that a program printed, or None if it printed nothing.

    Raise JobFailed if it cannot be started, ends with another exit code than 0, or prints something else. A
    cancellation ends the program and its children, which are a process group of their own.
    """
    variables = {
        "GLITCHFLOW_RECORD": job.record.id,
        "GLITCHFLOW_STEP": step,
        "GLITCHFLOW_ATTEMPT": str(job.attempt),
    }
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True, env={**environment, **variables}
        )
    except OSError as error:
        raise JobFailed(f"{command[0]} cannot be started: {error.strerror}") from error
    try:
        _, out, errors, code = await asyncio.gather(
            _write(process.stdin, msgspec.json.encode(job.record)),
            _read(process.stdout, first=MOST_BYTES + 1),
            _read(process.stderr, last=_TAIL),
            process.wait(),
        )
    except asyncio.CancelledError:
        await asyncio.shield(_end(process))
        raise
    if code:
        ending = f"exit code {code}" if code > 0 else f"ended by signal {signal.Signals(-code).name}"
        raise JobFailed("\n".join([ending, *errors.decode(errors="replace").splitlines()]))
    return _decode(out)


def _decode(out: bytes) -> object:
    if len(out) > MOST_BYTES:
        raise JobFailed(f"more than {MOST_BYTES} bytes on standard output; a result has at most that")
    if not out.strip():
        return None
    try:
        return msgspec.json.decode(out)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise JobFailed(f"standard output is not JSON: {error}") from error


async def _write(stream: asyncio.StreamWriter | None, text: bytes) -> None:
    if stream is None:
        return
    with suppress(ConnectionError):  # the program need not read it
        stream.write(text)
        await stream.drain()
    stream.close()


async def _read(stream: asyncio.StreamReader | None, *, first: int | None = None, last: int = 0) -> bytes:
    """Read to the end, in bounded memory, and return the `first` or `last` bytes."""
    kept = b""
    while stream and (part := await stream.read(_PART)):
        kept = (kept + part)[:first] if first else (kept + part)[-last:]
    return kept


async def _end(process: asyncio.subprocess.Process) -> None:
    for number, grace in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await process.wait()
                return
