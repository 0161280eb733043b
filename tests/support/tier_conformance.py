"""Tests that every backend of a tier passes; a subclass provides the fixture `tier`."""

import hashlib
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from databuffer.tiers.tier import Locality, NotThere, StageState, Tier, TierError

#: More than two parts of an object store; without a pattern, so that exchanged parts would be seen.
LARGE = random.Random(1).randbytes(17_000_003)
SMALL = b"a few bytes"
_SECONDS = 60


class SourceFailed(Exception):
    """The bytes to write cannot be read."""


def in_chunks(content: bytes, size: int = 4 << 20) -> Iterator[bytes]:
    return (content[start : start + size] for start in range(0, len(content), size))


def write(tier: Tier, key: str, content: bytes = SMALL) -> None:
    tier.write(key, len(content), in_chunks(content))


def bring_online(tier: Tier, *keys: str) -> str:
    """Stage keys and wait until they are online, again if that fails; return the last request."""
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        request = tier.stage(keys)
        while {each.state for each in tier.staged(request).values()} & {StageState.SUBMITTED, StageState.STARTED}:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        if {each.state for each in tier.staged(request).values()} == {StageState.COMPLETED}:
            return request
        tier.release(keys)
    raise AssertionError("the keys did not come online")


def content_of(tier: Tier, key: str) -> bytes | None:
    """Return all bytes of a key, which goes online for this, or None."""
    if tier.stat(key) is None:
        return None
    bring_online(tier, key)
    content = b"".join(tier.read(key))
    tier.release([key])
    return content


def keys_of(tier: Tier, prefix: str = "") -> list[str]:
    return [each.key for each in tier.list(prefix)]


