"""Put: files of the shared folders become files of a holding, as if gwclient had sent them."""

import asyncio
import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import BinaryIO

from glitchflow_api.nlds.calls import CALL_FAILED, HoldingCalls, Patience, code_of, detail_of, patiently
from glitchflow_api.nlds.jobs import Job, NldsState, Part, part_id
from glitchflow_api.nlds.selection import Selection, find_holdings
from glitchflow_api.nlds.shared_files import Failure, NotPossible, SharedFiles, reason_of
from glitchflow_api.nlds.slots import Slots
from gwwire.holdings import (
    FileOutcome,
    FileState,
    Holding,
    HoldingFile,
    NewFile,
    TransactionKind,
    TransactionOrder,
    Upload,
)
from gwwire.problems import ProblemCode

#: Files of a part, which is one transaction of the datastore.
_PART = 1000
#: Bytes of one request.
_PIECE = 4 * 1024 * 1024
#: Refusals of bytes of which some have arrived already.
_OVERTAKEN = frozenset({ProblemCode.OFFSET_MISMATCH, ProblemCode.UPLOAD_ENDED})
_MOST_OVERTAKEN = 10


class Put:
    """Puts the files of a transaction; `slots` limits the transfers at the same time."""

    def __init__(self, job: Job, calls: HoldingCalls, files: SharedFiles, slots: Slots) -> None:
        self._job, self._calls, self._files, self._slots = job, calls, files, slots
        #: The first part may make the holding, which the others are put into.
        self._label: str | None = job.order.label
        self._holding = job.order.holding

    async def run(self) -> None:
        """Put all files, part by part; a directory is listed as far as the current part needs it."""
        await self._look_at_holding()
        begun = await self._continue_parts()
        found = (each for each in self._files.find(self._job.order.paths) if each.path not in begun)
        part = self._job.begin_part(NldsState.INDEXING)
        some = await self._slots.in_thread(_some, found)
        if not some:
            self._job.parts.pop()
        while some:
            following = await self._slots.in_thread(_some, found)
            after = self._job.begin_part(NldsState.INDEXING) if following else part
            await self._put(part, some)
            part, some = after, following

    async def _continue_parts(self) -> set[str]:
        """Put the files of the parts that were begun before a restart; return their paths.

        The directories may have other files by now, so these are not divided into parts again.
        """
        paths: set[str] = set()
        while files := await patiently(self._begun):
            part = self._job.begin_part(NldsState.TRANSFER_PUTTING)
            self._holding, self._label = files[0].holding, None
            await self._send_waiting(part, files, {each.path: each.size for each in files})
            part.end()
            paths.update(each.path for each in files)
        return paths

    async def _begun(self) -> list[HoldingFile]:
        """Return the files of the next part, if it was begun before a restart."""
        identity = part_id(self._job.id, len(self._job.parts))
        try:
            known = await self._calls.transaction(identity)
            if known.user != self._job.user or known.kind is not TransactionKind.PUT:  # `begin` refuses the id
                return []
            return [each async for each in self._calls.files_of(identity)]
        except CALL_FAILED as error:
            if code_of(error) == ProblemCode.NOT_FOUND:
                return []
            raise

    async def _look_at_holding(self) -> None:
        """Store the label of a holding that exists, and warnings about tags that it has already."""
        order = self._job.order
        self._job.label = order.label or self._job.id[:8]
        selection = Selection(self._job.user, self._job.group, label=order.label, holding=order.holding)
        if selection.is_specific:
            known = next(iter(await patiently(lambda: find_holdings(self._calls, selection))), None)
            if known:
                self._job.label = known.label
                self._job.warnings = _warnings(known, order.tag)

    async def _put(self, part: Part, some: Sequence[NewFile | Failure]) -> None:
        part.enter(NldsState.CATALOG_PUTTING)
        part.failed = [each for each in some if isinstance(each, Failure)]
        files = {each.path: each for each in some if isinstance(each, NewFile)}
        if files:
            try:
                await self._begin(part, files)
            except CALL_FAILED as error:
                part.failed += [Failure(path, detail_of(error)) for path in files]
        part.end()

    async def _begin(self, part: Part, files: dict[str, NewFile]) -> None:
        order = TransactionOrder(
            list(files.values()),
            label=self._label,
            holding=self._holding,
            tags=self._job.order.tag,
            job_label=self._job.job_label,
            id=part.id,
        )
        made = await patiently(lambda: self._calls.begin(order))
        self._holding, self._label = made.transaction.holding, None
        part.enter(NldsState.TRANSFER_PUTTING)
        await self._send_waiting(part, made.files, {each.path: each.size for each in files.values()})

    async def _send_waiting(
        self, part: Part, files: Sequence[FileOutcome | HoldingFile], sizes: Mapping[str, int]
    ) -> None:
        """Send the files of a transaction that wait for their bytes; the others have succeeded or failed."""
        sending = []
        for each in files:
            if each.state is FileState.WAITING and each.path in sizes:
                sending.append(self._send(part, each.path, sizes[each.path]))
            elif each.state in {FileState.WAITING, FileState.FAILED}:
                part.failed.append(Failure(each.path, each.reason or "it was not sent"))
            else:
                part.complete += 1
        await asyncio.gather(*sending)

    async def _send(self, part: Part, path: str, size: int) -> None:
        async with self._slots:
            try:
                with await self._slots.in_thread(self._files.open, path) as content:
                    sent = await self._send_pieces(part.id, _Pieces(content, size), path)
                reason = None if sent.file.state is FileState.COMPLETE else sent.file.reason or str(sent.file.state)
            except CALL_FAILED as error:
                reason = detail_of(error)
            except (NotPossible, OSError) as error:
                reason = reason_of(error)
            if reason is None:
                part.complete += 1
            else:
                part.failed.append(Failure(path, reason))
                with suppress(*CALL_FAILED):
                    await self._calls.give_up(part.id, path, reason)

    async def _send_pieces(self, transaction: str, pieces: "_Pieces", path: str) -> Upload:
        offset, patience, overtaken = 0, Patience(), 0
        while True:
            piece, digest = await self._slots.in_thread(pieces.piece, offset)
            try:
                upload = await self._calls.send(transaction, path, piece, offset, digest)
            except CALL_FAILED as error:
                if code_of(error) in _OVERTAKEN and overtaken < _MOST_OVERTAKEN:
                    overtaken += 1
                else:
                    await patience.wait_or_raise(error)
                upload = await patiently(lambda: self._calls.progress(transaction, path))
            if upload.file.state is not FileState.WAITING:
                return upload
            offset = upload.received


