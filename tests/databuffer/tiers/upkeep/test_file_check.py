"""`fsck` compares the contents of files, and names those that are missing, differ, or belong to no file."""

from collections.abc import Callable

import pytest

from databuffer.__main__ import main
from databuffer.settings import BufferSettings
from gwwire.tiering import DISK, ReplicaState, Tiering
from tests.support.archives import CountingTier, OpenBuffer
from tests.support.file_packs import put_files, read_file, until_packed

pytestmark = pytest.mark.anyio
VERIFIED = ReplicaState.VERIFIED
KEPT = Tiering(("object",))


@pytest.fixture
def fsck(
    settings: BufferSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[str]]:
    """Return a function that runs `fsck` and returns its lines."""
    for name in ("DTVOLROOT", "DATAROOT", "ADMROOT", "LOGROOT"):
        monkeypatch.setenv(name, str(getattr(settings, name)))

    def run(*options: str) -> list[str]:
        main(["fsck", *options])
        return capsys.readouterr().out.splitlines()

    return run


async def test_fsck_finds_contents_that_are_missing_differ_or_belong_to_nothing(
    opening: OpenBuffer, tier: CountingTier, settings: BufferSettings, fsck: Callable[..., list[str]]
) -> None:
    buffer = await opening(tier)
    lost = await put_files(buffer, {"/lost": b"lost", "/whole": b"whole"}, label="lost")
    await buffer.close()
    buffer = await opening(tier, holding_tiering=KEPT)
    await until_packed(buffer, lost, {DISK: VERIFIED, "object": VERIFIED})
    await buffer.close()
    buffer = await opening(tier)
    torn = await put_files(buffer, {"/torn": b"torn"}, label="torn")
    await buffer.close()
    assert fsck() == ["everything agrees"]

    objects = settings.DTVOLROOT / ".holdings" / "objects"
    by_content = {path.read_bytes(): path for path in objects.glob("*/*")}
    by_content[b"lost"].unlink()
    by_content[b"torn"].write_bytes(b"TORN")
    foreign = by_content[b"whole"].parent / ("0" * 64)
    foreign.write_bytes(b"foreign")
    found = [
        f"holding {lost.holding}: the content of /lost is missing, or has another size",
        f"holding {torn.holding}: the content of /torn differs from its SHA-256",
        f".holdings/objects/00/{'0' * 64}: no file of a holding has this content",
    ]
    foreign.parent.parent.joinpath("00").mkdir(exist_ok=True)
    foreign = foreign.rename(objects / "00" / ("0" * 64))
    assert sorted(fsck()[:-1]) == sorted(found)
    assert foreign.exists()
    assert fsck("--repair")[-1] == "3 findings, 1 not repaired"
    assert not foreign.exists()

    buffer = await opening(tier, holding_tiering=KEPT)
    await until_packed(buffer, lost, {DISK: VERIFIED, "object": VERIFIED})
    assert await read_file(buffer, lost, "/lost") == b"lost"
    assert by_content[b"lost"].read_bytes() == b"lost"
