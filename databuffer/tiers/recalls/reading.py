"""Bytes of segments and files from the tiers, for readers whose pack is not on the disk.

A replica that can be read now is read at once; its bytes count only if they have the SHA-256 of the manifest. What is
on tape only is refused as OnTape, and its recall has begun. If the manifest cannot be read, it is restored from a
replica.
"""

import asyncio
import hashlib
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from tempfile import TemporaryFile
from typing import BinaryIO

from databuffer.errors import NotFound, OnTape, TierFailed, VolumeError, VolumeFailed
from databuffer.storage.catalog import CataloguedSegment
from databuffer.storage.clock import steady_ns
from databuffer.tar import Member
from databuffer.tiers.ledger import replicas
from databuffer.tiers.ledger.replicas import ReplicaRow
from databuffer.tiers.moves.mover import Mover
from databuffer.tiers.moves.own_threads import OwnThreads
from databuffer.tiers.moves.replica_ledger import ReplicaLedger
from databuffer.tiers.packs.heads import checked_head, restore_manifest
from databuffer.tiers.packs.pack import Pack, PackDamaged, read_head, tier_range
from databuffer.tiers.packs.packs import Packs, record_of
from databuffer.tiers.packs.source import PackSource
from databuffer.tiers.recalls.recall import READERS, Recalls
from databuffer.tiers.tier import TAPE, Locality, NotOnline, NotThere, Tier, TierError
from gwwire.tiering import DISK, Recall, RecallState, ReplicaState, on_tape_text

log = logging.getLogger(__name__)

#: Return the member of a pack that is to be read.
FindMember = Callable[[Pack], Member]

#: Reads of one tier at the same time: a tier that does not answer takes no thread of the others.
_THREADS = 8
#: s that the first bytes may take; the services in front of the buffer wait for 30 s.
_PATIENCE_SECONDS = 20.0
#: The same from a tier that did not answer before, or if another one has them that is no tape.
_SHORT_PATIENCE_SECONDS = 5.0
#: Packs whose manifests stay in memory.
_PACKS = 4
#: A use of a replica is not noted again so soon.
_USE = 60 * 10**9
#: Bytes; what is larger is compared while it is sent.
_LARGEST_IN_MEMORY = 16 * 1024 * 1024


