"""The gateway's routes of holdings as coroutines, and transfers of files that can be resumed."""

import asyncio
import base64
import hashlib
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlencode
from uuid import uuid4

import msgspec

from gwclient.answers import decode_answer
from gwclient.connection import GatewayConnection, read_success, response_error
from gwclient.digests import AS_STORED, digest_of
from gwclient.errors import FolderError, GatewayRefused, GatewayUnavailable, UnexpectedAnswer, write_errors
from gwclient.outages import PackReads
from gwclient.partial_file import PartialFileBusy, alone
from gwclient.trees import restore_metadata
from gwclient.url_paths import url_path
from gwservice.regular_file import append_regular, open_regular
from gwwire.holdings import (
    FilePage,
    FileState,
    Holding,
    HoldingFile,
    HoldingPage,
    HoldingPatch,
    Transaction,
    TransactionMade,
    TransactionOrder,
    TransactionPage,
    Upload,
)
from gwwire.problems import ProblemCode

#: Is called with the number of bytes more, or less after some have to be sent again.
OnBytes = Callable[[int], object]

_OK, _CREATED, _PARTIAL = 200, 201, 206
_LARGEST_PAGE = 1000
#: Bytes of one request; after a broken connection, at most these are sent again.
_PIECE = 8 * 1024 * 1024
#: Refusals of bytes that have arrived already, and how often in a row they may be.
_OVERTAKEN = frozenset({ProblemCode.OFFSET_MISMATCH, ProblemCode.UPLOAD_ENDED})
_MOST_OVERTAKEN = 10
_CHUNK = 256 * 1024


class SourceChanged(Exception):
    """A file is not as it was when its transaction began."""


