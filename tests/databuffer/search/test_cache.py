"""Which archives are deleted when the files of bundles take too much of the volume."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from databuffer.app import create_app, create_buffer
from databuffer.search.cache import to_delete
from databuffer.settings import BufferSettings
from gwservice.settings import Size
from tests.support.segments import JSON

RATE = 1000


@pytest.mark.parametrize(
    ("allowed", "keep", "deleted"),
    [(60, "", ""), (59, "", "a"), (49, "", "ab"), (49, "b", "ac"), (0, "abc", ""), (-1, "", "abc")],
)
def test_archives_are_deleted_in_the_order_given_until_the_rest_is_small_enough(
    allowed: int, keep: str, deleted: str
) -> None:
    sizes = {"c": 30, "b": 20, "a": 10}
    assert "".join(to_delete(sizes, ["x", "a", "b", "c"], keep, allowed)) == deleted


@pytest.fixture
def client(settings: BufferSettings) -> Iterator[TestClient]:
    small = settings.model_copy(update={"BUNDLE_CACHE": Size(80_000)})
    with TestClient(create_app(create_buffer(small), max_body=10_000_000)) as client:
        for second in range(8):
            body = {"h": [1e-21] * RATE, "t": [second, 1 / RATE], "meta": {"channel": "H1:A"}}
            client.post("/sendF", content=json.dumps(body), headers=JSON)
        yield client


def build(client: TestClient, start: int, seconds: int = 1) -> str:
    """Return the id of a bundle of HDF5 files whose archive is ready."""
    order = {"query": {"start": start, "stop": start + seconds}, "format": "hdf5"}
    while (answer := client.post("/bundles", json=order)).status_code == 202:
        pass
    assert answer.status_code == 200, answer.text
    name: str = answer.json()["id"]
    return name


def state(client: TestClient, bundle: str) -> str:
    found: str = client.get(f"/bundles/{bundle}").json()["state"]
    return found


def test_the_archive_that_was_used_least_makes_space_for_the_next(client: TestClient, settings: BufferSettings) -> None:
    first, second = build(client, 0), build(client, 1)
    folder = settings.DTVOLROOT / ".bundles"
    for number in range(2, 8):
        build(client, number)
        assert size_of(folder) < 80_000
    states = [state(client, bundle) for bundle in (first, second)]
    assert states == ["EXPIRED", "EXPIRED"]
    assert client.get(f"/bundles/{first}/archive").status_code == 409


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_files_that_can_never_fit_are_refused_with_the_setting_that_limits_them(client: TestClient) -> None:
    answer = client.post("/bundles", json={"query": {}, "format": "hdf5"})
    assert answer.status_code == 422
    assert "BUNDLE_CACHE allows 80,000" in answer.json()["detail"]
    assert client.post("/bundles", json={"query": {}}).status_code == 200
