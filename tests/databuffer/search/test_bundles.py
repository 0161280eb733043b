"""Bundles over HTTP: the archive has the stored bytes, any range of them, and is never older than the store."""

import hashlib
import io
import json
import logging
import os
import sqlite3
import tarfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Any

import h5py
import numpy as np
import pytest
from fastapi.testclient import TestClient

from databuffer.app import create_app, create_buffer
from databuffer.buffer import Buffer
from databuffer.search.builder import Builder
from databuffer.settings import BufferSettings
from gwwire.manifest import batch_digest
from tests.support.buffer_settings import settings_in
from tests.support.lease import leased
from tests.support.segments import JSON

GPS, RATE = 1126259446, 16

Answer = dict[str, Any]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> BufferSettings:
    return settings_in(tmp_path_factory.mktemp("buffer"))


@pytest.fixture(scope="module")
def buffer(settings: BufferSettings) -> Buffer:
    return create_buffer(settings)


@pytest.fixture(scope="module")
def client(buffer: Buffer) -> Iterator[TestClient]:
    with TestClient(create_app(buffer, max_body=10_000_000)) as client:
        yield client


class Datastore:
    """A client that stores segments in channels of its own, and gets bundles."""

    def __init__(self, client: TestClient, test: str = "") -> None:
        self.client = client
        self.stored: dict[str, bytes] = {}
        self.h1, self.l1 = f"H1:GWOSC-{test}", f"L1:OTHER-{test}"
        self.query = {"channel": self.h1}

    def store(self, second: float, channel: str | None = None, value: float = 1e-21, **meta: object) -> str:
        h = [value * k for k in range(1, RATE + 1)]
        segment = {"h": h, "t": [GPS + second, 1 / RATE], "meta": {"channel": channel or self.h1, **meta}}
        body = json.dumps(segment, separators=(",", ":")).encode()
        answer = self.client.post("/sendF", content=body, headers=JSON)
        assert answer.status_code == 201, answer.text
        name: str = answer.json()["body"].split()[1]
        self.stored[name] = body
        return name

    def make(self, status: int = 200, **order: object) -> Answer:
        answer = self.client.post("/bundles", json=order)
        assert answer.status_code == status, answer.text
        bundle: Answer = answer.json()
        return bundle

    def state(self, bundle: Answer) -> Answer:
        found: Answer = self.client.get(f"/bundles/{bundle['id']}").json()
        return found

    def until(self, bundle: Answer, state: str) -> Answer:
        stop = time.monotonic() + 60
        while (found := self.state(bundle))["state"] != state:
            assert time.monotonic() < stop, found
            time.sleep(0.01)
        return found

    def archive(self, bundle: Answer, **headers: str) -> Any:
        return self.client.get(
            f"/bundles/{bundle['id']}/archive", headers={k.replace("_", "-"): v for k, v in headers.items()}
        )


@pytest.fixture
def datastore(client: TestClient, request: pytest.FixtureRequest) -> Datastore:
    return Datastore(client, hashlib.sha256(request.node.name.encode()).hexdigest()[:8])


def unpacked(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]


def test_the_archive_has_the_stored_bytes_and_says_what_they_are(
    datastore: Datastore, settings: BufferSettings
) -> None:
    names = [datastore.store(second) for second in (0, 1, 3)]
    datastore.store(0, datastore.l1)
    bundle = datastore.make(query={"detector": "H1", "channel": datastore.h1, "start": GPS, "stop": GPS + 5})
    assert (bundle["state"], bundle["percent"], bundle["n"]) == ("READY", 100, 3)
    assert bundle["covered"] == [
        {"channel": datastore.h1, "dt": 1 / RATE, "spans": [[GPS, GPS + 2, 2], [GPS + 3, GPS + 4, 1]], "closed_gaps": 0}
    ]
    assert bundle["gaps"] == [
        {"channel": datastore.h1, "dt": 1 / RATE, "spans": [[GPS + 2, GPS + 3], [GPS + 4, GPS + 5]]}
    ]
    answer = datastore.archive(bundle)
    assert int(answer.headers["content-length"]) == len(answer.content) == bundle["size"]
    files = unpacked(answer.content)
    info = json.loads(files.pop("Info.json"))
    assert list(files) == names
    assert files == {name: datastore.stored[name] for name in names}
    assert files == {name: (settings.DATAROOT / name).read_bytes() for name in names}
    assert bundle["bytes"] == sum(map(len, files.values()))
    digests = [(name, hashlib.sha256(content).hexdigest()) for name, content in files.items()]
    assert info["digest"] == bundle["digest"] == batch_digest(digests)
    same = ("as_of", "n", "bytes", "covered", "gaps", "query", "format")
    assert {key: info[key] for key in same} == {key: bundle[key] for key in same}
    assert "gwosc.org" in info["citation"]
    assert info["software"].startswith("glitchflow-datastore ")


