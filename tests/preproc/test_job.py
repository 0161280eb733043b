import re
from pathlib import Path

import numpy as np
import pytest

from preproc.errors import OutputFailed
from preproc.job import Job

BLOCK = np.ones((2, 1, 3, 4), np.float32)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        *((rb"(?s).*", b""), (rb"(?s).*", b"hello"), (rb"(?s).*", b"\x93NUMPY\x01\0\x04\0{'(\n")),
        *((rb"(?s).$", b""), (rb"\(2, 1,", b"(1, 2,"), (re.escape(BLOCK[0, 0, 0, :1].tobytes()), bytes(4))),
    ],
)
def test_a_block_that_is_damaged_is_not_finished(tmp_path: Path, old: bytes, new: bytes) -> None:
    job = Job(tmp_path, "key")
    job.begin()
    assert not job.has(0)
    job.save(0, BLOCK)
    assert job.has(0)
    (path,) = tmp_path.glob(".job/block-*.npy")
    content = path.read_bytes()
    damaged, count = re.subn(old, new.replace(b"\\", rb"\\"), content, count=1)
    assert count == 1
    path.write_bytes(damaged)
    assert not job.has(0)
    with pytest.raises(OutputFailed, match=r"block-000000\.npy is damaged; the same command computes it again"):
        job.load(0)
    job.save(0, BLOCK)
    assert job.load(0).tolist() == BLOCK.tolist()
