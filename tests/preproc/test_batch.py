import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import msgspec
import numpy as np
import pytest

from gwwire.manifest import MANIFEST
from gwwire.public import Manifest, ManifestEntry
from preproc.batch import UNNAMED, digest_directory, read_batch
from preproc.errors import UnusableBatch
from preproc.findings import Reason
from preproc.progress import silent
from tests.preproc.batches import cut, noise, write_batch

SEGMENT = b'{"h":[1e-21,2e-21,-3e-21],"t":[100.0,0.25]}'


def write(directory: Path, **bodies: bytes) -> Path:
    for name, body in bodies.items():
        (directory / f"gwb{name}.json").write_bytes(body)
    return directory


def test_a_segment_without_a_channel_belongs_to_the_unnamed_one(tmp_path: Path) -> None:
    batch = read_batch(write(tmp_path, a=SEGMENT), silent)
    (piece,) = batch.pieces
    assert (piece.channel, piece.t0, piece.dt, piece.stop) == (UNNAMED, 100.0, 0.25, 100.75)
    named = SEGMENT.replace(b"}", b',"meta":{"channel":"unnamed"}}')
    assert len({each.channel for each in read_batch(write(tmp_path, b=named), silent).pieces}) == 2
    assert batch.load("gwba.json").tolist() == [1e-21, 2e-21, -3e-21]
    assert batch.load("gwba.json").dtype == np.float64


def test_other_files_are_not_looked_at(tmp_path: Path) -> None:
    write(tmp_path, a=SEGMENT)
    for name in ("LogStream.json", "gwb1.txt", ".gwb1.json"):
        (tmp_path / name).write_bytes(b"no segment")
    batch = read_batch(tmp_path, silent)
    assert list(batch.sources) == ["gwba.json"]
    assert not batch.rejected


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b'{"h":[],"t":[0,1]}', "h: expected"),
        (b'{"h":[1,null],"t":[0,1]}', "h[1]"),
        (b'{"h":[1],"t":[0,0]}', "t: dt is 0.0 s"),
        (b'{"h":[1,2],"t":[1e308,1e308]}', "finite"),
        (b'{"h":[1],"t":[1,5e-324]}', "finite"),
        (b'{"h":[1],"t":[0,1],"meta":{"channel":"H1\\u0000"}}', "meta.channel"),
        (b'{"h":[1],"t":[0,1],"meta":{"channel":7}}', "meta.channel"),
        (b'{"h":[1],"t":[0,1],"meta":{"channel":"#unnamed"}}', "'#unnamed' is not a valid channel name"),
    ],
)
def test_a_file_that_is_no_segment_is_rejected_by_name_and_the_rest_goes_on(
    tmp_path: Path, body: bytes, reason: str
) -> None:
    batch = read_batch(write(tmp_path, bad=body, good=SEGMENT), silent)
    (rejected,) = batch.rejected
    assert rejected.reason is (Reason.NOT_FINITE if reason == "finite" else Reason.UNREADABLE)
    assert rejected.detail.startswith("gwbbad.json: ")
    assert reason in rejected.detail
    assert [piece.file for piece in batch.pieces] == ["gwbgood.json"]
    assert len(batch.sources) == 2


@pytest.mark.parametrize("number", [b"NaN", b"-Infinity", b" NaN"])
def test_a_number_that_is_none_is_distinguished_from_a_broken_file(tmp_path: Path, number: bytes) -> None:
    batch = read_batch(write(tmp_path, bad=b'{"h":[1,' + number + b'],"t":[0,1]}', good=SEGMENT), silent)
    assert [found.reason for found in batch.rejected] == [Reason.NOT_FINITE]


def seal(directory: Path) -> Manifest:
    """Write the manifest of a folder of segments."""
    batch = read_batch(directory, silent)
    entries = [
        ManifestEntry(piece.file, 0, batch.sources[piece.file], piece.channel, piece.t0, piece.dt, piece.samples)
        for piece in batch.pieces
    ]
    times = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
    manifest = Manifest("b1", *times, "me", len(entries), 0, batch.digest, entries)
    (directory / MANIFEST).write_bytes(msgspec.json.encode(manifest))
    return manifest


def test_a_sealed_batch_that_is_whole_has_its_manifests_digest(tmp_path: Path) -> None:
    write_batch(tmp_path, cut(noise(3), "H1:A"))
    manifest = seal(tmp_path)
    batch = read_batch(tmp_path, silent)
    assert batch.manifest == manifest
    assert batch.digest == manifest.digest == digest_directory(tmp_path, silent)
    assert not batch.rejected


def test_what_does_not_agree_with_the_manifest_is_not_used_and_reported(tmp_path: Path) -> None:
    write(tmp_path, a=SEGMENT, b=SEGMENT, c=SEGMENT)
    seal(tmp_path)
    write(tmp_path, b=SEGMENT + b" ", d=SEGMENT)
    (tmp_path / "gwbc.json").unlink()
    batch = read_batch(tmp_path, silent)
    assert [piece.file for piece in batch.pieces] == ["gwba.json"]
    assert [(found.detail.split(":")[0].split()[0], found.reason) for found in batch.rejected] == [
        ("gwbb.json", Reason.ALTERED),
        ("gwbd.json", Reason.UNLISTED),
        ("gwbc.json", Reason.MISSING),
    ]
    assert (batch.rejected[2].start, batch.rejected[2].stop) == (100, 100.75)


