from pathlib import Path

import numpy as np
import pytest

from preproc.job import Job


@pytest.mark.parametrize("damaged", [b"", b"hello", b"\x93NUMPY\x01\0\x04\0{'(\n", None])
def test_a_block_that_cannot_be_read_is_not_finished(tmp_path: Path, damaged: bytes | None) -> None:
    job = Job(tmp_path, "key")
    job.begin()
    assert not job.has(0)
    job.save(0, np.ones((2, 1, 3, 4), np.float32))
    assert job.has(0)
    (path,) = tmp_path.glob(".job/block-*.npy")
    path.write_bytes(path.read_bytes()[:-1] if damaged is None else damaged)
    assert not job.has(0)
    job.save(0, np.ones((2, 1, 3, 4), np.float32))
    assert job.load(0).tolist() == np.ones((2, 1, 3, 4)).tolist()
