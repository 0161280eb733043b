"""Damage of derived files, found at a start or at run time, stops nothing and loses no segment."""

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import pytest

from databuffer.app import create_buffer
from databuffer.buffer import Buffer
from databuffer.errors import VolumeFailed
from databuffer.settings import BufferSettings, OnFrozen
from databuffer.storage.catalog import Catalog, SegmentFilter
from databuffer.storage.manifest import differences, read_manifest
from databuffer.storage.store import Store
from gwwire.datastore import FreezeOrder
from gwwire.public import BatchState
from tests.support import foreign
from tests.support.buffer_settings import settings_in
from tests.support.segments import segment_body

anyio = pytest.mark.anyio
PAGE = 4096
RANDOM = random.Random(20261129)
KEYS = [f"{number:->200}" for number in (*range(12), *range(20, 32), *range(40, 44))]
FOREIGN = "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT); INSERT INTO notes VALUES (1, 'of another program')"


@dataclass(frozen=True)
class UsedVolume:
    """A volume with an archive, a frozen batch, and a next batch; and its expected content."""

    home: Path
    batch: str
    digest: str
    names: list[str]


def settings_of(home: Path) -> BufferSettings:
    return settings_in(home, ON_FROZEN=OnFrozen.ROTATE)


async def use(buffer: Buffer, home: Path) -> UsedVolume:
    async def store(first: int, many: int) -> list[str]:
        orders = [
            buffer.ingest.append(segment_body(number, samples=3), f"{number:->200}")
            for number in range(first, first + many)
        ]
        return [stored.name for stored in await asyncio.gather(*orders)]

    await buffer.open()
    names = await store(0, 12)
    await buffer.batches.flush()
    names += await store(20, 12)
    frozen = await buffer.batches.freeze(FreezeOrder("alice", "secret"))
    names += await store(40, 4)
    await buffer.close()
    return UsedVolume(home, frozen.batch, frozen.digest, names)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> UsedVolume:
    home = tmp_path_factory.mktemp("original") / "home"
    return asyncio.run(use(create_buffer(settings_of(home)), home))


@pytest.fixture
def used(original: UsedVolume, tmp_path: Path) -> UsedVolume:
    return copy_of(original, tmp_path / "home")


def copy_of(original: UsedVolume, home: Path) -> UsedVolume:
    shutil.copytree(original.home, home)
    return UsedVolume(home, original.batch, original.digest, original.names)


def catalog_of(used: UsedVolume) -> Path:
    return settings_of(used.home).ADMROOT / "catalog.sqlite"


@contextmanager
def recovered(used: UsedVolume) -> Iterator[tuple[Buffer, Store]]:
    buffer = create_buffer(settings_of(used.home))
    store = buffer._store  # noqa: SLF001 (the files below the buffer)
    buffer.recover()
    try:
        yield buffer, store
    finally:
        store.close()


def check(used: UsedVolume, buffer: Buffer, store: Store) -> None:
    """Check that the batch is frozen as before, and every segment is in its place, on the volume and in the catalog."""
    state = buffer.state
    assert state.frozen
    assert (state.description.user, state.current.id) == ("alice", used.batch)
    assert state.current.seal
    assert state.current.seal.digest == used.digest
    assert sorted(row.name for row in store.catalog.segments.find(SegmentFilter(limit=-1))) == sorted(used.names)
    assert sorted(path.name for path in store.volume.root.rglob("gwb*.json")) == sorted(used.names)
    assert (state.current.stats.n_itm, state.archived) == (12, 1)
    assert state.next
    assert state.next.stats.n_itm == 4
    row = store.catalog.batches.get(used.batch)
    assert row
    assert (row.state, row.holder, row.digest) == (BatchState.FROZEN, "alice", used.digest)
    for folder in [store.current.folder, *store.volume.archives()]:
        assert list(differences(folder, read_manifest(folder))) == []
    assert store.catalog.ledger.by_key(KEYS).keys() <= set(KEYS)


def zero(path: Path, *pages: int) -> None:
    with path.open("r+b") as file:
        for page in pages:
            file.seek(page * PAGE)
            file.write(bytes(PAGE))


def pages_of(path: Path) -> int:
    return path.stat().st_size // PAGE