def test_a_manifest_that_cannot_be_read_is_no_manifest_to_trust(tmp_path: Path) -> None:
    (write(tmp_path, a=SEGMENT) / MANIFEST).write_text("[]")
    with pytest.raises(UnusableBatch, match=r"cannot read the manifest .*MANIFEST\.json: it is not a JSON object$"):
        read_batch(tmp_path, silent)


def test_a_file_that_changes_while_the_batch_is_read_is_noticed(tmp_path: Path) -> None:
    batch = read_batch(write(tmp_path, a=SEGMENT, b=SEGMENT), silent)
    write(tmp_path, a=SEGMENT.replace(b"1e-21", b"9e-21"))
    (tmp_path / "gwbb.json").unlink()
    with pytest.raises(UnusableBatch, match=r"gwba\.json changed while the batch was read"):
        batch.load("gwba.json")
    with pytest.raises(UnusableBatch, match=r"cannot read gwbb\.json a second time"):
        batch.load("gwbb.json")


def test_a_file_that_cannot_be_opened_is_rejected_by_name(tmp_path: Path) -> None:
    (write(tmp_path, good=SEGMENT) / "gwbfolder.json").mkdir()
    (tmp_path / "gwblost.json").symlink_to(tmp_path / "nowhere")
    batch = read_batch(tmp_path, silent)
    assert [found.detail.partition(":")[0] for found in batch.rejected] == ["gwbfolder.json", "gwblost.json"]


def test_a_file_whose_name_is_not_utf_8_is_rejected_by_name_and_not_in_the_digest(tmp_path: Path) -> None:
    digest = read_batch(write(tmp_path, good=SEGMENT), silent).digest
    (tmp_path / os.fsdecode(b"gwb\xff.json")).write_bytes(SEGMENT)
    batch = read_batch(tmp_path, silent)
    assert [str(found) for found in batch.rejected] == [r"unreadable file: gwb\udcff.json: the name is not UTF-8"]
    assert [piece.file for piece in batch.pieces] == ["gwbgood.json"]
    assert batch.digest == digest_directory(tmp_path, silent) == digest


def test_a_t0_at_which_samples_cannot_be_distinguished_is_off_every_grid(tmp_path: Path) -> None:
    batch = read_batch(write(tmp_path, far=b'{"h":[1,2],"t":[1e15,0.001]}', good=SEGMENT), silent)
    assert [found.reason for found in batch.rejected] == [Reason.OFF_GRID]


def test_a_batch_of_which_nothing_can_be_read_names_a_file_and_its_fault(tmp_path: Path) -> None:
    with pytest.raises(UnusableBatch, match=r"none of the 2 segment files in .* gwba\.json: the body is not JSON"):
        read_batch(write(tmp_path, a=b"", b=b"{"), silent)


def test_an_empty_directory_and_none_at_all_are_distinguished(tmp_path: Path) -> None:
    with pytest.raises(UnusableBatch, match=r"no segment file \(gwb\*\.json\)"):
        read_batch(tmp_path, silent)
    with pytest.raises(UnusableBatch, match=r"cannot read the directory .*: No such file or directory"):
        read_batch(tmp_path / "nowhere", silent)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not on this machine")
def test_the_digest_is_what_sha256sum_makes_of_the_files(tmp_path: Path) -> None:
    write_batch(tmp_path, cut(noise(3), "H1:A"))
    listed = subprocess.run(  # noqa: S602 (the command of the docstring, on a folder of this test)
        "LC_ALL=C sha256sum gwb*.json | sha256sum",  # noqa: S607 (sha256sum is wherever it is)
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert read_batch(tmp_path, silent).digest == listed.stdout.split()[0].decode()


def test_the_digest_follows_every_byte_and_name(tmp_path: Path) -> None:
    one = read_batch(write(tmp_path, a=SEGMENT), silent)
    assert one.sources == {"gwba.json": hashlib.sha256(SEGMENT).hexdigest()}
    (tmp_path / "gwba.json").rename(tmp_path / "gwbb.json")
    assert read_batch(tmp_path, silent).digest != one.digest
    (tmp_path / "gwbb.json").rename(tmp_path / "gwba.json")
    assert read_batch(tmp_path, silent).digest == one.digest
    write(tmp_path, a=SEGMENT + b"\n")
    assert read_batch(tmp_path, silent).digest != one.digest


def test_the_original_systems_files_are_read_as_they_are(original_segments: list[Path]) -> None:
    batch = read_batch(original_segments[0].parent, silent)
    assert [piece.samples for piece in batch.pieces] == [300] * 4
    assert {(piece.channel, piece.dt) for piece in batch.pieces} == {(UNNAMED, 1 / 4096)}
    assert not batch.rejected
