"""Many segments in one request, through every service."""

import itertools
import json
import signal
import time
from collections.abc import Callable, Iterator

import httpx2
import pytest

from scripts.trio import Trio
from tests.support.segments import check_counts, numbers_on, segment_body

NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio]) -> Trio:
    return start_shared_trio({"MAX_SIZE": "1kB"})


@pytest.mark.parametrize("service", ["databuffer", "dslogic", "glitchflow_api"])
def test_every_tier_offers_and_takes_many_segments_and_answers_in_order(trio: Trio, service: str) -> None:
    url = next(each.url for each in trio.services if each.name == service)
    path = {"databuffer": "/sendF", "dslogic": "/stream", "glitchflow_api": "/streamdata"}[service]
    assert "application/x-ndjson" in httpx2.options(url + path).headers["accept-post"]
    lines = [segment_body(1), b'{"h":[]}', segment_body(2), b"", segment_body(3)]
    answer = httpx2.post(url + path, content=b"\n".join(lines), headers={**NDJSON, "Idempotency-Key": service})
    assert answer.status_code == 200
    seen = [json.loads(line) for line in answer.text.splitlines()]
    assert [each.get("resp") or each["code"] for each in seen] == ["CREATED", "invalid-segment", "CREATED", "CREATED"]
    again = httpx2.post(url + path, content=b"\n".join(lines), headers={**NDJSON, "Idempotency-Key": service})
    assert again.text == answer.text


def test_the_keys_of_lines_travel_through_every_tier(trio: Trio) -> None:
    paths = {"databuffer": "/sendF", "dslogic": "/stream", "glitchflow_api": "/streamdata"}
    urls = [each.url + paths[each.name] for each in trio.services]
    seen = []
    for i, url in enumerate(urls):
        lines = b"\n".join(segment_body(100 + (i + k) % 3) for k in range(3))
        keys = ", ".join(f"line-{(i + k) % 3}" for k in range(3))
        answer = httpx2.post(url, content=lines, headers={**NDJSON, "Idempotency-Keys": keys})
        seen.append({json.loads(line)["body"] for line in answer.text.splitlines()})
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0]) == 3


def test_a_long_request_is_stored_while_it_is_sent(trio: Trio) -> None:
    before = httpx2.get(f"{trio.url}/stats").json()["n_itm"]
    stored_meanwhile: list[int] = []

    def counts_until_one_is_positive() -> Iterator[int]:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            yield (count := httpx2.get(f"{trio.url}/stats").json()["n_itm"] - before)
            if count > 0:
                return
            time.sleep(0.05)

    def body() -> Iterator[bytes]:
        for number in range(600):
            yield segment_body(number, samples=300) + b"\n"
            if number == 500:
                stored_meanwhile.extend(counts_until_one_is_positive())

    answer = httpx2.post(f"{trio.url}/streamdata", content=body(), headers=NDJSON, timeout=30)
    assert [json.loads(line)["resp"] for line in answer.text.splitlines()] == ["CREATED"] * 600
    assert stored_meanwhile[-1] > 0
    check_counts(trio.home, httpx2.get(f"{trio.url}/stats").json())


def test_a_frozen_datastore_answers_frozen_for_each_line(trio: Trio) -> None:
    assert httpx2.post(f"{trio.url}/train", json={"user": "alice", "token": "a"}).json()["resp"] == "FROZEN"
    answer = httpx2.post(f"{trio.url}/streamdata", content=segment_body(1) + b"\n", headers=NDJSON)
    assert answer.json() == {"resp": "FROZEN", "body": "Datastore frozen."}
    assert httpx2.post(f"{trio.url}/thaw", json={"user": "bob", "token": "a"}).json()["code"] == "not-holder"
    assert httpx2.post(f"{trio.url}/thaw", json={"user": "alice", "token": "a"}).json()["resp"] == "OPERATIONAL"


def test_an_answer_that_breaks_off_never_looks_complete(trio: Trio) -> None:
    sent = itertools.count()

    def body() -> Iterator[bytes]:
        for _ in range(300):
            yield segment_body(next(sent), samples=300) + b"\n"
        trio.processes["databuffer"].send_signal(signal.SIGKILL)
        for _ in range(300):
            yield segment_body(next(sent), samples=300) + b"\n"

    try:
        answer = httpx2.post(f"{trio.url}/streamdata", content=body(), headers=NDJSON, timeout=30)
    except httpx2.TransportError:
        return
    finally:
        trio.processes["databuffer"].wait()
        trio.launch("databuffer")
        trio.wait_until_ready()
    assert answer.status_code >= 500


def test_segments_and_batches_are_found_through_the_gateway(start_trio: Callable[..., Trio]) -> None:
    trio = start_trio({"MAX_SIZE": "1kB"})
    with httpx2.Client(base_url=trio.url) as client:
        lines = b"\n".join(segment_body(number, t0=1e9 + number) for number in range(30))
        client.post("/streamdata", content=lines, headers=NDJSON)
        frozen = client.post("/train", json={"user": "alice", "token": "a"}).json()

        (batch,) = client.get("/batches").json()["batches"]
        assert (batch["id"], batch["digest"], batch["state"]) == (frozen["batch"], frozen["digest"], "FROZEN")
        assert client.get(f"/batches/{batch['id']}").json() == batch
        manifest = client.get(f"/batches/{batch['id']}/manifest").json()
        assert manifest["digest"] == frozen["digest"]

        pages = [client.get("/segments", params={"limit": 20}).json()]
        assert pages[0]["more"]
        pages.append(client.get("/segments", params={"limit": 20, "after": pages[0]["after"]}).json())
        assert not pages[1]["more"]
        found = [segment for page in pages for segment in page["segments"]]
        assert [segment["name"] for segment in found] == client.get("/dumpbuf").json()["nmlist"]
        span = client.get("/segments", params={"start": 1e9 + 3, "stop": 1e9 + 5}).json()["segments"]
        assert [segment["t0"] for segment in span] == [1e9 + 3, 1e9 + 4]

        name, sha256 = found[0]["name"], found[0]["sha256"]
        whole = client.get(f"/segments/{name}")
        assert whole.headers["etag"] == f'"{sha256}"'
        part = client.get(f"/segments/{name}", headers={"Range": "bytes=1-4"})
        assert (part.status_code, part.content) == (206, whole.content[1:5])
        assert client.get(f"/segments/{name}", headers={"If-None-Match": f'"{sha256}"'}).status_code == 304

        for nowhere in ("/batches/b0", "/batches/b0/manifest", "/segments/gwb0.json", "/segments/..%2f..%2fetc"):
            assert client.get(nowhere).status_code in {404, 422}
        assert client.get("/segments", params={"limit": 0}).status_code == 422
        client.post("/cleanbuf", json={"msg": ""})
        assert client.get(f"/segments/{name}").content == whole.content
    assert len(numbers_on(trio.home / "datavar")) == 30
