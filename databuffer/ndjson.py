"""Many segments in one request: a line each, stored as they come, answered line by line in the same order."""

import asyncio
from collections.abc import AsyncIterator

import msgspec

from databuffer.buffer import Buffer, Stored
from databuffer.errors import BufferFrozen
from gwservice.asgi import TooLarge
from gwwire.datastore import FROZEN_TEXT
from gwwire.problems import ProblemError, encode_problem
from gwwire.public import StreamAnswer

#: Segments of one request that are on their way at a time: enough to fill a group, too few to fill the queue.
_IN_FLIGHT = 64

_FROZEN = msgspec.json.encode(StreamAnswer("FROZEN", FROZEN_TEXT)) + b"\n"


async def store_lines(
    buffer: Buffer, chunks: AsyncIterator[bytes], *, key: str | None, max_line: int, group: str | None = None
) -> AsyncIterator[bytes]:
    """Store a segment a line, and give the answers as lines.

    The request is read on while answers wait to be fetched: a client that sends everything before it reads must not
    be waited for.

    Args:
        buffer: where to.
        chunks: the body, in pieces of any size.
        key: the request's Idempotency-Key; line i has the key `KEY/i`.
        max_line: bytes of the longest line that is taken.
        group: whose quota the segments count for.

    """
    answers: asyncio.Queue[asyncio.Future[Stored] | ProblemError | None] = asyncio.Queue()
    in_flight = asyncio.Semaphore(_IN_FLIGHT)

    def note_done(answer: asyncio.Future[Stored]) -> None:
        in_flight.release()
        # Asked for in any case: where nobody fetches the answer any more, it is no news for the log.
        if not answer.cancelled() and (error := answer.exception()):
            _forget_way(error)

    async def read() -> None:
        try:
            index = 0
            async for line in split_lines(chunks, max_line):
                await in_flight.acquire()
                answer = await _accept(buffer, line, None if key is None else f"{key}/{index}", group)
                if isinstance(answer, ProblemError):
                    in_flight.release()
                else:
                    answer.add_done_callback(note_done)
                answers.put_nowait(answer)
                index += 1
        finally:
            answers.put_nowait(None)

    reader = asyncio.create_task(read())
    try:
        while (answer := await answers.get()) is not None:
            yield await _tell(answer)
        await reader
    finally:
        reader.cancel()


async def split_lines(chunks: AsyncIterator[bytes], max_line: int) -> AsyncIterator[bytes | TooLarge]:
    """Give the lines of a body without their ends, empty ones left out; a line that is too long is told instead."""
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            parts.append(chunk[start:end])
            if size + end - start > max_line:
                yield _too_large(max_line)
            elif line := b"".join(parts):
                yield line
            parts, size, start = [], 0, end + 1
        size += len(chunk) - start
        # What is too long is not kept; its end is still waited for.
        if size <= max_line:
            parts.append(chunk[start:])  # not a new list: a line may come in very many pieces
        else:
            parts.clear()
    if size > max_line:
        yield _too_large(max_line)
    elif size:
        yield b"".join(parts)


async def _accept(
    buffer: Buffer, line: bytes | TooLarge, key: str | None, group: str | None
) -> asyncio.Future[Stored] | ProblemError:
    if isinstance(line, TooLarge):
        return line
    try:
        return await buffer.accept(line, key, group)
    except ProblemError as error:
        _forget_way(error)
        return error


def _forget_way(error: BaseException) -> None:
    """Keep what is wrong, and not the frames it came through: they hold the line, until the answer is fetched."""
    error.__traceback__ = error.__context__ = None


async def _tell(answer: asyncio.Future[Stored] | ProblemError) -> bytes:
    try:
        if isinstance(answer, ProblemError):
            raise answer
        stored = await answer
    except BufferFrozen:
        return _FROZEN
    except ProblemError as error:
        return encode_problem(error.problem()) + b"\n"
    body = f"Written {stored.name} for {stored.size} bytes"
    return msgspec.json.encode(StreamAnswer("CREATED", body)) + b"\n"


def _too_large(max_line: int) -> TooLarge:
    return TooLarge(f"the line is larger than {max_line} bytes (MAX_BODY)")