def forget_clean_stop(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM clean_stop")
        connection.commit()


@pytest.mark.parametrize("clean", [True, False], ids=["after a clean stop", "after a crash"])
def test_a_catalog_with_any_page_zeroed_is_repaired_at_the_start_or_at_the_first_use(
    original: UsedVolume, tmp_path: Path, *, clean: bool
) -> None:
    number = pages_of(catalog_of(original))
    assert number > 15
    every = range(number) if clean else RANDOM.sample(range(number), 6)
    for page in every:
        used = copy_of(original, tmp_path / f"{page}")
        if not clean:
            forget_clean_stop(catalog_of(used))
        zero(catalog_of(used), page)
        with recovered(used) as (buffer, store):
            for _ in range(2):  # a page that no start reads is found when it is used
                try:
                    check(used, buffer, store)
                    break
                except VolumeFailed:
                    buffer.state.repair_catalog()
            check(used, buffer, store)
            assert clean or store.catalog.database.integrity_error() is None
        shutil.rmtree(used.home)


def test_a_catalog_with_several_random_pages_zeroed_is_repaired(original: UsedVolume, tmp_path: Path) -> None:
    for case in range(4):
        used = copy_of(original, tmp_path / f"{case}")
        path = catalog_of(used)
        forget_clean_stop(path)
        zero(path, *RANDOM.sample(range(pages_of(path)), 4))
        with recovered(used) as (buffer, store):
            check(used, buffer, store)


def make_folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()
    (path / "a file").write_bytes(b"of somebody")


def make_foreign(path: Path, script: str = FOREIGN) -> None:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)


