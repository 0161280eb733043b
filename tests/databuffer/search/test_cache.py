"""Archives are deleted in a fixed order when the files of bundles take too much of the volume."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from databuffer.app import create_app, create_buffer
from databuffer.search.builder import bytes_needed
from databuffer.search.cache import to_delete
from databuffer.search.result import Result, describe
from databuffer.settings import BufferSettings
from databuffer.storage.catalog import CataloguedSegment
from gwservice.settings import Size
from gwwire.bundles import BundleFormat, BundleManifest, BundleOrder
from gwwire.query import Query
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
        store(client, 8)
        yield client


def store(client: TestClient, seconds: int) -> None:
    for second in range(seconds):
        body = {"h": [1e-21] * RATE, "t": [second, 1 / RATE], "meta": {"channel": "H1:A"}}
        client.post("/sendF", content=json.dumps(body), headers=JSON)


def order(client: TestClient, start: int, seconds: int = 1, group: str | None = None) -> Any:
    """Order HDF5 files for a group, or for none."""
    wanted = {"query": {"start": start, "stop": start + seconds}, "format": "hdf5"}
    return client.post("/bundles", json=wanted, headers={"X-Group": group} if group else {})


def build(client: TestClient, start: int, seconds: int = 1, group: str | None = None) -> str:
    """Return the id of a bundle of HDF5 files whose archive is ready."""
    while (answer := order(client, start, seconds, group)).status_code == 202:
        time.sleep(0.005)
    assert answer.status_code == 200, answer.text
    name: str = answer.json()["id"]
    return name


def metric(client: TestClient, name: str) -> dict[str, float]:
    """Return the values of a metric by labels."""
    lines = [line.rpartition(" ") for line in client.get("/metrics").text.splitlines() if line.startswith(name)]
    return {labels.removeprefix(name): float(value) for labels, _, value in lines}


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


def test_a_group_gives_up_its_own_bundles_used_least_and_never_those_of_others(settings: BufferSettings) -> None:
    limited = settings.model_copy(update={"BUNDLE_QUOTA": Size(80_000)})
    with TestClient(create_app(create_buffer(limited), max_body=10_000_000)) as client:
        store(client, 8)
        of_others = [build(client, 0), build(client, 1, group="virgo")]
        first, second = build(client, 2, group="ligo"), build(client, 3, group="ligo")
        assert [state(client, bundle) for bundle in (first, second)] == ["READY", "READY"]
        others = [build(client, second, group="ligo") for second in (4, 5)]
        states = [state(client, bundle) for bundle in (*of_others, first, second, *others)]
        assert states == ["READY", "READY", "EXPIRED", "READY", "READY", "READY"]
        held = metric(client, "glitchflow_bundle_bytes")
        assert 0 < held['{group="virgo"}'] == held['{group=""}'] < held['{group="ligo"}'] <= 80_000
        assert metric(client, "glitchflow_bundle_quota_bytes") == {"": 80_000}


def test_a_group_whose_bundles_are_all_read_gets_the_sizes_and_what_to_do(settings: BufferSettings) -> None:
    limited = settings.model_copy(update={"BUNDLE_QUOTA": Size(30_000)})
    buffer = create_buffer(limited)
    with TestClient(create_app(buffer, max_body=10_000_000)) as client:
        store(client, 8)
        first = build(client, 0, group="ligo")
        with buffer.bundles.space.reading(first):
            answer = order(client, 1, group="ligo")
            assert (answer.status_code, answer.json()["code"]) == (429, "quota-exceeded")
            detail = answer.json()["detail"]
            assert "need 24,384 bytes, and of the 30,000 of group ligo (BUNDLE_QUOTA)" in detail
            assert detail.endswith("being built or downloaded; wait for them, or cancel one of them")
            assert state(client, first) == "READY"
            assert order(client, 1, group="virgo").status_code == 202
        assert order(client, 1, seconds=4, group="ligo").json()["detail"].endswith("or the format tar")
        build(client, 2, group="ligo")
        assert state(client, first) == "EXPIRED"


def test_files_of_gaps_that_the_description_leaves_out_are_counted_for_the_space() -> None:
    rows = [CataloguedSegment(i, "b1", f"gwb{i}.json", 9, "0", "H1:A", 2.0 * i, 1.0, 1, 0) for i in range(2100)]
    order, result = BundleOrder(BundleFormat.HDF5, Query()), Result(rows, 1)
    manifest = BundleManifest(describe(order, result, 0), result.entries())
    assert manifest.info.covered[0].closed_gaps
    assert bytes_needed(manifest) == 2100 * (16 * 1024 + 8)
