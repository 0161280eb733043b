import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from databuffer.errors import VolumeFailed
from databuffer.staging import Staged
from databuffer.writers import Writers
from gwwire.segment import InvalidSegment
from tests.support.segments import segment_body

pytestmark = pytest.mark.anyio


@pytest.fixture
def writers() -> Iterator[Writers]:
    writers = Writers()
    yield writers
    writers.close()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_many_more_segments_than_threads_are_all_staged(writers: Writers, tmp_path: Path) -> None:
    bodies = [segment_body(number, samples=50).replace(b" ", b"") for number in range(300)]
    paths = [tmp_path / f"{number}.json" for number in range(300)]
    outcomes = await asyncio.gather(*map(writers.stage, bodies, paths))
    for body, path, outcome in zip(bodies, paths, outcomes, strict=True):
        assert isinstance(outcome, Staged)
        assert path.read_bytes() == body
        assert (outcome.place, outcome.size, outcome.n) == (path, len(body), 50)
        assert outcome.sha256 == hashlib.sha256(body).hexdigest()


async def test_each_segment_of_a_share_has_its_own_outcome(writers: Writers, tmp_path: Path) -> None:
    tasks = [
        (segment_body(1), tmp_path / "good.json"),
        (b'{"h":[],"t":[0,1]}', tmp_path / "bad.json"),
        (segment_body(2), tmp_path / "missing" / "nowhere.json"),
        (segment_body(3), None),
    ]
    outcomes = await asyncio.gather(*(writers.stage(*task) for task in tasks * 20))
    for start in range(0, len(outcomes), len(tasks)):
        good, bad, unwritten, unasked = outcomes[start : start + len(tasks)]
        assert isinstance(good, Staged)
        assert good.place == tmp_path / "good.json"
        assert isinstance(bad, InvalidSegment)
        assert isinstance(unwritten, Staged)
        assert isinstance(unwritten.place, VolumeFailed)
        assert isinstance(unasked, Staged)
        assert unasked.place is None
    assert names_in(tmp_path) == ["good.json"]


async def test_whatever_goes_wrong_those_who_wait_hear_of_it(writers: Writers, tmp_path: Path) -> None:
    nonsense: Any = None
    with pytest.raises(TypeError):
        await writers.stage(nonsense, tmp_path / "none.json")
    assert isinstance(await writers.stage(segment_body(1), tmp_path / "next.json"), Staged)
