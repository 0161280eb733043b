"""The gateway against the real dslogic and the real buffer, over real sockets."""

import gzip
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from html import unescape

import httpx2
import pytest
from fastapi.testclient import TestClient

from glitchflow_api.app import create_app
from glitchflow_api.logic_client import LogicClient
from glitchflow_api.settings import GatewaySettings
from scripts.trio import Trio, free_ports
from tests.support.outage import without
from tests.support.segments import BAD_BODIES, JSON, segment_body

ALICE = {"user": "alice", "token": "secret"}


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio]) -> Trio:
    return start_shared_trio({"MAX_SIZE": "200"}, services=2)


def client_of(address: str, **settings: object) -> TestClient:
    return TestClient(create_app(GatewaySettings.model_validate({"DS_BURL": address, **settings})))


@pytest.fixture
def client(trio: Trio) -> Iterator[TestClient]:
    with client_of(trio.url) as client:
        yield client
        client.post("/cleanbuf", json={"msg": "the test is over"})


def fill(client: TestClient) -> None:
    for number in range(4):
        assert client.post("/streamdata", content=segment_body(number), headers=JSON).json()["resp"] == "CREATED"


def test_every_route_of_the_contract_answers_as_written(client: TestClient) -> None:
    assert client.get("/stats").json() == {"n_itm": 0, "buff_size": 0}
    assert client.get("/dumpbuf").json() == {"nmlist": []}
    assert client.get("/desc").json() == {"resp": "OPERATIONAL"}

    waiting = client.post("/train", json=ALICE)
    assert (waiting.status_code, waiting.json()) == (200, {"resp": "WAITING"})

    created = client.post("/streamdata", content=segment_body(1), headers=JSON)
    assert created.status_code == 200
    (name,) = client.get("/dumpbuf").json()["nmlist"]
    size = client.get("/stats").json()["buff_size"]
    assert created.json() == {"resp": "CREATED", "body": f"Written {name} for {size} bytes"}

    fill(client)
    stats = client.get("/stats").json()
    frozen = client.post("/train", json=ALICE)
    assert frozen.status_code == 200
    seen = {"resp": "FROZEN", "n_f": 5, "bt_wrt": stats["buff_size"], "holder": "alice"}
    assert seen.items() <= frozen.json().items()
    assert client.post("/train", json={"user": "bob", "token": "his"}).json() == frozen.json()
    assert client.get("/desc").json() == {"resp": "FROZEN"}

    refused = client.post("/streamdata", content=segment_body(2), headers=JSON)
    assert (refused.status_code, refused.json()) == (200, {"resp": "FROZEN", "body": "Datastore frozen."})
    assert client.get("/stats").json() == stats

    cleaned = client.post("/cleanbuf", json={"msg": "done"})
    assert cleaned.status_code == 200
    assert cleaned.json()["resp"] == "CLEANED"
    assert cleaned.json()["body"].startswith("Archived 5 segments")
    assert client.get("/stats").json() == {"n_itm": 0, "buff_size": 0}


def test_the_type_of_a_problem_is_the_address_of_its_documentation(client: TestClient) -> None:
    problem = client.post("/streamdata", content=b"{", headers=JSON).json()
    page = client.get(problem["type"])
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/plain; charset=utf-8"
    assert page.text.startswith(f"## {problem['code']}\n\n**{problem['status']} {problem['title']}.**")
    assert page.text in client.get("/problems").text
    unknown = client.get("/problems/no-such-problem")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not-found")


def test_the_overview_has_the_stored_data_and_the_size_of_a_batch(client: TestClient) -> None:
    fill(client)
    time.sleep(0.6)  # it may be half a second old
    seen = client.get("/overview").json()
    stats = client.get("/stats").json()
    assert (seen["n_itm"], seen["buff_size"], seen["max_size"]) == (4, stats["buff_size"], 200)
    [channel] = seen["channels"]
    assert (channel["channel"], channel["segments"], channel["start"]) == (None, 4, 1e9)
    assert channel["latest"] == client.get("/dumpbuf").json()["nmlist"][-1]


