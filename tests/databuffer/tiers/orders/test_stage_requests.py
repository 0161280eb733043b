"""Stage requests of the Tape REST API survive a restart, and are limited; see tests/system/test_tape_api.py."""

import asyncio
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from databuffer.buffer import Buffer
from databuffer.errors import NotFound, TooManyStaged
from databuffer.holdings.rows import Caller
from databuffer.storage.clock import steady_ns
from databuffer.tiers.backends.tape_library.library import TapeTier
from databuffer.tiers.ledger import replicas
from databuffer.tiers.orders import stage_requests
from gwwire.tape import StagedFile, StageState
from gwwire.tiering import DISK, ReplicaState, Tiering
from tests.support.archives import CountingTier, OpenBuffer, archive, until
from tests.support.file_packs import ANYBODY, put_files, until_packed

pytestmark = pytest.mark.anyio


async def test_a_batch_that_the_cache_cannot_hold_fails_with_the_reason_also_after_a_restart(
    opening: OpenBuffer, tmp_path: Path, tape: TapeTier
) -> None:
    tiers = CountingTier(tmp_path / "object", capacity=100), tape
    buffer = await opening(*tiers)
    batch, _ = await archive(buffer, Tiering(("tape",), 0))
    await until(buffer, batch, {"tape": ReplicaState.VERIFIED})
    request = await buffer.stage_requests.begin(ANYBODY, [f"/batches/{batch}"])
    before = await buffer.stage_requests.get(ANYBODY, request)
    [file] = before.files
    assert file.state is StageState.FAILED
    assert "packs in tier object may have 100" in str(file.error)
    await buffer.close()
    assert await (await opening(*tiers)).stage_requests.get(ANYBODY, request) == before


async def test_without_a_tape_everything_is_on_the_disk(opening: OpenBuffer) -> None:
    buffer = await opening()
    batch, _ = await archive(buffer, None)
    path = f"/batches/{batch}"
    request = await buffer.stage_requests.begin(ANYBODY, [path])
    assert (await buffer.stage_requests.get(ANYBODY, request)).files == [
        StagedFile(path, StageState.COMPLETED, on_disk=True)
    ]
    assert [info.locality for info in await buffer.stage_requests.archive_info(ANYBODY, [path])] == ["DISK"]


async def test_files_of_holdings_are_staged_for_those_who_may_read_them(opening: OpenBuffer, tape: TapeTier) -> None:
    buffer = await opening(tape, holding_tiering=Tiering(("tape",), 0))
    made = await put_files(buffer, {"/data/a b": b"a"})
    path = f"/holdings/{made.holding}/files/data/a%20b"
    await until_packed(buffer, made, {"tape": ReplicaState.VERIFIED})
    assert [info.locality for info in await buffer.stage_requests.archive_info(ANYBODY, [path])] == ["TAPE"]
    [hidden] = await buffer.stage_requests.archive_info(Caller("eve", "others"), [path])
    assert "there is no" in str(hidden.error)
    request = await buffer.stage_requests.begin(ANYBODY, [path])
    await until_packed(buffer, made, {DISK: ReplicaState.VERIFIED, "tape": ReplicaState.VERIFIED})
    [staged] = (await buffer.stage_requests.get(ANYBODY, request)).files
    assert staged == StagedFile(path, StageState.COMPLETED, on_disk=True)
    await buffer.stage_requests.release(ANYBODY, request, [path])
    await until_packed(buffer, made, {"tape": ReplicaState.VERIFIED})


async def test_a_file_of_a_holding_is_found_by_each_spelling_of_its_path(opening: OpenBuffer) -> None:
    buffer = await opening()
    made = await put_files(buffer, {"/data/a b": b"a"})
    paths = [f"/holdings/{made.holding}/files/data/{name}" for name in ("a b", "a%20b", "%61%20b")]
    found = await buffer.stage_requests.archive_info(ANYBODY, paths)
    assert [(info.path, info.locality) for info in found] == [(path, "DISK") for path in paths]


async def test_all_requests_together_have_a_limit_and_end_with_their_pins(
    opening: OpenBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_requests, "_MOST_STAGED", 3)
    buffer = await opening(recall_pin=3600)
    now = steady_ns()
    request = await buffer.stage_requests.begin(ANYBODY, ["/a", "/b"])
    with pytest.raises(TooManyStaged, match="3 paths are staged already"):
        await buffer.stage_requests.begin(ANYBODY, ["/c", "/d"])
    monkeypatch.setattr(stage_requests, "steady_ns", lambda: now + 2 * 3600 * 10**9)
    with pytest.raises(NotFound):
        await buffer.stage_requests.get(ANYBODY, request)
    await buffer.stage_requests.begin(ANYBODY, ["/c", "/d"])


