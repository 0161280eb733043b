"""Check that a buffer finishes what a kill at any call of a move would leave: run by `test_mover_kills`.

`python -m tests.support.mover_kills HOME` forks a buffer for each scenario. Before each call that a step makes of its
tier, of the ledger and of the file system, the process is stopped and its files are copied: a kill would leave the
same. Copies that are the same in every byte are examined once: ledger and files are looked at, and another buffer is
started and has to bring everything to what the policy asks for. It prints the number of calls of each scenario.
"""

import asyncio
import hashlib
import json
import logging
import os
import shutil
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

import databuffer.records.records
from databuffer.app import create_store
from databuffer.buffer import Buffer
from databuffer.holdings.contents import Contents
from databuffer.storage.catalog import Catalog, Database
from databuffer.storage.catalog.batches import FILES_RECORD
from databuffer.storage.store import Store
from databuffer.tiers.backends.folder import FolderTier
from databuffer.tiers.ledger import replicas
from databuffer.tiers.moves.replica_ledger import ReplicaLedger
from databuffer.tiers.packs import pack
from databuffer.tiers.packs.comparison import compare
from databuffer.tiers.packs.pack import (
    Pack,
    PackDamaged,
    files_key,
    files_pack,
    folder_chunks,
    folder_pack,
    key_of,
    pack_chunks,
)
from databuffer.tiers.packs.packs import public_name
from databuffer.tiers.tier import Stored
from databuffer.tiers.upkeep import sweep
from gwwire.datastore import FlushOrder
from gwwire.holdings import NewFile, TransactionOrder
from gwwire.records import StepState
from gwwire.tiering import DISK, Tiering
from tests.support.buffer_settings import settings_in
from tests.support.compiled import share_compiled_statements
from tests.support.file_packs import ANYBODY, put_files, send_file
from tests.support.segments import segment_body

T = TypeVar("T")

_SYSTEM_CALLS = ("open", "write", "fsync", "rename", "replace", "unlink", "mkdir")
_SEGMENTS = 3
_SECONDS = 60


