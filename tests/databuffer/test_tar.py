"""Virtual tars: any range is that of the whole, and GNU tar and Python's tarfile read them."""

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from databuffer.tar import Member, MemberChanged, VirtualTar, read_parts

GIB = 2**30
NAMES = st.one_of(
    st.from_regex(r"[a-z0-9_#+-]{1,20}(/[a-z]{1,5})?\.json", fullmatch=True),
    st.text("é\u2400ab", min_size=1, max_size=150),
)
CONTENTS = st.dictionaries(NAMES, st.binary(max_size=1500), max_size=8)


class Files:
    """Members as files in memory; counts those that are open."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents = contents
        self.opened: list[BinaryIO] = []

    def tar(self) -> VirtualTar:
        members = [
            Member(name, len(content), hashlib.sha256(content).hexdigest()) for name, content in self.contents.items()
        ]
        return VirtualTar([Member.of("Info.json", b"{}"), *members])

    def open(self, member: Member) -> BinaryIO:
        self.opened.append(io.BytesIO(self.contents[member.name]))
        return self.opened[-1]

    def read(self, tar: VirtualTar, start: int = 0, stop: int | None = None, chunk: int = 700) -> bytes:
        chunks = list(read_parts(tar.parts(start, stop), self.open, chunk))
        assert all(file.closed for file in self.opened)
        return b"".join(chunks)


@given(contents=CONTENTS, data=st.data())
def test_a_range_is_the_slice_of_the_whole_which_python_reads(contents: dict[str, bytes], data: st.DataObject) -> None:
    files = Files(contents)
    tar = files.tar()
    whole = files.read(tar)
    assert len(whole) == tar.size
    start = data.draw(st.integers(0, tar.size))
    stop = data.draw(st.integers(start, tar.size))
    assert files.read(tar, start, stop) == whole[start:stop]
    with tarfile.open(fileobj=io.BytesIO(whole)) as read:
        found = {info.name: read.extractfile(info).read() for info in read}  # type: ignore[union-attr]
    assert list(found.items()) == [("Info.json", b"{}"), *contents.items()]
    for index, (member, content) in enumerate(zip(tar.members[1:], contents.values(), strict=True), 1):
        assert whole[tar.offset(index) :][: member.size] == content


def test_a_range_opens_only_the_files_that_it_contains() -> None:
    files = Files({f"{i}.json": bytes([i]) * 1000 for i in range(100)})
    tar = files.tar()
    start = tar.offset(51) + 10
    assert files.read(tar, start, start + 2000) == files.read(tar)[start : start + 2000]
    files.opened.clear()
    files.read(tar, start, start + 2000)
    assert len(files.opened) == 2


def gnu_tar(folder: Path, *arguments: str) -> str:
    """Run GNU tar, which prints no warning."""
    environment = {"TZ": "UTC", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(["/bin/tar", *arguments], cwd=folder, env=environment, capture_output=True, check=True)
    assert not done.stderr
    return done.stdout.decode()


def test_gnu_tar_reads_it_without_a_warning(tmp_path: Path) -> None:
    files = Files({"gwb1.json": b"a" * 512, "x" * 180 + ".hdf5": b"b", "é.json": b""})
    (tmp_path / "a.tar").write_bytes(files.read(files.tar()))
    lines = gnu_tar(tmp_path, "tvf", "a.tar").splitlines()
    assert lines[1].split() == ["-rw-r--r--", "0/0", "512", "1980-01-06", "00:00", "gwb1.json"]
    gnu_tar(tmp_path, "xf", "a.tar")
    extracted = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".tar"}
    assert extracted == {"Info.json": b"{}", **files.contents}


@pytest.mark.parametrize("size", [8 * GIB - 1, 8 * GIB, 3000 * GIB])
def test_a_member_of_more_than_8_gib_has_its_size(size: int) -> None:
    tar = VirtualTar([Member("large.hdf5", size, "0" * 64), Member.of("last", b"x")])
    head = b"".join(read_parts(tar.parts(0, tar.offset(0)), lambda _: io.BytesIO()))
    with tarfile.open(fileobj=io.BytesIO(head), mode="r|") as read:
        assert (read.next() or tarfile.TarInfo()).size == size
    end = b"".join(read_parts(tar.parts(tar.offset(1)), lambda _: io.BytesIO()))
    assert end == b"x" + bytes(511 + 1024)
    assert tar.offset(1) + len(end) == tar.size


def test_the_digest_is_that_of_the_members_in_their_order() -> None:
    one, two = Member.of("1", b"a"), Member.of("2", b"b")
    tars = [VirtualTar(members) for members in ([one, two], [two, one], [one], [one, Member.of("2", b"c")], [])]
    assert len({tar.digest for tar in tars}) == len(tars)
    lines = "".join(f"{each.sha256} 1 {each.name}\n" for each in (one, two))
    assert tars[0].digest == hashlib.sha256(f"tar 1\n{lines}".encode()).hexdigest()


@pytest.mark.parametrize("name", ["", "/etc/passwd", "a/../b", "a//b", "a/", "./a", "a\0b", "\ud800"])
def test_a_name_that_a_tar_cannot_hold_safely_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"name|surrogates"):
        VirtualTar([Member.of(name, b"")])


def test_two_members_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="the same name"):
        VirtualTar([Member.of("a", b""), Member.of("a", b"b")])


def test_a_file_that_became_shorter_ends_the_reading() -> None:
    tar = VirtualTar([Member("a", 10, "0" * 64)])
    with pytest.raises(MemberChanged, match="a ends 7 bytes too early"):
        list(read_parts(tar.parts(), lambda _: io.BytesIO(b"abc")))