def test_ranges_are_parts_of_the_archive_and_a_download_can_be_resumed(datastore: Datastore) -> None:
    for second in range(20):
        datastore.store(second)
    bundle = datastore.make(query=datastore.query)
    whole = datastore.archive(bundle)
    etag, size = whole.headers["etag"], bundle["size"]
    assert whole.headers["accept-ranges"] == "bytes"
    part = datastore.archive(bundle, Range="bytes=700-5000")
    assert (part.status_code, part.content) == (206, whole.content[700:5001])
    assert part.headers["content-range"] == f"bytes 700-5000/{size}"
    rest = datastore.archive(bundle, Range="bytes=5001-", If_Range=etag)
    assert (rest.status_code, rest.headers["etag"], rest.content) == (206, etag, whole.content[5001:])
    other = datastore.archive(bundle, Range="bytes=5001-", If_Range='"another"')
    assert (other.status_code, other.content) == (200, whole.content)
    beyond = datastore.archive(bundle, Range=f"bytes={size}-")
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, f"bytes */{size}")
    assert beyond.json()["code"] == "range-not-satisfiable"
    assert datastore.archive(bundle, If_None_Match=etag).status_code == 304


def test_an_archive_of_many_segments_is_read_with_few_questions_to_the_catalog(
    datastore: Datastore, caplog: pytest.LogCaptureFixture
) -> None:
    for second in range(40):
        datastore.store(second)
    bundle = datastore.make(query=datastore.query)
    caplog.set_level(logging.INFO, logger="sqlalchemy.engine.Engine")
    assert len(unpacked(datastore.archive(bundle).content)) == 41
    assert 0 < sum(message.startswith("SELECT") for message in caplog.messages) < 20


def test_the_same_query_is_the_same_bundle_until_a_matching_segment_arrives(datastore: Datastore) -> None:
    datastore.store(0)
    first = datastore.make(query=datastore.query)
    etag = datastore.archive(first).headers["etag"]
    datastore.store(0, datastore.l1)
    again = datastore.make(query={"channel": [datastore.h1, datastore.h1]}, format="tar")
    assert again["id"] == first["id"]
    assert again["as_of"] > first["as_of"]
    assert datastore.archive(again).headers["etag"] == etag
    name = datastore.store(1)
    later = datastore.make(query=datastore.query)
    assert later["id"] != first["id"]
    assert (first["n"], later["n"]) == (1, 2)
    assert name in unpacked(datastore.archive(later).content)
    assert datastore.archive(first).headers["etag"] == etag


def test_an_answer_from_the_cache_has_an_age(datastore: Datastore, buffer: Buffer) -> None:
    datastore.store(0)
    order = {"query": datastore.query}
    assert datastore.client.post("/bundles", json=order).headers["age"] == "0"
    with buffer._store.catalog.database.writing_synced() as connection:  # noqa: SLF001 (in place of waiting)
        connection.exec_driver_sql("UPDATE bundles SET made = made - 90000000000")
    assert 90 <= int(datastore.client.post("/bundles", json=order).headers["age"]) < 180