class _Pieces:
    """The pieces of a file, with the SHA-256 of all of it for the last one."""

    def __init__(self, content: BinaryIO, size: int) -> None:
        self._content, self._size = content, size
        self._digest, self._hashed = hashlib.sha256(), 0

    def piece(self, offset: int) -> tuple[bytes, str | None]:
        """Return the piece at an offset, and the value of `Repr-Digest` with the last one."""
        while self._hashed < offset:
            self._hash(self._read(self._hashed, min(_PIECE, offset - self._hashed)))
        piece = self._read(offset, min(_PIECE, self._size - offset))
        end = offset + len(piece)
        self._hash(piece[max(0, self._hashed - offset) :])
        if end < self._size:
            return piece, None
        if self._content.read(1):
            raise NotPossible("it has grown while it was read")
        return piece, f"sha-256=:{base64.b64encode(self._digest.digest()).decode()}:"

    def _read(self, offset: int, size: int) -> bytes:
        self._content.seek(offset)
        piece = self._content.read(size)
        if len(piece) < size:
            raise NotPossible("it has shrunk while it was read")
        return piece

    def _hash(self, piece: bytes) -> None:
        self._digest.update(piece)
        self._hashed += len(piece)


def _some(found: Iterator[NewFile | Failure]) -> list[NewFile | Failure]:
    return list(islice(found, _PART))


def _warnings(holding: Holding, tag: dict[str, str]) -> list[str]:
    """Return a warning for each tag that a holding has already: a put does not change it."""
    return [
        f"tag {name} of holding {holding.label} stays {holding.tags[name]!r}; `meta` can change it"
        for name in tag
        if name in holding.tags
    ]
