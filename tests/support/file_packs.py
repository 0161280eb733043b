"""Files of holdings in a buffer with tiers."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from databuffer.buffer import Buffer
from databuffer.holdings.rows import Caller
from databuffer.holdings.uploads import Digests
from databuffer.records.scan import Scan
from databuffer.storage.catalog.batches import FILES_RECORD
from databuffer.tiers.ledger import replicas
from gwwire.file_manifest import member_name
from gwwire.holdings import NewFile, Transaction, TransactionOrder
from gwwire.tiering import ReplicaState

ANYBODY = Caller(None, None)


async def put_files(
    buffer: Buffer, files: Mapping[str, bytes], label: str | None = None, caller: Caller = ANYBODY
) -> Transaction:
    """Put files with these bytes into a holding; return the transaction."""
    new = [NewFile(path, size=len(content)) for path, content in files.items()]
    made = await buffer.holdings.put(caller, TransactionOrder(new, label=label))
    for path, content in files.items():
        await send_file(buffer, made.transaction, path, content)
    return await buffer.holdings.transaction(ANYBODY, made.transaction.id)


async def send_file(buffer: Buffer, transaction: Transaction, path: str, content: bytes) -> None:
    """Send the bytes of a file of a transaction."""
    await buffer.holdings.uploads.receive(ANYBODY, transaction.id, path, _body(content), 0, Digests())


async def _body(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def pack_states(buffer: Buffer, transaction: Transaction) -> dict[str, ReplicaState]:
    """Return the states of the replicas of a transaction's files, by tier."""
    pack = FILES_RECORD + transaction.id
    rows = await buffer.queries.read(lambda connection: replicas.of_pack(connection, pack))
    return {row.tier: row.state for row in rows}


async def until_packed(buffer: Buffer, transaction: Transaction, wanted: Mapping[str, ReplicaState]) -> None:
    """Wait until the replicas of a transaction's files have these states."""
    async with asyncio.timeout(60):
        while True:
            change = buffer.records.next_change(Scan(()))
            if await pack_states(buffer, transaction) == wanted:
                return
            buffer._sweep.ask()  # noqa: SLF001 (sooner than the next minute)
            await asyncio.wait([change], timeout=0.1)


async def read_file(buffer: Buffer, transaction: Transaction, path: str) -> bytes:
    """Return the bytes of a file, wherever they are."""
    found, file = await buffer.holdings.file(ANYBODY, transaction.holding, path)
    if file:
        with file:
            return await asyncio.to_thread(file.read)
    return await read_from_tier(buffer, transaction, path, 0, found.size)


async def read_from_tier(buffer: Buffer, transaction: Transaction, path: str, start: int, stop: int) -> bytes:
    """Return bytes of a file that a tier has."""
    stream = await buffer.tier_reader.stream(FILES_RECORD + transaction.id, member_name(path), start, stop)
    assert stream
    content = b""
    while portion := await stream.read():
        content += portion
    return content