def test_after_a_clock_was_set_back_a_bundle_is_new_and_a_use_is_counted(datastore: Datastore, buffer: Buffer) -> None:
    datastore.store(0)
    order = {"query": datastore.query}
    datastore.client.post("/bundles", json=order)
    with buffer._store.catalog.database.writing_synced() as connection:  # noqa: SLF001 (in place of a wrong clock)
        connection.exec_driver_sql(
            "UPDATE bundles SET made = made + 31536000000000000, used = used + 31536000000000000"
        )
    made = datastore.client.post("/bundles", json=order)
    assert made.headers["age"] == "0"
    assert datastore.client.get(f"/bundles/{made.json()['id']}").json()["expires"] < time.time() + 8 * 86_400


@pytest.mark.parametrize("change", ["freeze", "archive", "archive while it is read"])
def test_a_batch_that_is_frozen_or_moved_does_not_change_the_archive(
    datastore: Datastore, buffer: Buffer, change: str
) -> None:
    for second in range(50):
        datastore.store(second, value=second * 1e-21)
    bundle = datastore.make(query=datastore.query)
    whole = datastore.archive(bundle).content
    if change == "freeze":
        datastore.client.post("/upddsc", json={"user": "alice", "token": "secret"})
        assert datastore.archive(bundle).content == whole
        datastore.client.post("/thaw", json={"user": "alice", "token": "secret"})
    elif change == "archive":
        datastore.client.post("/cleanall")
    else:
        portal = datastore.client.portal
        assert portal
        portions = portal.call(buffer.bundles.archive, bundle["id"]).read(0, bundle["size"], 1000)
        first = next(portions)
        assert len(first) < len(whole) / 2
        datastore.client.post("/cleanall")
        assert first + b"".join(portions) == whole
    assert datastore.archive(bundle).content == whole


def test_an_archive_without_its_files_names_what_is_missing(
    datastore: Datastore, settings: BufferSettings, caplog: pytest.LogCaptureFixture
) -> None:
    name = datastore.store(0)
    bundle = datastore.make(query=datastore.query)
    datastore.client.post("/cleanall")
    folder = next(settings.DTVOLROOT.glob(f"2*/{name}")).parent
    away = folder.rename(settings.DTVOLROOT.parent / "away")
    answer = datastore.archive(bundle)
    assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
    assert f"the folder '{folder.name}' of batch " in answer.json()["detail"]
    assert answer.json()["detail"].endswith(" is missing, with 1 of the segments")

    away.rename(folder)
    (folder / name).unlink()
    assert len(datastore.archive(bundle).content) < bundle["size"]
    assert (
        f"an answer was interrupted: the file of segment '{name}' is missing, or is not what was stored"
        in caplog.messages
    )
    (folder / name).write_bytes(datastore.stored[name])


def test_named_segments_are_a_bundle_whatever_their_order(datastore: Datastore) -> None:
    names = [datastore.store(second) for second in range(3)]
    bundle = datastore.make(names=[names[2], names[0]])
    assert datastore.make(names=[names[0], names[2], names[0]])["id"] == bundle["id"]
    files = unpacked(datastore.archive(bundle).content)
    assert list(files)[1:] == [names[0], names[2]]
    missing = datastore.make(404, names=[names[0], "gwb5.json"])
    assert missing["detail"] == "there is no segment 'gwb5.json'"


def test_a_manifest_lists_the_segments_with_their_checksums(datastore: Datastore) -> None:
    names = [datastore.store(second) for second in range(3)]
    answer = datastore.archive(bundle := datastore.make(query=datastore.query, format="manifest"))
    manifest = answer.json()
    assert len(answer.content) == bundle["size"]
    assert [entry["name"] for entry in manifest["segments"]] == names
    assert [entry["sha256"] for entry in manifest["segments"]] == [
        hashlib.sha256(datastore.stored[name]).hexdigest() for name in names
    ]


def test_an_order_without_a_query_or_with_both_is_refused(datastore: Datastore) -> None:
    for order in ({}, {"query": {}, "names": ["a"]}):
        assert datastore.make(422, **order)["detail"] == "expected either a query or names"
    assert datastore.make(422, query={"colour": "red"})["code"] == "invalid-request"
    assert datastore.client.get("/bundles/none").status_code == 404
    assert datastore.client.get("/bundles/none/archive").status_code == 404
    assert datastore.client.delete("/bundles/none").status_code == 404