def test_an_order_to_clean_one_batch_never_cleans_another(client: TestClient) -> None:
    fill(client)
    client.post("/train", json=ALICE)
    [frozen] = [each["id"] for each in client.get("/batches").json()["batches"] if each["state"] == "FROZEN"]
    order = {"msg": "done", "batch": frozen}
    assert client.post("/cleanbuf", json=order).json()["body"].startswith("Archived 4 segments")
    fill(client)
    refused = client.post("/cleanbuf", json=order)
    assert (refused.status_code, refused.json()["code"]) == (409, "batch-changed")
    assert client.get("/stats").json()["n_itm"] == 4
    assert client.post("/cleanbuf", json={"msg": "", "batch": 1}).json()["field"] == "batch"


def test_an_archived_batch_is_verified_in_the_background(client: TestClient) -> None:
    fill(client)
    [batch] = [each for each in client.get("/batches").json()["batches"] if each["state"] == "OPEN"]
    assert batch["verification"] is None
    path = f"/batches/{batch['id']}"
    refused = client.post(f"{path}/verify")
    assert (refused.status_code, refused.json()["code"]) == (409, "batch-not-archived")
    client.post("/cleanbuf", json={"msg": "done"})
    begun = client.post(f"{path}/verify")
    assert begun.status_code == 202
    assert begun.json()["segments"] == 4
    while (found := client.get(path).json()["verification"])["state"] == "running":
        time.sleep(0.02)
    assert (found["state"], found["checked"], found["problems"]) == ("intact", 4, [])
    assert client.post("/batches/nothing/verify").status_code == 404


def test_the_newest_lines_of_the_log_are_returned(client: TestClient) -> None:
    fill(client)
    names = client.get("/dumpbuf").json()["nmlist"]
    lines = client.get("/log?last=3").json()["lines"]
    assert [line["name"] for line in lines] == names[-3:]
    assert list(lines[0]) == ["level", "id", "size", "name", "time", "message"]
    assert len(client.get("/log").json()["lines"]) == 4
    assert client.get("/log?last=0").json()["field"] == "query.last"


def test_the_coverage_has_the_stored_time_spans(client: TestClient) -> None:
    for t0 in (10, 12, 20, 30):
        body = f'{{"h":[1.0,2.0],"t":[{t0},1],"meta":{{"channel":"H1:A"}}}}'
        assert client.post("/streamdata", content=body, headers=JSON).json()["resp"] == "CREATED"
    [batch] = [each["id"] for each in client.get("/batches").json()["batches"] if each["state"] == "OPEN"]
    seen = client.get("/coverage", params={"batch": batch}).json()
    spans = [[10, 14, 2], [20, 22, 1], [30, 32, 1]]
    channels = [{"channel": "H1:A", "dt": 1, "spans": spans, "closed_gaps": 0}]
    gaps = [{"channel": "H1:A", "dt": 1, "spans": [[14, 20], [22, 30]]}]
    assert seen == {"batch": batch, "channels": channels, "gaps": gaps, "more": 0}
    [of_one] = client.get("/coverage", params={"batch": batch, "limit": 2}).json()["channels"]
    assert (of_one["spans"], of_one["closed_gaps"]) == ([[10, 22, 3], [30, 32, 1]], 6)
    [of_one] = client.get("/coverage", params={"batch": batch, "channel": "H1:A", "start": 22, "stop": 31}).json()[
        "channels"
    ]
    assert of_one["spans"] == [[30, 32, 1]]
    assert client.get("/coverage?batch=nothing").status_code == 404
    for query, detail in {
        "limit=0": "query.limit: expected 1 or more, got '0'",
        "start=5&stop=1": "start=5.0 is after stop=1.0",
    }.items():
        refused = client.get(f"/coverage?{query}")
        assert (refused.status_code, refused.json()["detail"]) == (422, detail)