class TierConformance:
    """Run by pytest for each subclass."""

    @pytest.mark.parametrize("content", [b"", SMALL, LARGE], ids=["empty", "small", "large"])
    def test_what_was_written_comes_back(self, tier: Tier, content: bytes) -> None:
        before = time.time()
        write(tier, "batches/one.tar", content)
        read = content_of(tier, "batches/one.tar")
        assert read is not None
        assert hashlib.sha256(read).digest() == hashlib.sha256(content).digest()
        found = tier.stat("batches/one.tar")
        assert found is not None
        assert (found.key, found.size) == ("batches/one.tar", len(content))
        assert before - 2 <= found.modified <= time.time() + 2

    def test_a_range_is_cut_at_the_end_of_the_bytes(self, tier: Tier) -> None:
        write(tier, "one.tar", LARGE)
        bring_online(tier, "one.tar")
        end, edge = len(LARGE), 8 << 20
        for start, stop in [(0, 0), (0, 1), (5, None), (edge - 3, edge + 3), (end - 2, end + 9), (end, end + 9)]:
            assert b"".join(tier.read("one.tar", start, stop)) == LARGE[start:stop]
        assert b"".join(tier.read("one.tar", end + 5)) == b""

    def test_a_reader_that_stops_early_leaves_nothing_open(self, tier: Tier) -> None:
        write(tier, "one.tar", LARGE)
        bring_online(tier, "one.tar")
        chunks = tier.read("one.tar")
        assert LARGE.startswith(next(iter(chunks)))
        del chunks  # an open file would be a ResourceWarning, which is an error

    def test_a_write_replaces_what_was_there(self, tier: Tier) -> None:
        write(tier, "one.tar", LARGE)
        write(tier, "one.tar", SMALL)
        assert content_of(tier, "one.tar") == SMALL
        assert keys_of(tier) == ["one.tar"]

    @pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
    @pytest.mark.parametrize("change", [-1, 1], ids=["fewer", "more"])
    @pytest.mark.parametrize("before", [None, b"before"], ids=["new", "replaced"])
    def test_another_number_of_bytes_than_announced_is_refused(
        self, tier: Tier, content: bytes, change: int, before: bytes | None
    ) -> None:
        if before:
            write(tier, "one.tar", before)
        with pytest.raises(TierError, match=r"expected \d+ bytes"):
            tier.write("one.tar", len(content) - change, in_chunks(content))
        assert content_of(tier, "one.tar") == before

    @pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
    @pytest.mark.parametrize("failure", [SourceFailed, FileNotFoundError])
    def test_a_failure_of_the_source_is_raised_as_it_is_and_changes_nothing(
        self, tier: Tier, content: bytes, failure: type[Exception]
    ) -> None:
        def broken() -> Iterator[bytes]:
            yield from in_chunks(content)
            raise failure("the source")

        write(tier, "old.tar", b"before")
        for key, expected in [("old.tar", b"before"), ("new.tar", None)]:
            with pytest.raises(failure, match="the source"):
                tier.write(key, len(content) + 1, broken())
            assert content_of(tier, key) == expected
        assert keys_of(tier) == ["old.tar"]

    def test_what_is_deleted_is_gone(self, tier: Tier) -> None:
        write(tier, "a/one.tar")
        write(tier, "a/two.tar")
        tier.delete("a/one.tar")
        tier.delete("a/one.tar")
        tier.delete("never/there.tar")
        assert tier.stat("a/one.tar") is None
        assert tier.locality(["a/one.tar"]) == {"a/one.tar": Locality.NONE}
        assert keys_of(tier) == ["a/two.tar"]
        with pytest.raises(NotThere):
            tier.read("a/one.tar")

    def test_keys_are_listed_in_their_order(self, tier: Tier) -> None:
        keys = ["a-b/c.tar", "a.c", "a/b.tar", "a/c/d.tar", "a0", "b/a.tar"]
        for number, key in enumerate(reversed(keys)):
            write(tier, key, b"x" * number)
        assert keys_of(tier) == keys
        assert [each.size for each in tier.list()] == [5, 4, 3, 2, 1, 0]
        for prefix in ("a", "a/", "a/c", "a-", "b/a.tar", "c", "a/b.tar/x"):
            assert keys_of(tier, prefix) == [key for key in keys if key.startswith(prefix)]

    def test_an_empty_tier_lists_nothing(self, tier: Tier) -> None:
        assert keys_of(tier) == []

    def test_what_is_missing_is_not_there(self, tier: Tier) -> None:
        assert tier.stat("no.tar") is None
        with pytest.raises(NotThere):
            tier.read("no.tar", 0, 5)
        with pytest.raises(NotThere):
            tier.stage(["no.tar"])
        with pytest.raises(NotThere):
            tier.staged("no such request")
        assert tier.locality(["no.tar"]) == {"no.tar": Locality.NONE}

    def test_staged_keys_are_online_until_every_request_released_them(self, tier: Tier) -> None:
        write(tier, "one.tar")
        write(tier, "two.tar")
        bring_online(tier, "one.tar", "two.tar")
        bring_online(tier, "one.tar")
        tier.release(["one.tar", "two.tar"])
        assert tier.locality(["one.tar"]) == {"one.tar": Locality.ONLINE}
        assert b"".join(tier.read("one.tar")) == SMALL
        tier.release(["one.tar", "no.tar"])
        assert tier.locality(["one.tar"])["one.tar"] in {Locality.ONLINE, Locality.NEARLINE}

    def test_what_is_deleted_cannot_come_online(self, tier: Tier) -> None:
        write(tier, "one.tar")
        request = bring_online(tier, "one.tar")
        tier.delete("one.tar")
        assert tier.locality(["one.tar"]) == {"one.tar": Locality.NONE}
        tier.staged(request)
        deadline = time.monotonic() + _SECONDS
        while (told := tier.staged(request)["one.tar"]).state is not StageState.FAILED:
            assert time.monotonic() < deadline
        assert "there is no one.tar" in told.reason

    @pytest.mark.parametrize(
        "key", ["", "/a", "a/", "a//b", "../a", "a/../b", ".a", "a/.b", "a b", "é", "a\n", "x" * 201, "x/" * 500 + "x"]
    )
    def test_a_path_that_is_no_key_is_refused(self, tier: Tier, key: str) -> None:
        for call in (lambda: write(tier, key), lambda: tier.stat(key), lambda: tier.read(key)):
            with pytest.raises(TierError, match="is not the key of a tier"):
                call()

    def test_of_writes_at_the_same_time_one_is_there_in_the_end(self, tier: Tier) -> None:
        contents = [bytes([number]) * 300_000 for number in range(4)]
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda content: write(tier, "one.tar", content), contents))
        assert content_of(tier, "one.tar") in contents

    def test_a_capacity_is_not_less_than_what_is_used(self, tier: Tier) -> None:
        capacity = tier.capacity()
        assert (capacity.used or 0) <= (capacity.total or capacity.used or 0)


class UnreachableConformance:
    """Tests that every backend passes if the tier cannot be reached: the fixture `unreachable`."""

    def test_nothing_is_taken_for_missing(self, unreachable: Tier) -> None:
        calls = (
            *(lambda: write(unreachable, "one.tar"), lambda: unreachable.stat("one.tar")),
            *(lambda: unreachable.delete("one.tar"), lambda: unreachable.read("one.tar")),
            *(lambda: list(unreachable.list()), lambda: unreachable.stage(["one.tar"])),
        )
        for call in calls:
            with pytest.raises(TierError) as raised:
                call()
            assert type(raised.value) is TierError
        assert unreachable.locality(["one.tar"]) == {"one.tar": Locality.UNAVAILABLE}
        with suppress(TierError):
            assert unreachable.capacity().used is None