class Stops:
    """Stops this process before each call in the threads of steps, if `on`; its parent lets it go on."""

    def __init__(self, *, on: bool = False) -> None:
        self._on = on
        if on:
            for name in _SYSTEM_CALLS:
                setattr(os, name, self._with_stop(getattr(os, name)))

    def call(self) -> None:
        """Stop before a call."""
        if self._on and threading.current_thread().name.startswith("step"):
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # all threads stop, this one within the call

    def _with_stop(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.call()
            return real(*arguments, **options)

        return call


class StoppedTier(FolderTier):
    """A tier that stops the process before its calls, before each chunk, and after a change."""

    def __init__(self, name: str, root: Path, stops: Stops) -> None:
        root.mkdir(exist_ok=True)
        super().__init__(name, root)
        self.kind = name
        self._stops = stops

    def write(self, key: str, size: int, chunks: Iterable[bytes]) -> None:
        self._stops.call()
        super().write(key, size, self._counted(chunks))
        self._stops.call()

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        self._stops.call()
        return self._counted(super().read(key, start, stop))

    def stat(self, key: str) -> Stored | None:
        self._stops.call()
        return super().stat(key)

    def delete(self, key: str) -> None:
        self._stops.call()
        super().delete(key)
        self._stops.call()

    def _counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._stops.call()
            yield chunk


class StoppedLedger(ReplicaLedger):
    """A ledger that stops the process before its changes begin and after they are committed."""

    def __init__(self, *parts: Any, stops: Stops) -> None:
        super().__init__(*parts)
        self._stops = stops

    def write(self, change: Callable[[sa.Connection], T], *, with_reserve: bool = False) -> T:
        self._stops.call()
        done = super().write(change, with_reserve=with_reserve)
        self._stops.call()
        return done


@dataclass(frozen=True)
class OnDisk:
    """The pack that is moved, and its bytes as they are on the disk."""

    record: str
    key: str
    pack: Pack
    chunks: Callable[[], Iterator[bytes]]


class Home:
    """The folders of a buffer and of its tiers."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.settings = settings_in(root)
        #: Shared by all buffers: what SQLAlchemy has compiled once is there in each fork.
        self._database = Database(self.settings.ADMROOT / "catalog.sqlite")

    def buffer(self, stops: Stops, tiers: Iterable[str], holding_tiering: Tiering | None = None) -> Buffer:
        """Return a buffer that is not open yet."""
        found = create_store(self.settings)
        catalog = Catalog(self._database, self.settings.DTVOLROOT / ".ledger")
        store = Store(found.volume, found.metadata, catalog, found.current.log, found.next.log)
        places = {name: StoppedTier(name, self.root / name, stops) for name in tiers}
        pytest.MonkeyPatch().setattr("databuffer.buffer.ReplicaLedger", partial(StoppedLedger, stops=stops))
        # The high-water mark is as it is, whatever else is on the disk.
        return Buffer(store, queue_size=16, tiers=places, high_water=1.0, holding_tiering=holding_tiering)

    @property
    def folder(self) -> Path:
        """The folder of the archived batch."""
        [folder] = self.settings.DTVOLROOT.glob("2*")
        return folder

    @property
    def packed(self) -> OnDisk:
        """The pack of the archived batch, or of the files of a transaction."""
        if folders := list(self.contents.packs.glob("*")):
            [folder] = folders
            files = files_pack(folder)
            chunks = partial(pack_chunks, files, lambda member: self.contents.path(member.sha256))
            return OnDisk(FILES_RECORD + folder.name, files_key(folder.name), files, chunks)
        batch = folder_pack(self.folder)
        name = batch.manifest.batch
        return OnDisk(f"batch/{name}", key_of(name), batch, partial(folder_chunks, self.folder, batch))

    @property
    def contents(self) -> Contents:
        """The contents of files on the disk."""
        return Contents(self.settings.DTVOLROOT / ".holdings")

    def file(self, tier: str) -> Path:
        """The file of the pack in a tier."""
        return self.root / tier / self.packed.key

    def inodes(self, tiers: Iterable[str]) -> dict[str, int]:
        """Return the inodes of the files of the pack."""
        return {tier: self.file(tier).stat().st_ino for tier in tiers if self.file(tier).exists()}

    def is_whole(self, tier: str) -> bool:
        """Return whether a replica has every byte, whatever the ledger says."""
        found = self.packed
        try:
            compare(found.pack, found.chunks() if tier == DISK else [self.file(tier).read_bytes()])
        except (PackDamaged, FileNotFoundError):
            return False
        return True

    def states(self) -> dict[str, str]:
        """Return the states of the replicas in the ledger of a buffer that does not run."""
        with closing(sqlite3.connect(self.settings.ADMROOT / "catalog.sqlite")) as connection:
            return dict(connection.execute("SELECT tier, state FROM replicas").fetchall())


class Scenario:
    """A process to kill: its start, its end, and the conditions that hold at any time and at its end."""

    tiers: tuple[str, ...] = ("object",)
    #: The replicas at the end, all of them VERIFIED.
    wanted = frozenset({"object"})
    #: The tiers that have evicted theirs at the end.
    evicted = frozenset[str]()
    #: A step to request.
    step = ""

    @property
    def states(self) -> dict[str, str]:
        """The states of the replicas at the end."""
        return dict.fromkeys(self.wanted, "VERIFIED") | dict.fromkeys(self.evicted, "EVICTED")

    #: The policy of files of holdings.
    holding_tiering: Tiering | None = None

    async def order(self, buffer: Buffer, record: str) -> None:
        """Order what is to be done, again if that was begun."""
        if self.step:
            await buffer.records.request(record, self.step)

    async def begin(self, home: Home) -> None:
        """Archive a batch with the policy to be copied and dropped at once."""
        await archive(home, Tiering(self.tiers, 0))

    def check_kept(self, home: Home) -> None:
        """Check that what has to stay on the disk is there."""

    def check_written_once(self, before: dict[str, int], after: dict[str, int]) -> None:
        """Check that what was whole when the process died was not written again."""
        for tier, inode in before.items():
            assert after.get(tier) == inode, f"{tier} was written again"


class CopyAndDrop(Scenario):
    """A batch is copied to a tier, and dropped from the disk."""


class Files(Scenario):
    """The files of a transaction are copied to a tier and dropped, but for a content that another file has, too."""

    holding_tiering = Tiering(("object",), 0)

    async def begin(self, home: Home) -> None:
        buffer = home.buffer(Stops(), (), self.holding_tiering)
        await buffer.open()
        await put_files(buffer, {"/shared": b"shared", "/a": b"a" * 3000, "/b": b""})
        other = TransactionOrder([NewFile("/shared", size=6), NewFile("/waits", size=1)], label="other")
        await send_file(buffer, (await buffer.holdings.put(ANYBODY, other)).transaction, "/shared", b"shared")
        await asyncio.to_thread(buffer._sweep._seals.seal)  # noqa: SLF001 (without tiers, nobody sweeps)
        await buffer.close()

    def check_kept(self, home: Home) -> None:
        assert [path.read_bytes() for path in home.contents.objects.glob("*/*")] == [b"shared"]


class Scrub(Scenario):
    """A replica that was altered is found and written again; the disk keeps the batch."""

    wanted = frozenset({"object", DISK})
    step = "scrub"

    async def begin(self, home: Home) -> None:
        await archive(home, Tiering(self.tiers))
        buffer = home.buffer(Stops(), self.tiers)
        await buffer.open()
        await settled(buffer, home, self)
        await buffer.close()
        with closing(sqlite3.connect(home.settings.ADMROOT / "catalog.sqlite")) as connection, connection:
            connection.execute("UPDATE replicas SET verified = 1 WHERE tier = 'object'")
        content = bytearray(home.file("object").read_bytes())
        content[-2000] ^= 1
        home.file("object").write_bytes(content)


class Restore(Scrub):
    """A segment that is missing on the disk is found, and read back from the tier."""

    async def begin(self, home: Home) -> None:
        await super().begin(home)
        home.file("object").write_bytes(b"".join(folder_chunks(home.folder, folder_pack(home.folder))))
        with closing(sqlite3.connect(home.settings.ADMROOT / "catalog.sqlite")) as connection, connection:
            connection.execute("UPDATE replicas SET verified = 0 WHERE tier = 'disk'")
        next(home.folder.glob("gwb*.json")).unlink()


class Evict(Scenario):
    """A pack that is on tape too leaves the object store."""

    tiers = ("object", "tape")
    wanted = frozenset({"tape"})
    evicted = frozenset({"object"})
    step = "drop:object"

    async def begin(self, home: Home) -> None:
        await super().begin(home)
        buffer = home.buffer(Stops(), self.tiers)
        await buffer.open()
        await settled(buffer, home, CopyToBoth())
        await buffer.close()

    def check_written_once(self, before: dict[str, int], after: dict[str, int]) -> None:
        super().check_written_once({"tape": before["tape"]}, after)


class CopyToBoth(Evict):
    """A batch is copied to two tiers."""

    wanted = frozenset({"object", "tape"})
    evicted = frozenset()


class Recall(CopyToBoth):
    """A pack that is on tape only is brought back to the object store."""

    async def begin(self, home: Home) -> None:
        await super().begin(home)
        evict = Evict()
        buffer = home.buffer(Stops(), self.tiers)
        await buffer.open()
        await evict.order(buffer, home.packed.record)
        await settled(buffer, home, evict)
        await buffer.close()

    async def order(self, buffer: Buffer, record: str) -> None:
        await buffer.recalls.ask(public_name(record), "a")

    def check_written_once(self, before: dict[str, int], after: dict[str, int]) -> None:
        Scenario.check_written_once(self, before, after)


SCENARIOS: dict[str, Scenario] = {
    "copy-and-drop": CopyAndDrop(),
    "files": Files(),
    "scrub": Scrub(),
    "restore": Restore(),
    "evict": Evict(),
    "recall": Recall(),
}


async def archive(home: Home, tiering: Tiering) -> None:
    """Archive a batch in a buffer without tiers."""
    buffer = home.buffer(Stops(), ())
    await buffer.open()
    for number in range(_SEGMENTS):
        await buffer.ingest.append(segment_body(number))
    await buffer.batches.flush(FlushOrder(tiering=tiering))
    await buffer.close()


async def settled(buffer: Buffer, home: Home, scenario: Scenario) -> None:
    """Wait until the replicas are as they should be, and no step waits."""
    record = home.packed.record
    async with asyncio.timeout(_SECONDS):
        while True:
            steps = (await buffer.records.get(record)).steps  # first: what a step changes is seen then
            rows = await buffer.queries.read(lambda connection: replicas.of_pack(connection, record))
            found = {row.tier: row.state for row in rows}
            if found == scenario.states and all(s.state is StepState.DONE for s in steps):
                return
            await asyncio.sleep(0.01)


async def perform(home: Home, scenario: Scenario, stops: Stops) -> None:
    """Open a buffer, and wait until it has done all that is to do."""
    buffer = home.buffer(stops, scenario.tiers, scenario.holding_tiering)
    await buffer.open()
    await scenario.order(buffer, home.packed.record)
    await settled(buffer, home, scenario)
    await buffer.close()


def fork(work: Callable[[], object]) -> int:
    """Do something in a fork of this process; return its id. Its exit code is 1 if an error was raised."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 (the parent sees the exit code)
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
        os._exit(0)
    return child


def exit_code(child: int) -> int:
    """Wait for a fork; return its exit code, negative if a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def copies_at_each_call(home: Home, scenario: Scenario, folder: Path) -> tuple[int, list[Path]]:
    """Perform a scenario in a fork, copy its home before each call; return their number, and one of equal copies."""
    child = fork(lambda: asyncio.run(perform(home, scenario, Stops(on=True))))
    copies: dict[str, Path] = {}
    for number in count():
        status = os.waitpid(child, os.WUNTRACED)[1]
        if not os.WIFSTOPPED(status):
            assert status == 0, "it failed"
            return number, list(copies.values())
        copy = folder / str(number)
        shutil.copytree(home.root, copy)
        if copies.setdefault(digest(copy), copy) != copy:
            shutil.rmtree(copy)
        os.kill(child, signal.SIGCONT)
    raise AssertionError


def digest(folder: Path) -> str:
    """Return the digest of the names and bytes of all files but the index of the WAL, which SQLite builds anew."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if not path.name.endswith("-shm"):
            content = path.read_bytes() if path.is_file() else b""
            found.update(f"{path.relative_to(folder)} {path.is_file()} {len(content)}\n".encode() + content)
    return found.hexdigest()


def check_dead(home: Home, scenario: Scenario) -> dict[str, int]:
    """Check what a kill would leave; return the inode of each whole replica in a tier."""
    places = (DISK, *scenario.tiers)
    whole = {tier for tier in places if home.is_whole(tier)}
    assert whole, "no replica is left"
    counted = {tier for tier, state in home.states().items() if state == "VERIFIED"}
    damaged = {DISK} if isinstance(scenario, Restore) else {"object"} if isinstance(scenario, Scrub) else set()
    assert counted - whole <= damaged, f"{counted - whole} are VERIFIED and not whole"
    return home.inodes(whole & set(scenario.tiers))


def check_each_call(root: Path, scenario: Scenario) -> int:
    """Check what a kill before each call leaves, and that the next buffer finishes it; return the number of calls."""
    root.mkdir()
    original, home = root / "original", Home(root / "home")
    asyncio.run(scenario.begin(home))
    home.root.rename(original)
    shutil.copytree(original, home.root)
    asyncio.run(perform(home, scenario, Stops()))  # so that the fork finds everything imported and compiled
    shutil.rmtree(home.root)
    original.rename(home.root)
    calls, copies = copies_at_each_call(home, scenario, root)
    for copy in copies:
        shutil.rmtree(home.root)
        copy.rename(home.root)
        check_finished(home, scenario, copy.name)
    return calls


def check_finished(home: Home, scenario: Scenario, call: str) -> None:
    """Check what was left before a call, and that a buffer brings it to the end of the scenario."""
    inodes = check_dead(home, scenario)
    asyncio.run(perform(home, scenario, Stops()))
    assert home.states() == scenario.states, call
    assert all(map(home.is_whole, scenario.wanted)), call
    assert not any(home.file(tier).exists() for tier in scenario.evicted), call
    scenario.check_written_once(inodes, home.inodes(scenario.tiers))
    assert home.is_whole(DISK) == (DISK in scenario.wanted), call
    scenario.check_kept(home)


def check_scenario(root: Path, name: str) -> None:
    """Check a scenario; write the number of its calls to a file."""
    calls = check_each_call(root / name, SCENARIOS[name])
    (root / f"{name}.calls").write_text(str(calls))


def main(root: Path) -> None:
    """Print the number of calls of each scenario; a process checks each."""
    pack.CHUNK = 2048
    sweep._PAUSE_SECONDS = databuffer.records.records._LOOK_SECONDS = 0.03  # noqa: SLF001 (a faster test)
    logging.disable()
    share_compiled_statements()
    children = [fork(partial(check_scenario, root, name)) for name in SCENARIOS]
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    if any(codes):
        sys.exit(1)
    sys.stdout.write(json.dumps({name: int((root / f"{name}.calls").read_text()) for name in SCENARIOS}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
