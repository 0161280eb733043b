"""Streams of segments in one request: one per line, answered line by line in the same order."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator

import msgspec

from databuffer.errors import BufferFrozen
from databuffer.ingest.incoming import Incoming
from databuffer.ingest.keys import LineKeys
from databuffer.ingest.pipeline import Ingest
from gwwire.datastore import FROZEN_TEXT
from gwwire.problems import ProblemCode, ProblemError, encode_problem
from gwwire.public import StreamAnswer

#: Unanswered segments of one request: enough to fill a group, too few to fill the queue.
_IN_FLIGHT = 64
#: Answers of one request that wait to be sent; at this number the request is not read further.
_MOST_UNREAD = 4096
_BLANK = (b"", b"\r")

_FROZEN = msgspec.json.encode(StreamAnswer("FROZEN", FROZEN_TEXT)) + b"\n"


class LineTooLarge(ProblemError, code=ProblemCode.TOO_LARGE):
    """The line is larger than MAX_BODY."""


async def store_lines(
    ingest: Ingest, chunks: AsyncIterator[bytes], *, keys: LineKeys, max_line: int, group: str | None = None
) -> AsyncGenerator[bytes]:
    """Store one segment per line; yield one answer line per line, several together if they are ready.

    The request is read while up to _MOST_UNREAD answers wait to be sent, because a client may send much before it
    reads. A line has at most `max_line` bytes.
    """
    answers: deque[Incoming | ProblemError] = deque()
    news = asyncio.Event()
    in_flight, unread = asyncio.Semaphore(_IN_FLIGHT), asyncio.Semaphore(_MOST_UNREAD)

    async def read() -> None:
        try:
            index = 0
            async for line in split_lines(chunks, max_line):
                await unread.acquire()
                await in_flight.acquire()
                answer = await _submit(ingest, line, keys, index, group)
                if isinstance(answer, Incoming):
                    answer.answered.add_done_callback(lambda _: in_flight.release())
                else:
                    in_flight.release()
                answers.append(answer)
                news.set()
                index += 1
        finally:
            news.set()

    reader = asyncio.create_task(read())
    try:
        while answers or not reader.done():
            if not answers:
                news.clear()
                await news.wait()
                continue
            if isinstance(first := answers[0], Incoming):
                await first.answered
            lines = []
            while answers and (isinstance(answers[0], ProblemError) or answers[0].answered.done()):
                lines.append(_encode(answers.popleft()))
                unread.release()
            yield b"".join(lines)
        await reader
    finally:
        reader.cancel()


async def split_lines(chunks: AsyncIterator[bytes], max_line: int) -> AsyncIterator[bytes | LineTooLarge]:
    """Yield the non-empty lines of a body, without their ends; an error in place of a line that is too long."""
    too_large = LineTooLarge(f"the line is larger than {max_line} bytes (MAX_BODY)")
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            parts.append(chunk[start:end])
            if size + end - start > max_line:
                yield too_large
            elif (line := b"".join(parts)) not in _BLANK:
                yield line
            parts, size, start = [], 0, end + 1
        size += len(chunk) - start
        # A line that is too long is dropped, but read to its end.
        if size <= max_line:
            parts.append(chunk[start:])  # not a new list: a line may arrive in very many pieces
        else:
            parts.clear()
    if size > max_line:
        yield too_large
    elif (line := b"".join(parts)) not in _BLANK:
        yield line


async def _submit(
    ingest: Ingest, line: bytes | LineTooLarge, keys: LineKeys, index: int, group: str | None
) -> Incoming | ProblemError:
    if isinstance(line, LineTooLarge):
        return line
    await ingest.wait_for_capacity()
    try:
        return ingest.submit(line, keys[index], group)
    except ProblemError as error:
        # The error waits until its answer is fetched; its frames would keep the line.
        error.__traceback__ = error.__context__ = None
        return error


def _encode(answer: Incoming | ProblemError) -> bytes:
    error = answer.error if isinstance(answer, Incoming) else answer
    if isinstance(answer, Incoming) and error is None:
        return msgspec.json.encode(StreamAnswer("CREATED", answer.receipt)) + b"\n"
    if isinstance(error, BufferFrozen):
        return _FROZEN
    if isinstance(error, ProblemError):
        return encode_problem(error.problem()) + b"\n"
    assert error is not None  # noqa: S101 (a segment without an error is stored)
    raise error
