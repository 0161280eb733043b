import hashlib
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from preproc.batch import UNNAMED, read_batch
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
    (segment,) = read_batch(write(tmp_path, a=SEGMENT), silent).segments
    assert (segment.channel, segment.t0, segment.dt, segment.stop) == (UNNAMED, 100.0, 0.25, 100.75)
    assert segment.h.tolist() == [1e-21, 2e-21, -3e-21]
    assert segment.h.dtype == np.float64


def test_other_files_are_not_looked_at(tmp_path: Path) -> None:
    write(tmp_path, a=SEGMENT)
    for name in ("LogStream.json", "MANIFEST.json", "gwb1.txt", ".gwb1.json"):
        (tmp_path / name).write_bytes(b"no segment")
    batch = read_batch(tmp_path, silent)
    assert [source.file for source in batch.sources] == ["gwba.json"]
    assert not batch.rejected


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b'{"h":[1,NaN],"t":[0,1]}', "not JSON"),
        (b'{"h":[],"t":[0,1]}', "h: expected"),
        (b'{"h":[1,null],"t":[0,1]}', "h[1]"),
        (b'{"h":[1],"t":[0,0]}', "t[1]"),
        (b'{"h":[1,2],"t":[1e308,1e308]}', "finite"),
        (b'{"h":[1],"t":[1,5e-324]}', "finite"),
        (b'{"h":[1],"t":[0,1],"meta":{"channel":"H1/STRAIN"}}', "meta.channel"),
        (b'{"h":[1],"t":[0,1],"meta":{"channel":".."}}', "meta.channel"),
        (b'{"h":[1],"t":[0,1],"meta":{"channel":7}}', "meta.channel"),
    ],
)
def test_a_file_that_is_no_segment_is_rejected_by_name_and_the_rest_goes_on(
    tmp_path: Path, body: bytes, reason: str
) -> None:
    batch = read_batch(write(tmp_path, bad=body, good=SEGMENT), silent)
    (rejected,) = batch.rejected
    assert rejected.reason is Reason.UNREADABLE
    assert rejected.detail.startswith("gwbbad.json: ")
    assert reason in rejected.detail
    assert [segment.file for segment in batch.segments] == ["gwbgood.json"]
    assert len(batch.sources) == 2


def test_a_file_that_cannot_be_opened_is_rejected_by_name(tmp_path: Path) -> None:
    (write(tmp_path, good=SEGMENT) / "gwbfolder.json").mkdir()
    (tmp_path / "gwblost.json").symlink_to(tmp_path / "nowhere")
    batch = read_batch(tmp_path, silent)
    assert [found.detail.partition(":")[0] for found in batch.rejected] == ["gwbfolder.json", "gwblost.json"]


def test_a_t0_at_which_samples_cannot_be_told_apart_is_off_every_grid(tmp_path: Path) -> None:
    batch = read_batch(write(tmp_path, far=b'{"h":[1,2],"t":[1e15,0.001]}', good=SEGMENT), silent)
    assert [found.reason for found in batch.rejected] == [Reason.OFF_GRID]


def test_a_batch_of_which_nothing_can_be_read_names_a_file_and_its_fault(tmp_path: Path) -> None:
    with pytest.raises(UnusableBatch, match=r"none of the 2 segment files in .* gwba\.json: the body is not JSON"):
        read_batch(write(tmp_path, a=b"", b=b"{"), silent)


def test_an_empty_directory_and_none_at_all_are_told_apart(tmp_path: Path) -> None:
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
    assert one.sources[0].sha256 == hashlib.sha256(SEGMENT).hexdigest()
    (tmp_path / "gwba.json").rename(tmp_path / "gwbb.json")
    assert read_batch(tmp_path, silent).digest != one.digest
    (tmp_path / "gwbb.json").rename(tmp_path / "gwba.json")
    assert read_batch(tmp_path, silent).digest == one.digest
    write(tmp_path, a=SEGMENT + b"\n")
    assert read_batch(tmp_path, silent).digest != one.digest


def test_the_original_systems_files_are_read_as_they_are(original_segments: list[Path]) -> None:
    batch = read_batch(original_segments[0].parent, silent)
    assert [len(segment.h) for segment in batch.segments] == [300] * 4
    assert {(segment.channel, segment.dt) for segment in batch.segments} == {(UNNAMED, 1 / 4096)}
    assert not batch.rejected