async def test_a_large_request_is_answered_before_all_its_recalls_have_begun(
    opening: OpenBuffer, tier: CountingTier, tape: TapeTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = await opening(tier, tape)
    batches = [(await archive(buffer, Tiering(("tape",), 0), 1))[0] for _ in range(2)]
    for batch in batches:
        await until(buffer, batch, {"tape": ReplicaState.VERIFIED})
    monkeypatch.setattr(stage_requests, "_PATIENCE_SECONDS", 0.0)
    async with buffer.recalls._asking:  # noqa: SLF001 (so that the recalls cannot begin yet)
        request = await buffer.stage_requests.begin(ANYBODY, [f"/batches/{batch}" for batch in batches])
        files = (await buffer.stage_requests.get(ANYBODY, request)).files
        assert {file.state for file in files} == {StageState.SUBMITTED}
    for batch in batches:
        await until(buffer, batch, {"tape": ReplicaState.VERIFIED, "object": ReplicaState.VERIFIED})
    files = (await buffer.stage_requests.get(ANYBODY, request)).files
    assert {file.state for file in files} == {StageState.COMPLETED}


async def test_a_request_is_looked_at_with_as_few_statements_for_many_batches_as_for_one(
    opening: OpenBuffer, tier: CountingTier, tape: TapeTier
) -> None:
    buffer = await opening(tier, tape)
    batch, _ = await archive(buffer, Tiering(("tape",), 0), 1)
    await until(buffer, batch, {"tape": ReplicaState.VERIFIED})
    catalog, names = buffer._store.catalog, [f"b{number}" for number in range(50)]  # noqa: SLF001 (faster than 50 archives)
    row = catalog.batches.get(batch)
    assert row
    for name in names:
        catalog.batches.put(replace(row, id=name))

    def put_replicas(connection: sa.Connection) -> None:
        [replica] = replicas.of_pack(connection, f"batch/{batch}")
        for name in names:
            replicas.put(connection, replace(replica, pack=f"batch/{name}", key=name))

    await buffer._replicas.change(put_replicas)  # noqa: SLF001
    one, many = [
        await buffer.stage_requests.begin(ANYBODY, list(map("/batches/{}".format, some))) for some in (names[:1], names)
    ]
    while buffer.stage_requests._tasks:  # noqa: ASYNC110, SLF001 (there is no event)
        await asyncio.sleep(0.01)
    assert 0 < await statements(buffer, one) == await statements(buffer, many)


async def statements(buffer: Buffer, request: str) -> int:
    """Return the number of statements with which the catalog is asked how far a request is."""
    mine, found = ContextVar("mine", default=False), []

    def note(*_: object) -> None:
        if mine.get():
            found.append(1)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    mine.set(True)
    try:
        await buffer.stage_requests.get(ANYBODY, request)
    finally:
        mine.set(False)
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    return len(found)


async def test_a_request_that_is_deleted_while_its_recalls_begin_stays_deleted(
    opening: OpenBuffer, tier: CountingTier, tape: TapeTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = await opening(tier, tape)
    batch, _ = await archive(buffer, Tiering(("tape",), 0), 1)
    await until(buffer, batch, {"tape": ReplicaState.VERIFIED})
    monkeypatch.setattr(stage_requests, "_PATIENCE_SECONDS", 0.0)
    async with buffer.recalls._asking:  # noqa: SLF001 (so that the recalls cannot begin yet)
        request = await buffer.stage_requests.begin(ANYBODY, [f"/batches/{batch}"])
        await buffer.stage_requests.delete(ANYBODY, request)
    while buffer.stage_requests._tasks:  # noqa: ASYNC110, SLF001 (there is no event)
        await asyncio.sleep(0.01)
    with pytest.raises(NotFound):
        await buffer.stage_requests.get(ANYBODY, request)
    assert not await buffer.records.steps_named("recall")


@pytest.mark.parametrize(
    ("maker", "member", "stranger"),
    [
        (Caller("ann", "cbc"), Caller("bob", "cbc"), Caller("eve", "others")),
        (Caller("ann", "cbc"), Caller("bob", "cbc"), Caller("ann", None)),
        (Caller("ann", None), Caller("ann", None), Caller("eve", None)),
    ],
)
async def test_a_request_belongs_to_the_group_that_made_it(
    opening: OpenBuffer, maker: Caller, member: Caller, stranger: Caller
) -> None:
    buffer = await opening()
    staging, path = buffer.stage_requests, "/segments/gwb1.json"
    request = await staging.begin(maker, [path])
    before = await staging.get(member, request)
    for order in (staging.get, staging.delete, partial(staging.cancel, paths=[path])):
        with pytest.raises(NotFound):
            await order(stranger, request)
    await staging.release(stranger, request, [path])
    assert await staging.get(member, request) == before
    await staging.delete(member, request)
    with pytest.raises(NotFound):
        await staging.get(maker, request)
