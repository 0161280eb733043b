"""GW150914 through the whole system: two detectors' files in, archive and spectrograms out."""

import asyncio
import json
import os
import random
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

import h5py
import httpx2
import numpy as np
from numpy.typing import NDArray

from gwclient.client import GlitchflowClient
from gwclient.pieces import cut
from gwclient.push import push
from gwclient.sources.file import FileSource
from scripts.trio import Trio
from tests.support.forked import run_forked

GPS_OF_THE_MERGER = 1126259462.42


def stored_samples(archive: Path) -> dict[str, tuple[float, NDArray[np.float64]]]:
    """Join the archive's segments of each detector at their sample positions; return GPS start and samples."""
    pieces: dict[str, list[tuple[float, list[float]]]] = {}
    for path in archive.glob("gwb*.json"):
        segment = json.loads(path.read_bytes())
        pieces.setdefault(segment["meta"]["detector"], []).append((segment["t"][0], segment["h"]))
    joined = {}
    for detector, found in pieces.items():
        found.sort()
        joined[detector] = found[0][0], np.concatenate([h for _, h in found])
    return joined


async def push_shuffled(gateway: str, files: Iterable[Path]) -> None:
    pieces = list(chain.from_iterable(cut(run, 1) for run in FileSource(tuple(files)).runs()))
    random.Random(7).shuffle(pieces)
    async with GlitchflowClient(gateway) as client:
        report = await push(client, pieces, concurrency=16)
        assert report.ending == "complete"
        assert len(report.acknowledged) == len(pieces) == 64
        assert (await client.train("alice", "secret")).resp == "FROZEN"


def test_gw150914_comes_out_bit_for_bit_and_is_seen_where_it_was(
    start_trio: Callable[..., Trio], gw150914_files: dict[str, Path], tmp_path: Path
) -> None:
    trio = start_trio({"MAX_SIZE": "1MB"})
    asyncio.run(push_shuffled(trio.url, gw150914_files.values()))

    data, out = trio.home / "datavar" / "data", tmp_path / "out"
    run_forked(["preproc", "run", "--data", str(data), "--out", str(out)], os.environ).check_returncode()
    assert httpx2.post(f"{trio.url}/cleanbuf", json={"msg": "done"}).json()["resp"] == "CLEANED"

    (archive,) = (trio.home / "datavar").glob("2*")
    stored = stored_samples(archive)
    assert set(stored) == set(gw150914_files)
    for detector, path in gw150914_files.items():
        with h5py.File(path) as file:
            strain = file["strain/Strain"]
            t0, samples = stored[detector]
            assert t0 == strain.attrs["Xstart"]
            assert samples.tobytes() == strain[()].astype(np.float64).tobytes()

    with h5py.File(out / "dataset.h5") as dataset:
        tiles = dataset["data"][()]
        window, _, row, column = np.unravel_index(np.argmax(tiles), tiles.shape)
        gps = dataset["gps_start"][window] + dataset["time_offset"][column]
        assert abs(gps - GPS_OF_THE_MERGER) < 0.030
        assert 80 < dataset["frequency"][row] < 300
    assert (out / "spectrograms.png").stat().st_size > 10_000
