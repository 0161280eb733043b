"""Uploads: the bytes of files, which arrive in any number of requests, each from where the last one ended."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any, TypeVar

from databuffer.errors import DigestMismatch, NotFound, OffsetMismatch, OffsetMissing, UploadEnded
from databuffer.holdings import file_table, orders, packed
from databuffer.holdings.completions import Completions
from databuffer.holdings.contents import Arriving, Contents
from databuffer.holdings.ledger import HoldingLedger
from databuffer.holdings.rows import Caller, FileRow
from gwservice.body import TooLarge
from gwwire.decoding import InvalidRequest
from gwwire.holdings import FileState, PathType

T = TypeVar("T")

#: Bytes that are written at a time.
_PORTION = 512 * 1024
#: Uploads that are kept in memory while no request sends bytes; others are read again when they go on.
_MOST_KEPT = 1000


@dataclass(frozen=True)
class Digests:
    """The SHA-256 that a request gives for its own bytes, and for the whole file; None: not given."""

    content: bytes | None = None
    whole: bytes | None = None


@dataclass(eq=False)
class _Receiving:
    arriving: Arriving
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: The request that sends bytes now.
    request: asyncio.Task[Any] | None = None


class Uploads:
    """Receives the bytes of files, and makes them complete."""

    def __init__(self, ledger: HoldingLedger, contents: Contents) -> None:
        self._ledger = ledger
        self._contents = contents
        self.completions = Completions(ledger, contents)
        self._kept: dict[int, _Receiving] = {}

    def tidy(self) -> None:
        """Remove what has arrived of files that do not wait for bytes any more."""
        for name in self._contents.leftovers():
            number = name.rpartition("-")[2]
            if not number.isdecimal():
                continue
            row = self._ledger.look(partial(file_table.file, number=int(number)))
            if row is None or row.state is not FileState.WAITING:
                self._contents.drop(name)

    async def progress(self, caller: Caller, transaction: str, path: str) -> tuple[FileRow, int]:
        """Return a file of a transaction, and how many of its bytes have arrived."""
        row = await self._find(caller, transaction, path)
        return row, await self._received(row, transaction)

    async def receive(  # noqa: PLR0913, PLR0917 (what a request says)
        self,
        caller: Caller,
        transaction: str,
        path: str,
        body: AsyncIterator[bytes],
        offset: int | None,
        digests: Digests,
    ) -> tuple[FileRow, int]:
        """Append a body to what has arrived of a file, up to `offset`; the last byte makes the file complete.

        Return the file, and how many bytes have arrived. A request that sends bytes of the same file ends. What arrives
        before a connection breaks stays. Without `offset`, the body begins the file. Raise OffsetMismatch,
        OffsetMissing, UploadEnded, DigestMismatch, TooLarge or VolumeFull.
        """
        row = await self._find(caller, transaction, path, changing=True)
        if row.state is FileState.COMPLETE and (offset or 0) == row.size:  # the answer to the last bytes was lost
            async for _ in body:
                _check_waits(row)
            return row, row.size
        _check_waits(row)
        receiving = self._receiving(row, transaction)
        if receiving.request:
            other, receiving.request = receiving.request, None
            other.cancel()
        async with receiving.lock:
            arriving = receiving.arriving
            current = await self._ledger.read(lambda connection: file_table.file(connection, row.number))
            if current is None or current.state is not FileState.WAITING:  # since the request began
                return await self.receive(caller, transaction, path, body, offset, digests)
            try:
                await _in_thread(arriving.open)
                if offset is None and arriving.received:
                    detail = f"{arriving.received} bytes of {path} have arrived; give Upload-Offset to continue"
                    raise OffsetMissing(detail, field="Upload-Offset")
                if (offset or 0) != arriving.received:
                    detail = f"{arriving.received} bytes of {path} have arrived; the request begins at {offset}"
                    raise OffsetMismatch(detail, field="Upload-Offset")
                # A file that does not fit must not take the space of others until that shows.
                await _in_thread(self._contents.check_space, row.size - arriving.received)
                await self._append(receiving, row, body, digests.content)
                if arriving.received == row.size:
                    await self._complete(arriving, row, digests.whole)
            finally:
                await _in_thread(arriving.close)
            received = arriving.received
        return await self._ledger.read(lambda c: file_table.file(c, row.number)) or row, received

    async def give_up(self, caller: Caller, transaction: str, path: str, reason: str) -> FileRow:
        """Fail a file that waits for bytes, for the reason that its sender gives."""
        row = await self._find(caller, transaction, path, changing=True)
        if not await self._ledger.change(partial(orders.fail_all, rows=[row], reason=reason)):
            _check_waits(await self._find(caller, transaction, path))
        await self.drop([row], {row.transaction: transaction})
        return await self._find(caller, transaction, path)

    async def drop(self, rows: Iterable[FileRow], transactions: Mapping[int, str]) -> None:
        """Remove what has arrived of files that failed; `transactions` are the ids of their transactions."""
        names = {row.number: _name(row, transactions[row.transaction]) for row in rows}
        for number in names:
            receiving = self._kept.pop(number, None)
            if receiving is None:
                continue
            if receiving.request:
                request, receiving.request = receiving.request, None
                request.cancel()
            async with receiving.lock:  # until that request has ended
                pass
        await asyncio.to_thread(self._contents.drop, *names.values())

    def is_needed(self, digest: str) -> bool:
        """Return whether the disk has to keep a content; called in a thread."""
        return self._ledger.look(lambda connection: packed.is_needed_on_disk(connection, digest))

    async def _append(
        self, receiving: _Receiving, row: FileRow, body: AsyncIterator[bytes], expected: bytes | None
    ) -> None:
        arriving, begin, digest = receiving.arriving, receiving.arriving.received, sha256()
        receiving.request = asyncio.current_task()
        try:
            async for portion in _portions(body):
                if arriving.received + len(portion) > row.size:
                    await _in_thread(arriving.cut, begin)
                    raise TooLarge(f"{row.path} has {row.size} bytes, as its transaction says; more were sent")
                await _in_thread(self._write, arriving, portion)
                if expected is not None:
                    digest.update(portion)
        except asyncio.CancelledError:
            if receiving.request or not (task := asyncio.current_task()):
                raise
            task.uncancel()
            raise UploadEnded(f"another request sends {row.path}, or gave it up") from None
        finally:
            receiving.request = None
        if expected is not None and digest.digest() != expected:
            await _in_thread(arriving.cut, begin)
            detail = (
                f"Content-Digest: the bytes of the request have the SHA-256 {digest.hexdigest()}; they were dropped"
            )
            raise DigestMismatch(detail, field="Content-Digest")

    def _write(self, arriving: Arriving, portion: bytes) -> None:
        self._contents.check_space(len(portion))
        arriving.write(portion)

    async def _complete(self, arriving: Arriving, row: FileRow, expected: bytes | None) -> None:
        found = arriving.digest()
        if expected is not None and found != expected:
            await _in_thread(arriving.cut, 0)
            detail = f"Repr-Digest: {row.path} arrived with the SHA-256 {found.hex()}; all of it was dropped"
            raise DigestMismatch(detail, field="Repr-Digest")
        is_complete = await self.completions.complete(arriving, row, found.hex())
        self._kept.pop(row.number, None)
        if not is_complete:
            await _in_thread(self._contents.remove, found.hex(), self.is_needed)
            raise UploadEnded(f"{row.path} was deleted or put again meanwhile")

    async def _find(self, caller: Caller, transaction: str, path: str, *, changing: bool = False) -> FileRow:
        def find(connection: Any) -> FileRow | None:
            of = orders.find_transaction(connection, caller, transaction, changing=changing)
            return file_table.file_of(connection, of.number, path)

        row = await self._ledger.read(find)
        if row is None:
            raise NotFound(f"transaction {transaction} has no file {path}")
        return row

    async def _received(self, row: FileRow, transaction: str) -> int:
        if row.state is not FileState.WAITING:
            return row.size if row.sha256 else 0
        if (receiving := self._kept.get(row.number)) and receiving.request:
            return receiving.arriving.received
        return await asyncio.to_thread(self._contents.received, _name(row, transaction))

    def _receiving(self, row: FileRow, transaction: str) -> _Receiving:
        """Return what is kept of an upload, as the newest of all."""
        receiving = self._kept.pop(row.number, None)
        if receiving is None:
            receiving = _Receiving(self._contents.receive(_name(row, transaction), row.size))
        self._kept[row.number] = receiving
        if len(self._kept) > _MOST_KEPT:
            with suppress(StopIteration):
                del self._kept[next(number for number, each in self._kept.items() if not each.lock.locked())]
        return receiving


def parse_digest(name: str, header: str | None) -> bytes | None:
    """Return the SHA-256 in Content-Digest or Repr-Digest (RFC 9530), `sha-256=:…:`, or None if there is none.

    Raise InvalidRequest if it is malformed: its sender expects that the bytes are compared.
    """
    for member in (header or "").split(","):
        algorithm, _, value = member.strip().partition("=")
        if algorithm == "sha-256":
            with suppress(ValueError):
                found = base64.b64decode(value[1:-1], validate=True)
                if value == digest_text(found.hex()).partition("=")[2] and len(found) == sha256().digest_size:
                    return found
            raise InvalidRequest(f"{name}: expected sha-256=:…: with 32 bytes in base64", field=name)
    return None


def digest_text(digest: str) -> str:
    """Return the value of Repr-Digest for a SHA-256 in hexadecimal."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(digest)).decode()}:"


def _check_waits(row: FileRow) -> None:
    if row.type is not PathType.FILE:
        raise UploadEnded(f"{row.path} is a {row.type}, which has no bytes")
    if row.state is not FileState.WAITING:
        raise UploadEnded(f"{row.path} is {row.state}{f': {row.reason}' if row.reason else ''}")


def _name(row: FileRow, transaction: str) -> str:
    return f"{transaction}-{row.number}"


async def _portions(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield a body in portions that are worth a system call; what came before a broken connection is yielded too."""
    pieces: list[bytes] = []
    size = 0
    try:
        async for piece in body:
            pieces.append(piece)
            size += len(piece)
            if size >= _PORTION:
                yield b"".join(pieces)
                pieces, size = [], 0
    except Exception:
        if pieces:
            yield b"".join(pieces)
        raise
    if pieces:
        yield b"".join(pieces)


async def _in_thread(call: Callable[..., T], *arguments: Any) -> T:
    """Call a function in a thread, and wait for its end also when the request is cancelled, however often."""
    work = asyncio.ensure_future(asyncio.to_thread(call, *arguments))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([work])
        raise