class Holdings:
    """Holdings over a connection; `client.holdings`.

    Filters are those of the routes. Every method raises GatewayRefused for a request that is wrong or not allowed, and
    GatewayUnavailable if every try failed.
    """

    def __init__(self, connection: GatewayConnection) -> None:
        self._connection = connection

    async def begin(self, order: TransactionOrder) -> TransactionMade:
        """Begin to put files into a holding; repeated after a lost answer, it is still one transaction."""
        order = order if order.id else msgspec.structs.replace(order, id=str(uuid4()))
        body = msgspec.json.encode(order)

        async def once() -> TransactionMade:
            headers = {"Content-Type": "application/json"}
            async with self._connection.request("POST", "/transactions", body, headers) as response:
                if response.status != _CREATED:
                    raise await response_error(response)
                return decode_answer(await response.read(), TransactionMade, str(response.url))

        return await self._connection.with_retries(once)

    async def holdings(self, limit: int | None = None, **filters: Any) -> AsyncGenerator[Holding, None]:
        """Yield holdings that the caller may read, a page at a time; at most `limit`."""
        async for page in self._pages("/holdings", HoldingPage, limit, filters):
            for each in page.holdings:
                yield each

    async def holding(self, holding: int) -> Holding:
        """Return a holding by its id, or raise GatewayRefused (404)."""
        return await self._connection.ask("GET", url_path("holdings", holding), Holding)

    async def patch(self, holding: int, changes: HoldingPatch) -> Holding:
        """Change label and tags of a holding."""
        return await self._connection.ask("PATCH", url_path("holdings", holding), Holding, changes)

    async def delete(self, holding: int, path: str | None = None) -> Transaction:
        """Delete a holding, or one of its files; `undo` restores it."""
        target = url_path("holdings", holding) if path is None else _file_of("holdings", holding, path)
        return await self._connection.ask("DELETE", target, Transaction, repeatable=False)

    async def undo(self, transaction: str) -> Transaction:
        """Restore what a transaction deleted."""
        return await self._connection.ask("POST", url_path("transactions", transaction, "undo"), Transaction)

    async def files(self, holding: int, limit: int | None = None, **filters: Any) -> AsyncGenerator[HoldingFile, None]:
        """Yield files of a holding by path, a page at a time; at most `limit`."""
        async for page in self._pages(url_path("holdings", holding, "files"), FilePage, limit, filters):
            for each in page.files:
                yield each

    async def transaction(self, transaction: str) -> Transaction:
        """Return a transaction by its id, or raise GatewayRefused (404)."""
        return await self._connection.ask("GET", url_path("transactions", transaction), Transaction)

    async def transactions(self, limit: int | None = None, **filters: Any) -> AsyncGenerator[Transaction, None]:
        """Yield transactions that the caller may read, a page at a time; at most `limit`."""
        async for page in self._pages("/transactions", TransactionPage, limit, filters):
            for each in page.transactions:
                yield each

    async def files_of(self, transaction: str, state: FileState | None = None) -> AsyncGenerator[HoldingFile, None]:
        """Yield the files that a transaction put or deleted, by path."""
        filters = {} if state is None else {"state": state.value}
        async for page in self._pages(url_path("transactions", transaction, "files"), FilePage, None, filters):
            for each in page.files:
                yield each

    async def give_up(self, transaction: str, path: str, reason: str) -> Upload:
        """Fail a file that still waits for bytes."""
        target = f"{_file_of('transactions', transaction, path)}?{urlencode({'reason': reason[:500]})}"
        return await self._connection.ask("DELETE", target, Upload)

    # ---- transfers

    async def send(self, transaction: str, file: HoldingFile, source: Path, on_bytes: OnBytes) -> HoldingFile:
        """Send the bytes of a file, from where they have arrived, and return it when it is complete or has failed.

        A file of one request is sent at once: if something of it has arrived, that is refused, and it goes on there.

        Raise SourceChanged if the file is not as it was when the transaction began, OSError if it cannot be read.
        """
        target, failures = _file_of("transactions", transaction, file.path), 0
        with open_regular(source) as content:
            sending = _Sending(content, file)
            if file.size > _PIECE or file.state is not FileState.WAITING:
                upload = await self._connection.ask("GET", target, Upload)
            else:
                upload = Upload(file, 0)
            on_bytes(upload.received)
            while upload.file.state is FileState.WAITING:
                before = upload.received
                piece, headers = await asyncio.to_thread(sending.piece, upload.received)
                try:
                    upload = await self._send_piece(target, piece, headers)
                    failures = 0
                except GatewayUnavailable as failure:
                    failures += 1
                    await self._connection.back_off_or_raise(failures, failure)
                    upload = await self._connection.ask("GET", target, Upload)
                except GatewayRefused as refusal:  # the request before it arrived, though its answer did not
                    failures += 1
                    if refusal.code not in _OVERTAKEN or failures > _MOST_OVERTAKEN:
                        raise
                    upload = await self._connection.ask("GET", target, Upload)
                on_bytes(upload.received - before)
        return upload.file

    async def _send_piece(self, target: str, piece: bytes, headers: dict[str, str]) -> Upload:
        within = self._connection.stream_timeout(0)
        async with self._connection.request("PUT", target, piece, headers, within) as response:
            return decode_answer(await read_success(response), Upload, str(response.url))

    async def fetch(self, file: HoldingFile, path: Path, on_bytes: OnBytes, reads: PackReads | None = None) -> None:
        """Fetch the bytes of a file to a path, check them, and restore its mode and mtime.

        Of several files that are fetched at the same time, `reads` makes the requests; their packs are transactions.
        A part that an earlier call fetched is continued. Raise FolderError or OutputError if it cannot be written, and
        FolderError while another process fetches it.
        """
        with write_errors(path):
            if await asyncio.to_thread(_is_there, path, file):
                on_bytes(file.size)
            else:
                partial = path.with_name(f".{hashlib.sha256(path.name.encode()).hexdigest()[:16]}.{file.sha256}.part")
                reads = reads or PackReads(self._connection, waits_for_tape=True)
                try:
                    with alone(partial):
                        await reads.read(file.transaction, lambda: self._fetch_rest(file, partial, on_bytes))
                        partial.replace(path)
                except PartialFileBusy:
                    raise FolderError(f"another gwclient fetches it to {path}") from None
            restore_metadata(path, file)

    async def _fetch_rest(self, file: HoldingFile, partial: Path, on_bytes: OnBytes) -> None:
        with write_errors(partial), append_regular(partial) as out:
            on_bytes(there := out.tell())
            if there < file.size:
                source = _file_of("holdings", file.holding, file.path)
                wanted = {"Range": f"bytes={there}-", "If-Range": f'"{file.sha256}"'} if there else {}
                wanted |= AS_STORED
                within = self._connection.stream_timeout(0)
                async with self._connection.request("GET", source, headers=wanted, within=within) as response:
                    if response.status != (_PARTIAL if there else _OK):
                        raise await response_error(response)
                    if digest_of(response.headers) not in {None, file.sha256}:
                        raise UnexpectedAnswer(f"{response.url} is another file now")
                    try:
                        async for chunk in response.content.iter_chunked(_CHUNK):
                            with write_errors(partial):  # here too: the connection takes an OSError for its own
                                out.write(chunk)
                            on_bytes(len(chunk))
                    except BaseException:
                        on_bytes(-out.tell())
                        raise
        if not await asyncio.to_thread(_has, partial, file):
            with write_errors(partial):
                await asyncio.to_thread(os.truncate, partial, 0)
            on_bytes(-file.size)
            message = f"{file.path} arrived with other bytes than its SHA-256 says"
            raise GatewayUnavailable(message, code=ProblemCode.DIGEST_MISMATCH)

    async def _pages(self, path: str, kind: type[Any], limit: int | None, filters: dict[str, Any]) -> Any:
        given = {name: _text(value) for name, value in filters.items() if value is not None}
        left = limit
        while left is None or left > 0:
            size = {} if left is None else {"limit": min(left, _LARGEST_PAGE)}
            query = urlencode({**given, **size})
            page = await self._connection.ask("GET", f"{path}?{query}" if query else path, kind)
            yield page
            if not page.more:
                return
            given["after"] = str(page.after)
            if left is not None:
                left -= sum(len(getattr(page, name)) for name in page.__struct_fields__[:1])


