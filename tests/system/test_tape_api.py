"""The WLCG Tape REST API at the gateway of the real trio, with a tape that is a folder: any client, and gfal2."""

import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from databuffer.tiers.backends.tape_endpoint.http_access import Access
from databuffer.tiers.backends.tape_endpoint.http_client import HttpClient
from databuffer.tiers.backends.tape_endpoint.tape_rest import TapeRestApi
from databuffer.tiers.tier import NotThere, StageState
from scripts.trio import Trio
from tests.support.gfal import NEEDED, gfal, is_there, run_gfal2
from tests.support.segments import JSON, segment_body

API = "/api/tape/v1"
#: The object store has space for one pack with three segments, some 5600 bytes.
CAPACITY = 7_000

needs_gfal = pytest.mark.skipif(not is_there(), reason=f"needs {NEEDED}")


@dataclass
class Site:
    """A datastore with two batches on tape, of which `names` has the segments by batch."""

    gateway: httpx2.Client
    url: str
    names: dict[str, list[str]]

    def post(self, path: str, order: Any) -> httpx2.Response:
        return self.gateway.post(API + path, json=order)

    def stage(self, *paths: str) -> str:
        answer = self.post("/stage", {"files": [{"path": path} for path in paths]})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["requestId"])

    def files(self, request: str) -> dict[str, dict[str, Any]]:
        """Return the files of a stage request by path."""
        answer = self.gateway.get(f"{API}/stage/{request}").raise_for_status().json()
        assert answer["id"] == request
        return {file.pop("path"): file for file in answer["files"]}

    def until_completed(self, request: str, path: str) -> None:
        within(60, lambda: self.files(request)[path]["state"] == "COMPLETED")

    def localities(self, *paths: str) -> list[str]:
        answer = self.post("/archiveinfo", {"paths": list(paths)})
        assert answer.status_code == 200, answer.text
        return [each.get("locality", each.get("error")) for each in answer.json()]

    def pinned(self, batch: str) -> bool:
        found = self.gateway.get(f"/batches/{batch}/replicas").json()["replicas"]
        return any(each["pinned"] for each in found)

    def nearline(self) -> tuple[str, list[str]]:
        """Return a batch that is on tape only, and its segments."""
        batch = next(each for each in self.names if self.localities(f"/batches/{each}") == ["TAPE"])
        return batch, self.names[batch]


def within(seconds: float, holds: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def site(start_shared_trio: Callable[..., Trio], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    tiers = tmp_path_factory.mktemp("tiers")
    for name in ("object", "tape"):
        (tiers / name).mkdir()
    urls = f"object=file://{tiers}/object?capacity={CAPACITY} tape=folder://{tiers}/tape?mount=0&seek=0"
    trio = start_shared_trio(each={"databuffer": {"TIERS": urls, "OBJECT_HIGH_WATER": "100%"}})
    with httpx2.Client(base_url=trio.url, timeout=30) as gateway:
        found = Site(gateway, trio.url, {})
        for first in (0, 3):
            for number in range(first, first + 3):
                assert gateway.post("/streamdata", content=segment_body(number), headers=JSON).status_code == 200
            names = gateway.get("/dumpbuf").json()["nmlist"]
            batch = str(gateway.get("/batches").json()["batches"][-1]["id"])
            order = {"msg": "full", "batch": batch, "tiering": {"archive_to": ["tape"], "keep_on_disk": 0}}
            assert gateway.post("/cleanbuf", json=order).status_code == 200
            found.names[batch] = names
        within(60, lambda: all(found.localities(f"/batches/{each}") == ["TAPE"] for each in found.names))
        yield found


def test_a_client_finds_the_api_at_the_address_that_it_used(site: Site) -> None:
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "data.example.org"}
    answer = site.gateway.get("/.well-known/wlcg-tape-rest-api", headers=headers).json()
    assert answer["sitename"] == "data.example.org"
    assert answer["endpoints"] == [{"uri": f"https://data.example.org{API}", "version": "v1", "metadata": {}}]


def test_what_is_staged_comes_back_from_tape_and_wrong_paths_fail_alone(site: Site) -> None:
    batch, names = site.nearline()
    segment, twice, unknown = f"/segments/{names[0]}", f"//segments///{names[1]}/", "/segments/gwb1.json"
    elsewhere = f"/segments/{names[0]}/more"
    request = site.stage(segment, twice, unknown, elsewhere, f"/batches/{batch}", segment)
    site.until_completed(request, segment)
    files = site.files(request)
    done = {"state": "COMPLETED", "onDisk": True}
    assert {path: files.pop(path) for path in (segment, twice, f"/batches/{batch}")} == {
        segment: done,
        twice: done,
        f"/batches/{batch}": done,
    }
    assert [file["state"] for file in files.values()] == ["FAILED", "FAILED"]
    assert files[unknown]["error"].startswith(f"there is no {unknown!r}")
    info = site.localities(segment, unknown, f"/batches/{batch}", "/")
    assert info[0] == info[2] == "DISK_AND_TAPE"
    assert info[1].startswith("there is no")
    assert info[3].startswith("there is no")
    assert site.gateway.get(segment).status_code == 200
    assert site.pinned(batch)
    assert site.gateway.delete(f"{API}/stage/{request}").status_code == 200
    assert not site.pinned(batch)


def test_a_batch_is_kept_until_its_last_path_is_released_or_canceled(site: Site) -> None:
    batch, names = site.nearline()
    first, second, third = (f"/segments/{name}" for name in names)
    request = site.stage(first, second, third)
    other = site.stage(first)
    site.until_completed(request, first)
    assert site.post(f"/release/{request}", {"paths": [first.replace("/", "//"), "/segments/other"]}).status_code == 200
    assert site.files(request).keys() == {second, third}
    assert site.post(f"/stage/{request}/cancel", {"paths": [second, first]}).status_code == 200
    assert {path: file["state"] for path, file in site.files(request).items()} == {
        second: "CANCELED",
        third: "COMPLETED",
    }
    assert site.gateway.delete(f"{API}/stage/{other}").status_code == 200
    assert site.pinned(batch)
    assert site.post(f"/release/{request}", {"paths": [third]}).status_code == 200
    assert not site.pinned(batch)
    assert site.gateway.delete(f"{API}/stage/{request}").status_code == 200
    assert site.gateway.get(f"{API}/stage/{request}").status_code == 404


def test_the_size_of_a_segment_on_tape_is_reported_without_a_recall_and_its_time_is_when_it_was_stored(
    site: Site, tmp_path: Path
) -> None:
    batch, [name, *_] = site.nearline()
    route, state = f"/segments/{name}", f"/batches/{batch}/recall"
    [record, *_] = site.gateway.get("/segments", params={"batch": batch}).json()["segments"]
    before = site.gateway.get(state).json()
    head = site.gateway.head(route)
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(record["bytes"]))
    assert head.headers["ETag"] == f'"{record["sha256"]}"'
    if is_there():
        assert f"Size: {record['bytes']}" in printed(gfal("stat", site.url + route))
    assert site.gateway.get(state).json() == before
    assert site.localities(f"/batches/{batch}") == ["TAPE"]
    request = site.stage(route)
    site.until_completed(request, route)
    answer = site.gateway.get(route)
    stored = datetime.fromisoformat(record["stored"]).replace(microsecond=0)
    assert parsedate_to_datetime(answer.headers["Last-Modified"]) == stored
    assert answer.headers["Last-Modified"] == head.headers["Last-Modified"]
    assert len(answer.content) == record["bytes"]
    if is_there():
        printed(gfal("copy", site.url + route, f"file://{tmp_path}/copy"))
        assert (tmp_path / "copy").read_bytes() == answer.content
    site.gateway.delete(f"{API}/stage/{request}").raise_for_status()