class TierReader:
    """Reads segments and files from the tiers."""

    def __init__(self, packs: Packs, ledger: ReplicaLedger, mover: Mover, recalls: Recalls) -> None:
        self._ledger = ledger
        self._mover = mover
        self._recalls = recalls
        self._pack = lru_cache(_PACKS)(packs.get)
        self._threads = {name: OwnThreads(f"tier-read-{name}", _THREADS) for name in mover.tiers}

    async def open(self, segment: CataloguedSegment, recalls: bool = True) -> BinaryIO | None:  # noqa: FBT001, FBT002 (see `Queries.elsewhere`)
        """Return the bytes of a segment as a file, or None if no tier was ever given them.

        Raise OnTape, when its recall has begun if it `recalls`, or TierFailed if no tier returns them or their recall
        failed.
        """
        found = await asyncio.to_thread(self._find, record_of(segment.batch))
        if found is None:
            return None
        member = Member(segment.name, segment.bytes, segment.sha256)
        try:
            stream = await self._begin(*found, lambda _: member, 0, member.size, f"segment {segment.name}")
        except NotOnline:
            ask = self._recalls.ask if recalls else self._recalls.states.get
            raise not_readable(await ask(segment.batch, READERS)) from None
        return in_memory(b"".join([chunk async for chunk in stream]))

    async def stream(self, pack: str, name: str, start: int, stop: int) -> "TierStream | None":
        """Return the bytes [start, stop) of a member of a pack, or None if no tier was ever given them.

        Raise OnTape, or TierFailed if no tier returns the first of them.
        """
        found = await asyncio.to_thread(self._find, pack)
        if found is None:
            return None
        text = f"{name} of {found[0].text}"
        try:
            return await self._begin(*found, lambda pack: pack.member(name), start, stop, text)
        except NotOnline:
            raise not_readable(await self._recalls.ask(pack, READERS)) from None

    async def _begin(  # noqa: PLR0913, PLR0917 (what is read, and its name)
        self, source: PackSource, rows: Sequence[ReplicaRow], find: FindMember, start: int, stop: int, text: str
    ) -> "TierStream":
        """Return bytes of a member from the first replica that has them.

        Raise NotOnline if a recall helps, or TierFailed: no recall is begun while another tier has the pack, but fails.
        """
        readable = self._fastest_first(rows)
        others = [row for row in rows if row.tier != DISK and row not in readable]
        problems = [problem for row in others if (problem := self._mover.access.problem(row))]
        on_tape, failed = False, False
        for i, row in enumerate(readable):
            portions = self._read_from(self._mover.tiers[row.tier], source, row, find, start, stop)
            stream = TierStream(portions, self._threads[row.tier], text)
            probe = self._mover.access.probes[row.tier]
            is_last = all(self._mover.tiers[later.tier].kind == TAPE for later in readable[i + 1 :])
            patience = _PATIENCE_SECONDS if is_last and not probe.error else _SHORT_PATIENCE_SECONDS
            try:
                async with asyncio.timeout(patience):
                    await stream.begin()
            except TimeoutError:
                failed = True
                problems.append(f"tier {row.tier} has not answered for {patience:g} s")
                probe.begin(0)
            except NotOnline:
                on_tape = True
            except TierError as error:
                failed = True
                problems.append(str(error))
            except PackDamaged as error:
                problems.append(f"{row.tier}: {error}")
            else:
                return stream
        if on_tape and not failed:
            raise NotOnline(text)
        raise TierFailed(f"{text} cannot be read: {'; '.join(problems)}")

    def _fastest_first(self, rows: Iterable[ReplicaRow]) -> list[ReplicaRow]:
        """Return the replicas that may be read; those of tiers that did not answer last time come last."""
        tiers, probes = self._mover.tiers, self._mover.access.probes
        found = [row for row in rows if row.state is ReplicaState.VERIFIED and row.tier in tiers]
        return sorted(found, key=lambda row: (probes[row.tier].error is not None, tiers[row.tier].kind == TAPE))

    # ---- in threads

    def _find(self, pack: str) -> tuple[PackSource, list[ReplicaRow]] | None:
        """Return a pack that was given to a tier, with its replicas, else None."""
        try:
            source = self._pack(pack)
        except NotFound:  # it is not archived
            return None
        rows = list(self._ledger.of(source).values())
        in_tiers = [row for row in rows if row.tier != DISK]
        is_readable = any(row.state is ReplicaState.VERIFIED and row.tier in self._mover.tiers for row in in_tiers)
        return (source, rows) if is_readable or (in_tiers and source.is_dropped) else None

    def _read_from(  # noqa: PLR0913, PLR0917 (where the bytes are)
        self, tier: Tier, source: PackSource, row: ReplicaRow, find: FindMember, start: int, stop: int
    ) -> Iterator[bytes]:
        """Yield bytes of a member; mark a replica that has others as LOST, so that it is written again."""
        if _is_offline(tier, row):
            raise NotOnline(f"tier {tier.name}: {row.key}")
        pack = _pack(tier, source, row)
        member = find(pack)
        begin, _ = pack.span(member.name)
        with self._ledger.losing(source, row):
            try:
                if member.size > _LARGEST_IN_MEMORY:
                    whole = member.sha256 if stop - start == member.size else None
                    yield from _compared(tier.read(row.key, begin + start, begin + stop), whole, member.name)
                else:
                    content = tier_range(tier, row.key)(begin, begin + member.size)
                    if hashlib.sha256(content).hexdigest() != member.sha256:
                        raise PackDamaged([f"{member.name} differs in sha256"])
                    yield content[start:stop]
            except NotThere as error:
                raise PackDamaged([str(error)]) from error
            except TierError as error:
                if _is_offline(tier, row):  # it went offline meanwhile
                    raise NotOnline(str(error)) from error
                raise
        now = steady_ns()
        if now - (row.used or 0) >= _USE:
            self._ledger.write(partial(replicas.note_used, pack=row.pack, tier=row.tier, now=now))


