"""A pack is a tar that anyone can read, is the same wherever it is made, and shows every altered byte."""

import hashlib
import os
import subprocess
from collections import deque
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest

from databuffer.__main__ import main
from databuffer.errors import VolumeError
from databuffer.storage.dropped import Dropped, write_dropped
from databuffer.tiers.backends.folder import FolderTier
from databuffer.tiers.packs.comparison import Comparison, checked, compare, file_problems
from databuffer.tiers.packs.pack import (
    PackDamaged,
    SegmentPack,
    checked_member,
    folder_chunks,
    folder_pack,
    key_of,
    read_head,
    read_members,
    tier_range,
)
from gwwire.manifest import MANIFEST, encode_manifest, entry_of, seal
from gwwire.public import Manifest
from gwwire.tiering import Replica, ReplicaState
from tests.support.foreign import NO_FILES
from tests.support.forked import run_forked
from tests.support.segments import segment_body

COUNT = 5


def archived(folder: Path, count: int = COUNT) -> Manifest:
    """Write the folder of an archived batch."""
    folder.mkdir()
    entries = []
    for number in range(count):
        name, content = f"gwb{number + 1}.json", segment_body(number)
        (folder / name).write_bytes(content)
        entries.append(entry_of(name, content))
    time = "2026-11-20T23:41:00.000000Z"
    manifest = seal(batch="b1", opened=time, sealed=time, holder="alice", segments=entries)
    (folder / MANIFEST).write_bytes(encode_manifest(manifest))
    (folder / "LogStream.json").write_text("{}\n")
    return manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    archived(tmp_path / "2026-11-20 23 41")
    return tmp_path / "2026-11-20 23 41"


@pytest.fixture
def file(folder: Path, tmp_path: Path) -> Path:
    """Return the pack of the folder, as a file."""
    path = tmp_path / "pack.tar"
    path.write_bytes(b"".join(folder_chunks(folder, folder_pack(folder))))
    return path


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_another_program_put_in_the_place_of_a_segment_is_not_packed(
    folder: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "gwb2.json").unlink()
    NO_FILES[kind](folder / "gwb2.json")
    assert main(["pack", "write", str(folder), str(folder.with_name("new.tar"))]) == 1
    assert capsys.readouterr().out == f"{folder}: gwb2.json is not a regular file\n"
    (folder / MANIFEST).unlink()
    NO_FILES[kind](folder / MANIFEST)
    with pytest.raises(VolumeError, match="not a regular file"):
        folder_pack(folder)


