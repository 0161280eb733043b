"""The quotas of groups in single tiers: what counts for each, and what is refused."""

from pathlib import Path

import httpx2
import pytest

from databuffer.app import create_app
from databuffer.buffer import Buffer
from databuffer.holdings.quotas import Quotas
from databuffer.holdings.rows import Caller
from databuffer.storage.catalog.batches import FILES_RECORD
from databuffer.tiers.backends.tape_library.library import TapeTier
from gwservice.headers import GROUP_HEADER
from gwwire.holdings import NewFile, TransactionOrder
from gwwire.tiering import DISK, ReplicaState, Tiering
from tests.support.archives import CountingTier, OpenBuffer
from tests.support.file_packs import put_files, until_packed

pytestmark = pytest.mark.anyio

VERIFIED, EVICTED = ReplicaState.VERIFIED, ReplicaState.EVICTED
ALICE, CAROL = Caller("alice", "detchar"), Caller("carol", "burst")


async def reason(buffer: Buffer, size: int, caller: Caller = ALICE) -> str | None:
    """Return why a file of this size cannot be put, or None; it is given up again."""
    made = await buffer.holdings.put(caller, TransactionOrder([NewFile("/next", size=size)], label="next"))
    if made.files[0].reason is None:
        await buffer.holdings.uploads.give_up(caller, made.transaction.id, "/next", "tried")
    return made.files[0].reason


async def used(buffer: Buffer, group: str) -> dict[str, int | None]:
    return {tier.name: tier.quota_used for tier in (await buffer.tier_overview.overview(group)).tiers if tier.quota}


async def test_what_the_disk_has_dropped_counts_only_for_the_tier(opening: OpenBuffer, tier: CountingTier) -> None:
    quotas = Quotas(0, {DISK: 5000, "object": 8000})
    buffer = await opening(tier, holding_tiering=Tiering(("object",), 0), holding_quotas=quotas)
    made = await put_files(buffer, {"/a": b"a" * 4000, "/b": b"b" * 1000}, caller=ALICE)
    await until_packed(buffer, made, {"object": VERIFIED})
    assert await used(buffer, "detchar") == {DISK: 0, "object": 5000}
    assert await reason(buffer, 3000) is None
    refused = "3,001 bytes; group detchar has 3,000 left of its quota in object (HOLDING_TIER_QUOTA)"
    assert await reason(buffer, 3001) == refused
    assert await reason(buffer, 5000, CAROL) is None, "another group"
    refused = "5,001 bytes; group burst has 5,000 left of its quota in disk (HOLDING_TIER_QUOTA)"
    assert await reason(buffer, 5001, CAROL) == refused
    assert await reason(buffer, 10**9, Caller("dora", None)) is None, "a user without a group has no quota"


async def test_what_counts_for_a_tier_counts_from_the_put_until_it_is_evicted(
    opening: OpenBuffer, tier: CountingTier, tape: TapeTier
) -> None:
    quotas = Quotas(9000, {"object": 5000, "tape": 20_000})
    values = {"holding_tiering": Tiering(("object", "tape"), 0), "holding_quotas": quotas}
    buffer = await opening(tier, tape, **values)
    made = await put_files(buffer, {"/a": b"a" * 4000}, caller=ALICE)
    assert await used(buffer, "detchar") == {"object": 4000, "tape": 4000}, "before it is there"
    await until_packed(buffer, made, {"object": VERIFIED, "tape": VERIFIED})
    assert await used(buffer, "detchar") == {"object": 4000, "tape": 4000}
    assert "1,000 left of its quota in object (HOLDING_TIER_QUOTA)" in (await reason(buffer, 1001) or "")
    await buffer.records.request(FILES_RECORD + made.id, "drop:object")
    await until_packed(buffer, made, {"object": EVICTED, "tape": VERIFIED})
    assert await used(buffer, "detchar") == {"object": 0, "tape": 4000}
    assert await reason(buffer, 5000) is None
    refused = "5,001 bytes; group detchar has 5,000 left of its quota "
    assert (await reason(buffer, 5001) or "").startswith(refused)


async def test_the_tiers_say_the_quota_and_what_the_group_of_the_caller_uses(
    opening: OpenBuffer, tmp_path: Path
) -> None:
    buffer = await opening(CountingTier(tmp_path / "object"), holding_quotas=Quotas(0, {DISK: 5000}))
    await put_files(buffer, {"/a": b"a" * 40}, caller=ALICE)
    transport = httpx2.ASGITransport(create_app(buffer, max_body=1000))
    async with httpx2.AsyncClient(transport=transport, base_url="http://buffer") as client:
        for group, uses in (("detchar", 40), ("burst", 0), (None, None)):
            headers = {GROUP_HEADER: group} if group else {}
            [disk, other] = (await client.get("/tiers", headers=headers)).json()["tiers"]
            assert (disk["quota"], disk["quota_used"]) == (5000, uses)
            assert (other["quota"], other["quota_used"]) == (None, None)