def test_a_request_that_does_not_exist_has_nothing_to_release(site: Site) -> None:
    nothing = f"stage-{0:032x}"
    paths = {"paths": [f"/batches/{site.nearline()[0]}"]}
    assert (
        site.post("/release/some-id", paths).status_code == site.post(f"/release/{nothing}", paths).status_code == 200
    )
    assert site.gateway.get(f"{API}/stage/{nothing}").status_code == 404
    assert site.post(f"/stage/{nothing}/cancel", paths).status_code == 404
    assert site.gateway.delete(f"{API}/stage/{nothing}").status_code == 404
    assert site.gateway.get(f"{API}/stage/anybody").status_code == 422


def test_a_request_has_at_most_a_thousand_paths(site: Site) -> None:
    paths = [f"/segments/{number}" for number in range(1001)]
    for path, order in [("/archiveinfo", {"paths": paths}), ("/stage", {"files": [{"path": each} for each in paths]})]:
        answer = site.post(path, order)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-request")
    assert len(site.localities(*paths[:1000])) == 1000
    assert site.post("/archiveinfo", {"paths": []}).status_code == 422


def test_the_datastore_as_a_client_of_tape_systems_is_served_too(site: Site) -> None:
    batch, names = site.nearline()
    api = TapeRestApi(HttpClient("tape", site.url, Access(allow_http=True)))
    path, unknown = f"/segments/{names[0]}", "/segments/gwb1.json"
    assert api.localities([path, unknown]) == {path: "TAPE"}
    request = api.stage([path, unknown])
    within(60, lambda: api.staged(request)[path].state is StageState.COMPLETED)
    assert api.staged(request)[unknown].state is StageState.FAILED
    assert api.localities([path]) == {path: "DISK_AND_TAPE"}
    assert site.pinned(batch)
    api.release(request, [path])
    assert not site.pinned(batch)
    api.delete(request)
    with pytest.raises(NotThere):
        api.staged(request)


# ---- gfal2


@needs_gfal
def test_gfal2_brings_a_segment_online_and_releases_it(site: Site) -> None:
    batch, names = site.nearline()
    url = f"{site.url}/segments/{names[0]}"
    assert printed(gfal("xattr", url, "user.status")) == "NEARLINE"
    assert printed(gfal("archivepoll", url)) == f"{url} READY"
    token = printed(run_gfal2("print(context.bring_online(sys.argv[1], 60, 60, True)[1])", url))
    within(60, lambda: printed(gfal("xattr", url, "user.status")) == "ONLINE_AND_NEARLINE")
    assert printed(run_gfal2("print(context.bring_online_poll(sys.argv[1], sys.argv[2]))", url, token)) == "1"
    assert site.pinned(batch)
    printed(gfal("evict", url, token))
    assert not site.pinned(batch)


@needs_gfal
def test_gfal2_waits_for_files_and_says_which_do_not_exist(site: Site, tmp_path: Path) -> None:
    _, names = site.nearline()  # they stay pinned: the command does not show the id that releases them
    urls = [f"{site.url}/segments/{name}" for name in [*names, "gwb1.json"]]
    listed = tmp_path / "urls"
    listed.write_text("\n".join(urls))
    output = gfal("bringonline", "--polling-timeout", "30", "--from-file", str(listed)).stdout
    assert all(f"{url} READY" in output for url in urls[:-1])
    assert f"{urls[-1]} => FAILED: [Tape REST API] there is no" in output
    assert "there is no '/segments/gwb1.json'" in gfal("archivepoll", urls[-1]).stdout


def printed(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