class _Sending:
    """The pieces of a local file, with the SHA-256 of all of it in the headers of the last one."""

    def __init__(self, content: BinaryIO, file: HoldingFile) -> None:
        self._content, self._file = content, file
        self._digest, self._hashed = hashlib.sha256(), 0

    def piece(self, offset: int) -> tuple[bytes, dict[str, str]]:
        """Return the piece at an offset, and its headers."""
        while self._hashed < offset:
            self._hash(self._read(self._hashed, min(_PIECE, offset - self._hashed)))
        piece = self._read(offset, min(_PIECE, self._file.size - offset))
        end = offset + len(piece)
        if end > self._hashed:
            self._hash(piece[self._hashed - offset :])
        headers = {"Content-Type": "application/octet-stream", "Upload-Offset": str(offset)}
        if end == self._file.size:
            if self._content.read(1):
                raise SourceChanged("it has grown while it was sent")
            headers["Repr-Digest"] = f"sha-256=:{base64.b64encode(self._digest.digest()).decode()}:"
        return piece, headers

    def _read(self, offset: int, size: int) -> bytes:
        self._content.seek(offset)
        piece = self._content.read(size)
        if len(piece) < size:
            raise SourceChanged("it has shrunk while it was sent")
        return piece

    def _hash(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._hashed += len(piece)


async def newest(client: Holdings, path: str, holdings: Sequence[int]) -> HoldingFile | None:
    """Return the file at a path that was stored last in some holdings, or None."""
    found = [each for number in holdings async for each in client.files(number, path=path)]
    complete = [each for each in found if each.state is FileState.COMPLETE]
    return max(complete, key=lambda each: each.stored or 0, default=None)


def _is_there(path: Path, file: HoldingFile) -> bool:
    """Return whether a path has the bytes of a file; raise FolderError if it has others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if _has(path, file):
        return True
    if os.path.lexists(path):
        raise FolderError(f"{path} exists and has other bytes")
    return False


def _has(path: Path, file: HoldingFile) -> bool:
    """Return whether a path has the bytes of a file."""
    if path.is_symlink() or not path.is_file() or path.stat().st_size != file.size:
        return False
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest() == file.sha256


def _file_of(kind: str, identity: int | str, path: str) -> str:
    return url_path(kind, identity, "files", *path[1:].split("/"))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
