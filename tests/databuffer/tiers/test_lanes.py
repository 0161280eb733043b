"""Packs are hashed, synced and restored in threads beside the move, with the same results as without them."""

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from databuffer.records.performer import Attempt
from databuffer.tiers.backends.folder import FolderTier
from databuffer.tiers.lanes import Lane
from databuffer.tiers.moves import meter
from databuffer.tiers.moves.meter import Meter, Throttle
from databuffer.tiers.packs import pack
from databuffer.tiers.packs.comparison import Comparison, checked, compare
from databuffer.tiers.packs.pack import PackDamaged
from gwwire.manifest import encode_manifest, seal
from gwwire.public import ManifestEntry

TIME = "2026-11-20T23:41:00.000000Z"
SIZES = (1000, 70_000, 512, 0, 33_333)


@pytest.fixture(params=["threads", "inline"])
def _chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "CHUNK", 10_000 if request.param == "threads" else 1 << 20)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, pack.Pack]:
    """Return a folder with members of different sizes, and its pack."""
    entries = []
    for number, size in enumerate(SIZES):
        content = os.urandom(size)
        (tmp_path / f"gwb{number}.json").write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        entries.append(ManifestEntry(f"gwb{number}.json", size, sha256, None, 0.0, 1.0, 1))
    manifest = seal(batch="b1", opened=TIME, sealed=TIME, holder="", segments=entries)
    (tmp_path / "MANIFEST.json").write_bytes(encode_manifest(manifest))
    return tmp_path, pack.folder_pack(tmp_path)


def split(content: bytes, size: int = 10_000) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


def altered(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.usefixtures("_chunks")
def test_a_pack_has_the_same_sha256_whether_it_is_known_or_computed(files: tuple[Path, pack.Pack]) -> None:
    where, whole = files
    content = b"".join(pack.folder_chunks(where, whole))
    sha256 = hashlib.sha256(content).hexdigest()
    assert compare(whole, split(content)) == sha256
    assert compare(whole, split(content), sha256) == sha256
    comparison = Comparison(whole)
    assert b"".join(checked(comparison, split(content))) == content
    assert comparison.sha256 == sha256


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("known", [None, "0" * 64])
def test_every_altered_part_of_a_pack_is_named(files: tuple[Path, pack.Pack], known: str | None) -> None:
    where, whole = files
    content = b"".join(pack.folder_chunks(where, whole))
    start, _ = whole.span("gwb1.json")
    for at, problem in [
        (start + 65_000, "gwb1.json differs in sha256"),
        (start - 512, "a header of the tar differs"),
        (600, "MANIFEST.json differs"),
        (len(content) - 1, "a header of the tar differs"),
    ]:
        with pytest.raises(PackDamaged) as damaged:
            compare(whole, split(altered(content, at)), known)
        assert damaged.value.problems == [problem]
    with pytest.raises(PackDamaged, match="bytes follow its end"):
        compare(whole, split(content + b"x"), known)
    with pytest.raises(PackDamaged, match="it ends after"):
        compare(whole, split(content[:-1]), known)


@pytest.mark.usefixtures("_chunks")
def test_a_damaged_pack_never_appears_in_a_tier(files: tuple[Path, pack.Pack], tmp_path: Path) -> None:
    where, whole = files
    content = b"".join(pack.folder_chunks(where, whole))
    (root := tmp_path / "tier").mkdir()
    tier = FolderTier("object", root)
    with pytest.raises(PackDamaged):
        tier.write("one.tar", whole.size, checked(Comparison(whole), split(altered(content, len(content) - 2000))))
    assert tier.stat("one.tar") is None
    assert lanes() == []


def test_a_lane_works_in_order_and_raises_what_its_work_raised() -> None:
    done: list[int] = []
    with Lane(1) as lane:
        for number in range(10):
            lane.do(done.append, number)
        lane.wait()
        assert done == list(range(10))
        lane.do(done.remove, 99)
        with pytest.raises(ValueError, match="not in list"):
            lane.do(done.append, 10)


def test_a_lane_of_several_threads_works_at_once_and_raises_what_one_raised() -> None:
    together = threading.Barrier(2, timeout=60)

    def fail() -> None:
        raise ValueError("it failed")

    with Lane(2, threads=2) as lane:
        for _ in range(2):
            lane.do(together.wait)
        lane.wait()
        lane.do(fail)
        with pytest.raises(ValueError, match="it failed"):
            lane.wait()
    assert lanes() == []


class Waits(Attempt):
    """An attempt that counts its waits instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)


def test_moves_pause_as_long_as_segments_arrive() -> None:
    attempt, arrived = Waits(), 0
    moved = Meter(attempt, Throttle(0, lambda: arrived), 8).through([bytes(meter.PORTION)] * 8)
    for _ in range(4):
        next(moved)
    assert attempt.waits == [], "none arrived"
    for _ in range(4):
        arrived += 1
        next(moved)
    assert attempt.waits == [meter.PAUSE_SECONDS] * 4


def lanes() -> list[Any]:
    """Return the threads of lanes that have not ended."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("lane") and thread.is_alive()]