def test_the_page_is_served_by_the_gateway_itself(client: TestClient) -> None:
    assert client.get("/", follow_redirects=False).headers["location"] == "dspage"
    page = client.get("/dspage", follow_redirects=False)
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert {"events", "whoami"} <= json.loads(unescape(re.findall('data-routes="([^"]+)"', page.text)[0])).keys()
    for file in re.findall('(?:src|href)="(static/[^"]+)"', page.text):
        answer = client.get(f"/{file}")
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-encoding"] == "gzip"
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.get("/static/0/nothing.css").status_code == 404
    assert client.get("/stats%2F", follow_redirects=False).status_code == 404, "a redirect would name scheme and host"
    assert client.get("/static/0/..%2Fbufstat").status_code in {404, 422}


@pytest.mark.parametrize("what", BAD_BODIES)
def test_an_invalid_segment_is_refused_with_the_reason_and_not_counted(client: TestClient, what: str) -> None:
    body, status, field = BAD_BODIES[what]
    answer = client.post("/streamdata", content=body, headers=JSON)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json().get("field") == field
    assert answer.json()["detail"]
    assert client.get("/stats").json() == {"n_itm": 0, "buff_size": 0}


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("/train", b"", 400, None),
        ("/train", b"{", 400, None),
        ("/train", b"[]", 422, None),
        ("/train", b"{}", 422, "user"),
        ("/train", b'{"user":"a"}', 422, "token"),
        ("/train", b'{"user":"","token":"b"}', 422, "user"),
        ("/train", b'{"user":null,"token":"b"}', 422, "user"),
        ("/train", b'{"user":"a\\nb","token":"b"}', 422, "user"),
        ("/train", b'{"user":"a","token":""}', 422, "token"),
        ("/cleanbuf", b"", 400, None),
        ("/cleanbuf", b"{}", 422, "msg"),
        ("/cleanbuf", b'{"msg":1}', 422, "msg"),
    ],
)
def test_a_bad_order_changes_nothing(
    client: TestClient, path: str, body: bytes, status: int, field: str | None
) -> None:
    fill(client)
    answer = client.post(path, content=body, headers=JSON)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json().get("field") == field
    assert client.get("/stats").json()["n_itm"] == 4
    assert client.get("/desc").json() == {"resp": "OPERATIONAL"}


@pytest.mark.parametrize("path", ["/streamdata", "/train", "/cleanbuf"])
def test_another_media_type_is_refused(client: TestClient, path: str) -> None:
    answer = client.post(path, content=segment_body(1), headers={"Content-Type": "text/plain"})
    assert answer.status_code == 415
    assert answer.json()["code"] == "unsupported-media-type"


@pytest.mark.parametrize("path", ["/streamdata", "/train", "/cleanbuf", "/thaw"])
@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson"])
def test_a_compressed_body_is_refused_by_name(client: TestClient, path: str, media_type: str) -> None:
    headers = {"Content-Type": media_type, "Content-Encoding": "gzip"}
    answer = client.post(path, content=gzip.compress(segment_body(1)), headers=headers)
    assert (answer.status_code, answer.json()["field"]) == (415, "Content-Encoding")


@pytest.mark.parametrize("path", ["/streamdata", "/train", "/cleanbuf"])
def test_a_body_that_is_too_large_is_refused(trio: Trio, path: str) -> None:
    with client_of(trio.url, MAX_BODY="100") as client:
        answer = client.post(path, content=b" " * 101, headers=JSON)
    assert answer.status_code == 413
    assert answer.json()["code"] == "too-large"


def test_dslogic_down_is_reported_as_unreachable() -> None:
    with client_of(f"http://127.0.0.1:{free_ports().logic}") as client:
        for answer in (
            client.post("/streamdata", content=segment_body(1), headers=JSON),
            client.post("/train", json=ALICE),
            client.post("/cleanbuf", json={"msg": ""}),
            *(client.get(path) for path in ("/stats", "/dumpbuf", "/desc", "/dspage", "/readyz")),
        ):
            assert answer.status_code == 502
            assert answer.json()["code"] == "upstream-unreachable"
        assert client.get("/healthz").json() == {"status": "ok"}