def verified(file: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    status = main(["pack", "verify", str(file)])
    return status, [line.removeprefix(f"{file}: ") for line in capsys.readouterr().out.splitlines()]


def test_tar_and_sha256sum_read_a_pack(folder: Path, file: Path, tmp_path: Path) -> None:
    listed = subprocess.run(["tar", "tf", file], check=True, capture_output=True, text=True).stdout.split()  # noqa: S607 (GNU tar of the path)
    assert listed == [MANIFEST, *(f"gwb{number + 1}.json" for number in range(COUNT))]
    out = tmp_path / "out"
    out.mkdir()
    subprocess.run(["tar", "xf", file, "-C", out], check=True)  # noqa: S607 (see above)
    sums = "".join(f"{entry.sha256}  {entry.name}\n" for entry in folder_pack(folder).manifest.segments)
    subprocess.run(["sha256sum", "-c", "--quiet"], input=sums, text=True, check=True, cwd=out)  # noqa: S607 (see above)
    whole = subprocess.run(["sha256sum", file], check=True, capture_output=True, text=True).stdout  # noqa: S607 (see above)
    assert whole.split()[0] == compare(folder_pack(folder), folder_chunks(folder, folder_pack(folder)))


def test_a_pack_depends_only_on_the_manifest_and_the_files(folder: Path, file: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    for path in sorted(folder.iterdir(), reverse=True):
        (again / path.name).write_bytes(path.read_bytes())
        (again / path.name).chmod(0o600)
        os.utime(again / path.name, (1, 1))
    assert b"".join(folder_chunks(again, folder_pack(again))) == file.read_bytes()


def test_a_member_is_where_the_arithmetic_says(folder: Path, file: Path) -> None:
    pack, content = folder_pack(folder), file.read_bytes()
    assert pack.size == len(content)
    for name in [MANIFEST, *(entry.name for entry in pack.manifest.segments)]:
        start, stop = pack.span(name)
        assert content[start:stop] == (folder / name).read_bytes()


def test_the_head_alone_has_the_manifest_and_a_member_is_read_from_a_tier(folder: Path, file: Path) -> None:
    tier, key = FolderTier("object", file.parent), file.name
    pack = read_head(tier_range(tier, key))
    assert pack.manifest == folder_pack(folder).manifest
    [(_, chunks)] = read_members(tier, key, pack, ["gwb3.json"])
    assert b"".join(chunks) == (folder / "gwb3.json").read_bytes()
    with pytest.raises(KeyError):
        list(read_members(tier, key, pack, ["gwb9.json"]))


class NotingTier(FolderTier):
    """A tier that notes what was read from it, and returns it a few bytes at a time."""

    read_from: list[int]

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        self.read_from.append(start)
        for chunk in super().read(key, start, stop):
            yield from (chunk[place : place + 7] for place in range(0, len(chunk), 7))


def test_members_that_lie_beside_each_other_are_read_at_once(folder: Path, file: Path) -> None:
    tier, pack = NotingTier("object", file.parent), folder_pack(folder)
    names = pack.names
    for wanted, firsts in [
        (names, names[:1]),
        (names[1:3], [names[1]]),
        ([*names[:2], *names[3:]], [names[0], names[3]]),
        ([], []),
    ]:
        tier.read_from = []
        found = {name: b"".join(chunks) for name, chunks in read_members(tier, file.name, pack, wanted)}
        assert found == {name: (folder / name).read_bytes() for name in wanted}
        assert tier.read_from == [pack.span(name)[0] for name in firsts]


def test_a_damaged_member_is_not_read_and_those_beside_it_are(folder: Path, file: Path) -> None:
    tier, pack = FolderTier("object", file.parent), folder_pack(folder)
    first, second, *_ = pack.names
    with file.open("r+b") as opened:
        opened.seek(pack.span(second)[0])
        opened.write(b"?")
    read = read_members(tier, file.name, pack, pack.names)
    members = ((name, checked_member(pack.member(name), chunks)) for name, chunks in read)
    name, checked_chunks = next(members)
    assert (name, b"".join(checked_chunks)) == (first, (folder / first).read_bytes())
    name, checked_chunks = next(members)
    with pytest.raises(PackDamaged, match=f"{second} differs"):
        list(checked_chunks)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda path: (path / "gwb2.json").write_bytes(segment_body(7)), "gwb2.json differs in sha256"),
        (lambda path: (path / "gwb2.json").write_bytes(b""), "gwb2.json has 0 bytes"),
        (lambda path: (path / "gwb2.json").write_bytes(segment_body(1) + b" "), "gwb2.json has"),
        (lambda path: (path / "gwb5.json").unlink(), "gwb5.json is missing"),
    ],
)
def test_a_folder_that_differs_from_its_manifest_makes_no_whole_pack(
    folder: Path, damage: Callable[[Path], None], problem: str
) -> None:
    pack = folder_pack(folder)
    damage(folder)
    written = bytearray()
    with pytest.raises(PackDamaged, match=problem):
        deque(map(written.extend, checked(Comparison(pack), folder_chunks(folder, pack))), maxlen=0)
    assert len(written) < pack.size