def test_an_empty_result_is_an_archive_that_says_so(datastore: Datastore) -> None:
    bundle = datastore.make(query={"channel": "V1:NOTHING"})
    assert (bundle["state"], bundle["n"]) == ("READY", 0)
    assert bundle["note"] == f"no segment stored up to seq {bundle['as_of']} matches: the archive has no data"
    files = unpacked(datastore.archive(bundle).content)
    assert list(files) == ["Info.json"]
    assert json.loads(files["Info.json"])["n"] == 0


def test_hdf5_is_built_in_the_background_with_the_samples_bit_for_bit(datastore: Datastore) -> None:
    for second in range(3):
        datastore.store(second, value=1.1e-21 * (second + 1))
    bundle = datastore.make(202, query={"channel": datastore.h1, "start": GPS, "stop": GPS + 2.5}, format="hdf5")
    assert bundle["state"] == "BUILDING"
    ready = datastore.until(bundle, "READY")
    files = unpacked(answer := datastore.archive(bundle).content)
    assert len(answer) == ready["size"]
    assert list(files) == ["Info.json", f"H-{datastore.h1.translate({58: 95, 45: 95})}-{GPS}-3.hdf5"]
    with h5py.File(io.BytesIO(files.popitem()[1])) as file:
        samples = np.concatenate([json.loads(body)["h"] for body in datastore.stored.values()])
        assert np.array_equal(file["strain/Strain"], samples[: int(2.5 * RATE)])
    assert datastore.make(query=bundle["query"], format="hdf5")["id"] == bundle["id"]
    stop = time.monotonic() + 60  # the end of the step is stored after the state
    while (steps := datastore.client.get(f"/records/bundle/{bundle['id']}").json()["steps"])[0]["state"] != "DONE":
        assert time.monotonic() < stop
    assert [step["name"] for step in steps] == ["bundle"]


def test_a_channel_without_a_sample_in_the_span_is_named(datastore: Datastore) -> None:
    datastore.store(0)
    start, stop = GPS + 0.25 / RATE, GPS + 0.75 / RATE
    query = {"channel": datastore.h1, "start": start, "stop": stop}
    bundle = datastore.make(202, query=query, format="hdf5")
    assert bundle["left_out"] == []
    ready = datastore.until(bundle, "READY")
    files = unpacked(datastore.archive(bundle).content)
    assert list(files) == ["Info.json"]
    left_out = [{"channel": datastore.h1, "start": start, "stop": stop, "reason": "no sample is in this span"}]
    assert json.loads(files["Info.json"])["left_out"] == ready["left_out"] == left_out
    assert datastore.make(query=query, format="hdf5")["left_out"] == left_out


def test_frames_are_built_too(datastore: Datastore) -> None:
    datastore.store(0)
    bundle = datastore.make(202, query=datastore.query, format="gwf")
    datastore.until(bundle, "READY")
    name, content = unpacked(datastore.archive(bundle).content).popitem()
    assert name.endswith(f"-{GPS}-1.gwf")
    assert content.startswith(b"IGWD\0\x08")
    file = datastore.client.get(f"/bundles/{bundle['id']}/files/another.gwf")
    assert (file.content, file.headers["content-type"]) == (content, "application/octet-stream")
    assert "another.gwf" in file.headers["content-disposition"]


def test_a_bundle_that_is_not_built_says_so_and_can_be_cancelled(
    datastore: Datastore, settings: BufferSettings
) -> None:
    names = [datastore.store(second) for second in range(3)]
    lease = leased(settings.DATAROOT / names[1])
    bundle = datastore.make(202, query=datastore.query, format="hdf5")
    assert datastore.make(202, query=datastore.query, format="hdf5")["id"] == bundle["id"]
    answer = datastore.archive(bundle)
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (409, "bundle-not-ready", "2")
    while datastore.state(bundle)["percent"] < 25:
        pass
    assert datastore.state(bundle)["percent"] == 25
    assert datastore.client.delete(f"/bundles/{bundle['id']}").json()["state"] == "CANCELLED"
    os.close(lease)
    assert datastore.archive(bundle).json()["detail"].endswith("is CANCELLED; make it again")
    again = datastore.make(202, query=datastore.query, format="hdf5")
    assert again["id"] == bundle["id"]
    datastore.until(again, "READY")
    assert len(unpacked(datastore.archive(bundle).content)) == 2
    folder = settings.DTVOLROOT / ".bundles" / bundle["id"]
    assert sorted(path.name for path in folder.iterdir()) == ["built.json", "files", "manifest.json"]