def test_dslogic_that_does_not_answer_is_reported_as_a_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        settings = GatewaySettings.model_validate({"DS_BURL": f"http://127.0.0.1:{deaf.getsockname()[1]}"})
        with TestClient(create_app(settings, logic=LogicClient(settings, answer_seconds=0.2))) as client:
            answer = client.post("/streamdata", content=segment_body(1), headers=JSON)
    assert answer.status_code == 504
    assert answer.json()["code"] == "upstream-timeout"


def test_another_server_at_dslogics_address_is_reported_as_an_invalid_answer(trio: Trio) -> None:
    with client_of(trio.url, DS_STAT="/dumpf", DS_SEND="/freezeds") as client:
        assert client.get("/stats").json()["code"] == "upstream-invalid"
        assert client.get("/stats").status_code == 502


def test_it_is_ready_while_every_lower_tier_answers_and_passes_on_errors_of_the_volume(
    client: TestClient, trio: Trio
) -> None:
    assert client.get("/readyz").json() == {"status": "ready"}
    data = trio.home / "datavar" / "data"
    data.rename(data.with_name("moved"))
    try:
        why = httpx2.get(f"{trio.services[0].url}/readyz").json()["detail"]
        time.sleep(0.5)  # dslogic caches the overview for so long
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json()) == (200, {"status": "cannot store", "cannot_store": why})
        assert client.get("/overview").json()["cannot_store"] == why
        refused = client.post("/streamdata", content=segment_body(1), headers=JSON)
        assert (refused.status_code, refused.json()["code"]) == (503, "volume-failed")
    finally:
        data.with_name("moved").rename(data)
    assert client.post("/streamdata", content=segment_body(1), headers=JSON).json()["resp"] == "CREATED"


def test_the_gateway_returns_dslogics_problem_if_the_buffer_is_down(trio: Trio) -> None:
    with without(trio, "databuffer"), client_of(trio.url) as client:
        answer = client.post("/streamdata", content=segment_body(1), headers=JSON)
        assert answer.status_code == 502
        assert "the buffer at" in answer.json()["detail"]
        assert client.get("/readyz").status_code == 502


def test_the_documentation_describes_every_route_with_examples(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    for path in ("/stats", "/dumpbuf", "/desc", "/dspage", "/streamdata", "/train", "/cleanbuf", "/healthz", "/readyz"):
        (operation,) = document["paths"][path].values()
        assert operation["description"]
        if "requestBody" in operation:
            reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            assert schemas[reference.rpartition("/")[2]]["examples"]
            assert "422" in operation["responses"]
    for name in ("Stats", "NameList", "StreamAnswer", "TrainFrozen", "CleanAnswer"):
        assert schemas[name]["examples"], name
    assert client.get("/docs").status_code == 200


def test_a_parameter_of_a_query_that_is_wrong_is_refused_in_our_words(client: TestClient) -> None:
    details = []
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        for each in operations.get("get", {}).get("parameters", []):
            if each["in"] == "query":
                answer = client.get(re.sub("{.*?}", "1", path), params={each["name"]: "x"})
                details += [answer.json()["detail"]] if answer.status_code == 422 else []
    assert "query.segments: expected 'all' or 'written', got 'x'" in details
    assert "query.deleted: expected true or false, got 'x'" in details
    assert not [detail for detail in details if re.search("Input|Field|[Vv]alid|`", detail)]


@pytest.mark.parametrize("route", ["segments", "records", "changes", "facets"])
def test_a_misspelt_parameter_of_a_query_is_refused_and_selects_not_everything(client: TestClient, route: str) -> None:
    refused = client.get(f"/{route}?detecter=V1")
    assert (refused.status_code, refused.json()["field"]) == (422, "query.detecter")
    assert "no parameter of this name" in refused.json()["detail"]