def alter(script: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(script)

    return change


def cut(length: int) -> Callable[[Path], None]:
    return lambda path: os.truncate(path, length)


def link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def write_text(path: Path) -> None:
    path.write_text("This is not a database.\n" * 1000)


WRONG: dict[str, Callable[[Path], None]] = {
    "missing": Path.unlink,
    "empty": cut(0),
    "one byte": cut(1),
    "half a header": cut(50),
    "one page": cut(PAGE),
    "half a page": cut(5 * PAGE + 100),
    "without the last page": lambda path: os.truncate(path, path.stat().st_size - PAGE),
    "text": write_text,
    "a folder": make_folder,
    "a link to nothing": link_to_nothing,
    "a database of another program": make_foreign,
    "another table of segments": lambda path: make_foreign(
        path, "CREATE TABLE segments (id); CREATE TABLE batches (id)"
    ),
    "a schema without a version": alter("DELETE FROM schema"),
    "a version that is no number": alter("UPDATE schema SET version = 'new'"),
    "a missing table": alter("DROP TABLE spending"),
    "a missing column": alter("ALTER TABLE segments DROP COLUMN bytes"),
    "a missing counter": alter("DELETE FROM counter"),
    "an unknown state": alter("UPDATE batches SET state = 'MELTED'"),
    "text that is not UTF-8": alter("UPDATE batches SET holder = CAST(x'ff' AS TEXT)"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_file_that_is_not_the_catalog_is_moved_aside_and_the_catalog_rebuilt(used: UsedVolume, wrong: str) -> None:
    WRONG[wrong](catalog_of(used))
    with recovered(used) as (buffer, store):
        check(used, buffer, store)
    aside = catalog_of(used).with_name("catalog.sqlite.unreadable")
    assert os.path.lexists(aside) == (wrong != "missing")


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
@pytest.mark.parametrize("wrong", ["text", "empty", "a folder", "foreign"])
def test_files_beside_the_catalog_that_are_not_its_own_stop_nothing(used: UsedVolume, suffix: str, wrong: str) -> None:
    path = catalog_of(used)
    beside = path.with_name(path.name + suffix)
    match wrong:
        case "text":
            beside.write_text("This is not a log.\n" * 1000)
        case "empty":
            beside.touch()
        case "a folder":
            make_folder(beside)
        case _:
            other = path.with_name("other.sqlite")
            with closing(sqlite3.connect(other)) as connection:
                connection.executescript(f"PRAGMA journal_mode = WAL; {FOREIGN}")
                shutil.copy(other.with_name(other.name + suffix), beside)
    with recovered(used) as (buffer, store):
        check(used, buffer, store)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to every file")
def test_a_catalog_that_cannot_be_written_to_is_moved_aside(used: UsedVolume) -> None:
    catalog_of(used).chmod(0o444)
    with recovered(used) as (buffer, store):
        check(used, buffer, store)


@pytest.mark.parametrize(
    "name", ["adm/StatDesc.json", "adm/Dsstat.json", "log/LogStream.json", "datavar/.data.batch.json"]
)
@pytest.mark.parametrize("wrong", ["a folder", "binary", "missing", "empty", "nested"])
def test_a_state_file_that_is_damaged_or_not_a_file_stops_nothing(used: UsedVolume, name: str, wrong: str) -> None:
    path = used.home / name
    match wrong:
        case "a folder":
            make_folder(path)
        case "binary":
            path.write_bytes(b'{"n_itm":"\xff\xfe"}\n')
        case "missing":
            path.unlink()
        case "nested":
            path.write_bytes(b'{"x":' * 5000 + b"\n")
        case _:
            path.write_bytes(b"")
    with recovered(used) as (buffer, store):
        check(used, buffer, store)


@pytest.mark.parametrize("kind", foreign.FOREIGN)
def test_what_another_program_put_in_the_place_of_files_stops_nothing(used: UsedVolume, kind: str) -> None:
    volume = used.home / "datavar"
    places = [volume / name for name in ("data/MANIFEST.json", ".data.batch.json", ".reserve/3", ".incoming/.probe")]
    places += [used.home / name for name in ("adm/StatDesc.json", "adm/.StatDesc.json.3", "adm/.probe")]
    places += [used.home / "log/LogStream.json", volume / "next/gwb1999.json", volume / ".bundles"]
    for place in places:
        place.unlink(missing_ok=True)
        foreign.FOREIGN[kind](place)
    before = Path(foreign.__file__).read_bytes()
    with recovered(used) as (buffer, store):
        (store.volume.quarantine / "gwb1999.json").rename(used.home / "gwb1999.json")
        check(used, buffer, store)
        store.probe(1000)
    assert Path(foreign.__file__).read_bytes() == before


@pytest.mark.parametrize("kind", foreign.NO_FOLDERS)
def test_what_is_in_the_place_of_folders_is_moved_aside(used: UsedVolume, kind: str) -> None:
    volume = used.home / "datavar"
    folders = [".incoming", "quarantine", ".bundles", ".ledger", ".reserve"]
    folders += [".holdings/incoming", ".holdings/objects", ".holdings/packs"]
    (volume / ".holdings").mkdir(exist_ok=True)
    for name in folders:
        shutil.rmtree(volume / name, ignore_errors=True)
        foreign.FOREIGN[kind](volume / name)
    with recovered(used) as (buffer, store):
        check(used, buffer, store)
        store.catalog.backups.write(1)
    assert all((volume / name).is_dir() for name in folders if name != ".bundles")
    assert all(os.path.lexists(volume / f"{name}.unreadable") for name in folders)


@pytest.mark.parametrize(("call", "folder"), [("listdir", "datavar/.holdings/incoming"), ("open", "adm")])
def test_a_start_ends_with_one_line_if_a_folder_cannot_be_used(used: UsedVolume, call: str, folder: str) -> None:
    denied, settings = used.home / folder, settings_of(used.home)
    script = textwrap.dedent(f"""
        import os, sys
        from databuffer.__main__ import main

        allowed = os.{call}

        def denied(path, *arguments, **options):
            if str(path) == {str(denied)!r}:
                raise PermissionError(13, "Permission denied", str(path))
            return allowed(path, *arguments, **options)

        os.{call} = denied
        sys.exit(main([]))
    """)
    names = ("DTVOLROOT", "DATAROOT", "ADMROOT", "LOGROOT")
    environment = os.environ | {name: str(getattr(settings, name)) for name in names} | {"SERVURL": "127.0.0.1:0"}
    started = subprocess.run(
        [sys.executable, "-c", script], check=False, env=environment, capture_output=True, text=True, timeout=60
    )
    assert started.stderr.splitlines()[-1] == f"databuffer: cannot start: Permission denied: {denied}"
    assert "Traceback" not in started.stdout + started.stderr
    assert started.returncode == 1


def test_a_catalog_of_a_newer_release_is_refused_and_left_where_it_is(used: UsedVolume) -> None:
    alter("UPDATE schema SET version = 99; DELETE FROM clean_stop")(catalog_of(used))
    before = catalog_of(used).read_bytes()
    with pytest.raises(VolumeFailed, match="schema version 99 is newer than"), recovered(used):
        pass
    assert catalog_of(used).read_bytes() == before
    assert not list(catalog_of(used).parent.glob("*.unreadable"))


@pytest.mark.parametrize(
    "deletion",
    ["DELETE FROM segments", "DELETE FROM segments WHERE name IN (SELECT min(name) FROM segments GROUP BY batch)"],
    ids=["all", "some"],
)
def test_rows_that_another_program_deleted_are_added_again_after_a_clean_stop(used: UsedVolume, deletion: str) -> None:
    alter(deletion)(catalog_of(used))
    with recovered(used) as (buffer, store):
        check(used, buffer, store)
        assert store.catalog.segments.miscounted() == []


@pytest.mark.parametrize("name", ["9999-12-31 23 59", "2262-12-31 23 59", "0001-01-01 00 00"])
def test_a_folder_named_after_a_time_that_the_catalog_cannot_hold_is_an_archive(used: UsedVolume, name: str) -> None:
    volume = used.home / "datavar"
    shutil.copytree(volume / "next", volume / name)
    (volume / name / f"gwb{2**63 - 1}.json").write_bytes(b"of another program")
    with recovered(used) as (buffer, store):
        assert (buffer.state.frozen, buffer.state.archived) == (True, 2)
        assert [row.n_itm for row in store.catalog.batches.all() if row.path == name] == [4]


# ---- at run time


async def end_background_work(buffer: Buffer) -> None:
    """End all that uses the catalog by itself: it could find the damage first."""
    for part in (buffer._sweep, buffer.meta_reader, buffer.performer, buffer.holdings):  # noqa: SLF001 (all but requests)
        await part.close()
    await buffer.ingest.perform(lambda: None)  # after what they have asked for


def damage_running(buffer: Buffer, *, foreign: bool) -> None:
    """Overwrite the catalog, and close the idle connections, which know its pages."""
    database = buffer._store.catalog.database  # noqa: SLF001 (the file below the buffer)
    with database.writing() as connection:
        connection.exec_driver_sql("SELECT 1")
    with closing(sqlite3.connect(database.path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    if foreign:
        make_foreign(database.path)
    else:
        zero(database.path, *range(1, pages_of(database.path)))


@anyio
@pytest.mark.parametrize("foreign", [False, True], ids=["pages zeroed", "another database"])
async def test_a_query_that_finds_damage_is_answered_and_the_catalog_repaired(
    used: UsedVolume, *, foreign: bool
) -> None:
    buffer = create_buffer(settings_of(used.home))
    await buffer.open()
    await end_background_work(buffer)
    damage_running(buffer, foreign=foreign)
    many = await asyncio.gather(*(buffer.queries.segments(SegmentFilter()) for _ in range(8)))
    assert [sorted(row.name for row in rows) for rows in many] == [sorted(used.names)] * 8
    check(used, buffer, buffer._store)  # noqa: SLF001 (the files below the buffer)
    await buffer.queries.check_ready()
    await buffer.close()


@anyio
@pytest.mark.parametrize("found_by", ["a query", "a step"])
async def test_a_query_during_the_repair_is_answered_when_the_catalog_is_complete(
    used: UsedVolume, monkeypatch: pytest.MonkeyPatch, found_by: str
) -> None:
    buffer = create_buffer(settings_of(used.home))
    await buffer.open()
    await end_background_work(buffer)
    is_empty, may_go_on, real = Event(), Event(), Catalog.open

    def held(catalog: Catalog, **options: bool) -> None:
        real(catalog, **options)
        is_empty.set()
        may_go_on.wait(60)

    monkeypatch.setattr(Catalog, "open", held)
    damage_running(buffer, foreign=False)
    queries, step = [], None
    if found_by == "a query":
        queries.append(asyncio.create_task(buffer.queries.segments(SegmentFilter())))
    else:
        with pytest.raises(VolumeFailed):
            buffer._store.catalog.segments.find(SegmentFilter())  # noqa: SLF001 (as a thread of a step does)
        step = asyncio.create_task(buffer.ingest.perform(lambda: buffer.state.run(lambda: None)))
    assert await asyncio.to_thread(is_empty.wait, 60)
    queries.append(asyncio.create_task(buffer.queries.segments(SegmentFilter())))
    await asyncio.wait(queries, timeout=0.05)
    may_go_on.set()
    for rows in await asyncio.gather(*queries):
        assert sorted(row.name for row in rows) == sorted(used.names)
    if step:
        await step
    await buffer.close()


@anyio
@pytest.mark.parametrize("foreign", [False, True], ids=["pages zeroed", "another database"])
async def test_a_segment_that_meets_damage_is_stored_when_it_is_sent_again(used: UsedVolume, *, foreign: bool) -> None:
    buffer = create_buffer(settings_of(used.home))
    await buffer.open()
    await end_background_work(buffer)
    damage_running(buffer, foreign=foreign)
    with pytest.raises(VolumeFailed) as refused:
        await buffer.ingest.append(segment_body(99), "key-99")
    assert foreign or refused.value.retry_after == 1
    stored = await buffer.ingest.append(segment_body(99), "key-99")
    assert stored.name in [row.name for row in await buffer.queries.segments(SegmentFilter(limit=-1))]
    assert buffer.state.next
    assert buffer.state.next.stats.n_itm == 5
    await buffer.close()