def test_a_bundle_that_is_ordered_again_while_its_building_is_cancelled_is_built(
    datastore: Datastore, settings: BufferSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [datastore.store(second) for second in range(3)]
    real, is_cancelled, is_ordered_again = Builder._is_wanted, Event(), Event()  # noqa: SLF001 (to be between them)

    def is_wanted(builder: Builder, bundle: str) -> bool:
        found = real(builder, bundle)
        if not found:
            is_cancelled.set()
            assert is_ordered_again.wait(60)
        return found

    monkeypatch.setattr(Builder, "_is_wanted", is_wanted)
    lease = leased(settings.DATAROOT / names[1])
    bundle = datastore.make(202, query=datastore.query, format="hdf5")
    while datastore.state(bundle)["percent"] < 25:
        pass
    datastore.client.delete(f"/bundles/{bundle['id']}")
    os.close(lease)
    assert is_cancelled.wait(60)
    datastore.make(202, query=datastore.query, format="hdf5")
    is_ordered_again.set()
    datastore.until(bundle, "READY")


def test_a_damaged_segment_fails_the_building_with_its_name(datastore: Datastore, settings: BufferSettings) -> None:
    name = datastore.store(0)
    (settings.DATAROOT / name).write_bytes(datastore.stored[name].replace(b"e-21", b"e-22"))
    bundle = datastore.make(202, query=datastore.query, format="hdf5")
    stop = time.monotonic() + 60
    while not (found := datastore.state(bundle))["reason"]:
        assert time.monotonic() < stop
    assert name in found["reason"]


def test_an_expired_archive_is_made_again_under_the_same_id(
    datastore: Datastore, buffer: Buffer, settings: BufferSettings
) -> None:
    datastore.store(0)
    bundles = [datastore.make(query=datastore.query), datastore.make(202, query=datastore.query, format="hdf5")]
    datastore.until(bundles[1], "READY")
    archives = [datastore.archive(bundle) for bundle in bundles]
    with buffer._store.catalog.database.writing_synced() as connection:  # noqa: SLF001 (in place of waiting a week)
        connection.exec_driver_sql("UPDATE bundles SET used = used - 8 * 86400 * 1000000000")
    datastore.store(1)
    assert datastore.make(query={"start": 0})["note"] is None
    folders = settings.DTVOLROOT / ".bundles"
    assert not any((folders / bundle["id"]).exists() for bundle in bundles)
    assert [datastore.state(bundle)["state"] for bundle in bundles] == ["EXPIRED", "EXPIRED"]
    assert datastore.archive(bundles[1]).status_code == 409
    datastore.until(bundles[1], "READY")
    for bundle, before in zip(bundles, archives, strict=True):
        after = datastore.archive(bundle)
        assert (after.headers["etag"], after.content) == (before.headers["etag"], before.content)


def test_bundles_and_their_archives_outlive_the_process(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)

    def open_one() -> TestClient:
        return TestClient(create_app(create_buffer(settings), max_body=10_000_000))

    with open_one() as client:
        datastore = Datastore(client)
        datastore.store(0)
        bundles = [datastore.make(query=datastore.query), datastore.make(202, query=datastore.query, format="hdf5")]
    with open_one() as client:
        datastore = Datastore(client)
        datastore.until(bundles[1], "READY")
        assert [len(unpacked(datastore.archive(bundle).content)) for bundle in bundles] == [2, 2]
    with closing(sqlite3.connect(settings.ADMROOT / "catalog.sqlite")) as connection, connection:
        connection.execute("UPDATE bundles SET used = used + 31536000000000000")  # in place of a wrong clock
    with open_one() as client:
        assert all(Datastore(client).state(each)["expires"] < time.time() + 8 * 86_400 for each in bundles)