class TierStream:
    """Bytes that are read from a tier while they are sent."""

    def __init__(self, portions: Iterator[bytes], threads: OwnThreads, text: str) -> None:
        self._portions = portions
        self._threads = threads
        self._text = text
        self._first = b""

    async def begin(self) -> None:
        """Read the first bytes; raise TierError or PackDamaged if the tier does not have them now."""
        self._first = await self._next()

    async def read(self) -> bytes:
        """Return the next bytes, none at the end; raise TierFailed if they do not arrive, or differ."""
        if self._first:
            first, self._first = self._first, b""
            return first
        try:
            return await self._next()
        except (TierError, PackDamaged) as error:
            raise TierFailed(f"{self._text} cannot be read: {error}") from error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while portion := await self.read():
            yield portion

    async def _next(self) -> bytes:
        return await self._threads.run(partial(next, self._portions, b""))


def _pack(tier: Tier, source: PackSource, row: ReplicaRow) -> Pack:
    """Return a pack; if its manifest cannot be read, by the head of a verified replica, from which it is restored.

    Raise TierError if the replica does not have it either.
    """
    try:
        return source.pack
    except VolumeFailed as error:
        problem = error.detail
    try:
        pack = checked_head(row.key, partial(read_head, tier_range(tier, row.key)))
    except ValueError as error:
        raise TierError(f"tier {tier.name}: {row.key} cannot be used: {error}; {problem}") from error
    if pack.size != row.size:
        raise TierError(f"tier {tier.name}: {row.key} should have {pack.size} bytes, not {row.size}; {problem}")
    done = f"its manifest is restored from tier {tier.name}"
    try:
        restore_manifest(source.folder, pack)
    except VolumeError as error:  # the next reader tries it again
        done = f"its manifest is read in tier {tier.name}, and cannot be restored: {error.detail}"
    log.warning("%s: %s; %s", source.text, problem, done, extra={"event": "manifest-unreadable", **source.fields})
    return pack


def _is_offline(tier: Tier, row: ReplicaRow) -> bool:
    return tier.kind == TAPE and tier.locality([row.key])[row.key] is not Locality.ONLINE


def _compared(chunks: Iterable[bytes], sha256: str | None, name: str) -> Iterator[bytes]:
    """Yield chunks; if they are all of a member, the last one only if it has the SHA-256, else raise PackDamaged."""
    digest, held = hashlib.sha256(), b""
    for chunk in chunks:
        digest.update(chunk)
        if held:
            yield held
        held = chunk
    if sha256 is not None and digest.hexdigest() != sha256:
        raise PackDamaged([f"{name} differs in sha256"])
    yield held


def not_readable(recall: Recall) -> OnTape | TierFailed:
    """Return the error for bytes that a recall brings: TierFailed if it failed for good."""
    text = on_tape_text(recall)
    failed = recall.state is RecallState.FAILED
    return TierFailed(text) if failed else OnTape(text, retry_after=max(recall.seconds, 1))


def in_memory(content: bytes) -> BinaryIO:
    """Return a file with a descriptor, as a response needs it, that has no name."""
    file: BinaryIO
    if sys.platform == "linux":
        file = os.fdopen(os.memfd_create("segment"), "w+b")
    else:
        file = TemporaryFile()  # noqa: SIM115 (the caller closes it)
    file.write(content)
    file.seek(0)
    return file