def test_a_pack_as_it_was_written_is_verified_without_a_datastore(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, [line] = verified(file, capsys)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert (status, line) == (
        0,
        f"batch b1, {COUNT} segments, {file.stat().st_size} bytes, as sealed; SHA-256 {sha256}",
    )


def test_each_altered_byte_is_found(file: Path) -> None:
    content = file.read_bytes()
    pack = read_head(lambda start, stop: content[start:stop])
    _, end = pack.span(MANIFEST)  # what it says of times and holder is not about bytes
    for place in {0, 124, *range(end, len(content), 61), *pack.span("gwb4.json"), len(content) - 1}:
        altered = bytearray(content)
        altered[place] ^= 1
        assert file_problems(BytesIO(altered))[0], place


def test_the_difference_is_named(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = file.read_bytes()
    pack = read_head(lambda start, stop: content[start:stop])
    start, stop = pack.span("gwb4.json")
    cases = {
        content + b"more": ["4 bytes follow its end"],
        content[:-9]: [f"it ends after {len(content) - 9} of {len(content)} bytes"],
        content[:start] + b" " * (stop - start) + content[stop:]: ["gwb4.json differs in sha256"],
        content[: start - 1] + b"x" + content[start:]: ["a header of the tar differs"],
        b"": [f"it does not begin with {MANIFEST}"],
        b"x" * 4096: [f"it does not begin with {MANIFEST}"],
        content[:900]: [f"it ends within {MANIFEST}"],
        content.replace(b'"n_itm": 5', b'"n_itm": 6'): ["the manifest's n_itm is 6; its segments have 5"],
    }
    for altered, problems in cases.items():
        file.write_bytes(altered)
        assert verified(file, capsys) == (1, problems)


def test_the_name_of_a_file_neither_begins_a_line_nor_steers_a_terminal(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pack", "verify", str(file.rename(file.with_name("a\n\x1b[2J\u202e.tar")))]) == 0
    assert main(["pack", "verify", str(file.with_name("b\n\x1b[2J\u202e.tar"))]) == 1
    printed = capsys.readouterr()
    assert r"a\n\x1b[2J\u202e.tar: batch " in printed.out
    assert r"b\n\x1b[2J\u202e.tar" in printed.err
    assert (printed.out.count("\n"), printed.err.count("\n")) == (1, 1)


def test_the_command_writes_a_pack_and_replaces_nothing(
    folder: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "written.tar"
    assert main(["pack", "write", str(folder), str(target)]) == 0
    assert target.read_bytes() == file.read_bytes()
    target.write_bytes(b"mine")
    assert main(["pack", "write", str(folder), str(target)]) == 1
    assert target.read_bytes() == b"mine"
    assert f"{target} exists already" in capsys.readouterr().err
    (folder / "gwb1.json").unlink()
    assert main(["pack", "write", str(folder), str(tmp_path / "third.tar")]) == 1
    assert "gwb1.json is missing" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["pack.tar", "written.tar"]


def test_the_pack_of_a_dropped_archive_is_not_written_and_the_message_says_where_it_is(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replica = Replica("object", "batches/b1.tar", 1, "0" * 64, ReplicaState.VERIFIED)
    write_dropped(folder, Dropped("b1", [replica]))
    for path in folder.glob("gwb*.json"):
        path.unlink()
    assert main(["pack", "write", str(folder), str(tmp_path / "new.tar")]) == 1
    written = capsys.readouterr()
    reason = "its segments were dropped from the disk; they are in object as batches/b1.tar"
    assert (written.out, written.err) == ("", f"databuffer: pack: {folder}: {reason}, which have the same pack\n")


def test_pack_verify_needs_no_settings(file: Path) -> None:
    command = ["databuffer", "pack", "verify", str(file)]
    done = run_forked(command, {"PATH": os.environ["PATH"]})
    assert (done.returncode, done.stderr) == (0, "")
    assert run_forked([*command, "x"], {"PATH": os.environ["PATH"]}).returncode == 2


def test_ids_that_are_no_keys_get_one() -> None:
    assert key_of("b1795000000000000000") == "batches/b1795000000000000000.tar"
    odd = key_of("../a b")
    assert odd != key_of("../a  b")
    assert odd.removeprefix("batches/").removesuffix(".tar").isalnum()


def test_a_folder_without_a_manifest_has_no_pack(folder: Path) -> None:
    (folder / MANIFEST).write_bytes(b"{}")
    with pytest.raises(VolumeError, match="cannot be understood"):
        folder_pack(folder)
    with pytest.raises(ValueError, match="missing"):
        SegmentPack(b"{}")
