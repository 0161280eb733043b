"""Run a program on a record: the record on its standard input, the result on its standard output."""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from gwclient.listen import Job, JobFailed
from gwwire.decoding import parse_value
from gwwire.problems import ProblemError
from gwwire.records import MOST_BYTES

#: s between SIGTERM and SIGKILL.
_GRACE = 5.0
#: s between two looks whether a program has ended: `wait` may wait for its children too, which have its output.
_LOOK = 0.05
_PART = 65536
#: Bytes of standard error that are kept.
_TAIL = 4000


async def run_program(command: Sequence[str], job: Job, step: str, environment: Mapping[str, str]) -> object:
    """Return the JSON that a program printed, or None if it printed nothing.

    Raise JobFailed if it cannot be started, ends with another exit code than 0, or prints something else. Its children,
    which are a process group of their own, end with it; a cancellation ends all.
    """
    variables = {
        "GLITCHFLOW_RECORD": job.record.id,
        "GLITCHFLOW_STEP": step,
        "GLITCHFLOW_ATTEMPT": str(job.attempt),
    }
    process = await _start(command, {**environment, **variables})
    talk = asyncio.gather(
        _write(process.stdin, msgspec.json.encode(job.record)),
        _read(process.stdout, first=MOST_BYTES + 1),
        _read(process.stderr, last=_TAIL),
    )
    try:
        while process.returncode is None and not talk.done():
            await asyncio.wait([talk], timeout=_LOOK)
        await asyncio.wait([talk], timeout=_GRACE)
        if not talk.done():
            raise JobFailed("it has ended, but a process that it started keeps its output open")
        code = await process.wait()
    finally:
        talk.cancel()
        await asyncio.shield(asyncio.gather(talk, _end(process), return_exceptions=True))
        process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 (a process that is left may keep the pipes open)
    _, out, errors = talk.result()
    if code:
        ending = f"exit code {code}" if code > 0 else f"ended by signal {signal.Signals(-code).name}"
        raise JobFailed("\n".join([ending, *errors.decode(errors="replace").splitlines()]))
    return _decode(out)


async def _start(command: Sequence[str], environment: Mapping[str, str]) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True, env=environment
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:  # what it starts meanwhile has to end too
        with suppress(OSError):
            await _end(await starting)
        raise
    except OSError as error:
        raise JobFailed(f"{command[0]} cannot be started: {error.strerror}") from error


def _decode(out: bytes) -> Any:
    if len(out) > MOST_BYTES:
        raise JobFailed(f"more than {MOST_BYTES} bytes on standard output; a result has at most that")
    if not out.strip():
        return None
    try:
        return parse_value(out)
    except ProblemError as error:
        raise JobFailed(f"standard output: {error.detail}") from error
    except msgspec.DecodeError as error:
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
    """End a program and what it has started; SIGKILL is for children too that ignore SIGTERM."""
    if process.returncode is None:
        _signal(process, signal.SIGTERM)
        await _wait_until_ended(process)
    _signal(process, signal.SIGKILL)
    await _wait_until_ended(process)  # or its end would be left to the garbage collection


async def _wait_until_ended(process: asyncio.subprocess.Process) -> None:
    """Wait until a program has ended, for the grace at most."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_GRACE):
            while process.returncode is None:  # noqa: ASYNC110 (see _LOOK)
                await asyncio.sleep(_LOOK)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
