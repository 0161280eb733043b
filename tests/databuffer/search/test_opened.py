"""The archives that were opened last are kept, within a limit."""

from dataclasses import replace

import pytest

from databuffer.search.archive import Archive
from databuffer.search.opened import OpenedArchives
from databuffer.search.table import BundleRow
from gwwire.bundles import BundleFormat, BundleState

pytestmark = pytest.mark.anyio


def row(name: str) -> BundleRow:
    return BundleRow(
        name, BundleFormat.TAR, BundleState.READY, "", f"digest of {name}", as_of=1, made=1, used=1, uses=1
    )


class Opener:
    """Opens archives of 10 bytes of memory, and notes which."""

    def __init__(self) -> None:
        self.opened = ""

    def __call__(self, bundle: BundleRow) -> Archive:
        self.opened += bundle.id
        return Archive(bundle.id, "", "", 0, bundle.info, lambda _start, _stop: iter(()), lambda _: lambda _: None, 10)  # type: ignore[arg-type, return-value]


async def test_the_archives_used_last_are_kept_up_to_the_limit() -> None:
    opener = Opener()
    archives = OpenedArchives(opener, most=20)
    for name in "aaabab":
        assert (await archives.get(row(name))).bundle == name
    assert opener.opened == "ab"
    for name in "cba":  # c takes the place of a, and a that of c
        await archives.get(row(name))
    assert opener.opened == "abca"


async def test_an_archive_larger_than_the_limit_is_kept_alone() -> None:
    opener = Opener()
    archives = OpenedArchives(opener, most=5)
    for name in "aabb":
        await archives.get(row(name))
    assert opener.opened == "ab"


async def test_an_archive_with_another_digest_is_opened_again() -> None:
    opener = Opener()
    archives = OpenedArchives(opener)
    await archives.get(row("a"))
    changed = replace(row("a"), info="another digest")
    assert (await archives.get(changed)).digest == "another digest"
    archives.forget("a", "b")
    await archives.get(changed)
    assert opener.opened == "aaa"
