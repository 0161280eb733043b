"""Records and steps through all three services."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gwwire.public import Scope
from gwwire.records import BATCH_STEPS
from scripts.trio import Trio
from tests.support.keyring import Keyring

WORK = {"worker": "one", "kind": "job"}


@pytest.fixture(scope="module")
def gateway(start_shared_trio: Callable[..., Trio]) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=start_shared_trio({}).url, timeout=90) as client:
        yield client


def claim(gateway: httpx2.Client, step: str, **order: Any) -> list[dict[str, Any]]:
    answer = gateway.post(f"/steps/{step}/claim", json=WORK | order)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["records"]
    return found


def test_an_id_with_slashes_and_an_etag_pass_all_tiers(gateway: httpx2.Client) -> None:
    path = "/records/file/a run/ä%2Fb"
    written = gateway.put(path, json={"conditions": {"temperature": 0.018}})
    assert (written.status_code, written.json()["id"]) == (200, "file/a run/ä/b")
    read = gateway.get(path)
    assert (read.headers["etag"], read.json()) == (written.headers["etag"], written.json())
    assert gateway.get(path, headers={"If-None-Match": read.headers["etag"]}).status_code == 304
    assert gateway.patch(path, json={"run": "O4"}, headers={"If-Match": read.headers["etag"]}).status_code == 200
    refused = gateway.patch(path, json={"run": "O5"}, headers={"If-Match": read.headers["etag"]})
    assert (refused.status_code, refused.json()["code"]) == (412, "record-changed")
    found = gateway.get("/records", params={"condition": "temperature<0.02", "run": "O4"}).json()
    assert [record["id"] for record in found["records"]] == ["file/a run/ä/b"]


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_record_can_be_created_only_if_there_is_none(gateway: httpx2.Client, method: str) -> None:
    path = f"/records/file/once/{method}"
    answers = [gateway.request(method, path, json={}, headers={"If-None-Match": "*"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 412]
    assert answers[1].json()["code"] == "record-changed"
    etag = answers[0].headers["etag"]
    assert gateway.request(method, path, json={}, headers={"If-None-Match": f'"1", W/{etag}'}).status_code == 412
    assert gateway.request(method, path, json={}, headers={"If-None-Match": '"1"'}).status_code == 200
    assert gateway.get(path, headers={"If-None-Match": "*"}).status_code == 304


@pytest.mark.parametrize("path", ["/records", "/changes"])
def test_an_empty_kind_is_refused_because_ignoring_it_would_select_too_much(gateway: httpx2.Client, path: str) -> None:
    refused = gateway.get(path, params={"kind": ""})
    assert (refused.status_code, refused.json()["field"]) == (422, "query.kind")


def test_many_records_are_answered_line_by_line(gateway: httpx2.Client) -> None:
    lines = [json.dumps({"id": f"bulk/{number}", "conditions": {"n": number}}) for number in range(120)]
    lines[3], lines[70] = "{", json.dumps({"id": "no-slash"})
    body = "\n".join(lines)
    answer = gateway.post("/records", content=body, headers={"Content-Type": "application/x-ndjson"})
    told = [json.loads(line) for line in answer.text.splitlines()]
    assert [each.get("id") or each["code"] for each in told] == [
        {3: "invalid-json", 70: "invalid-request"}.get(number, f"bulk/{number}") for number in range(120)
    ]
    page = gateway.get("/records", params={"kind": "bulk", "limit": 100}).json()
    rest = gateway.get("/records", params={"kind": "bulk", "limit": 100, "after": page["after"]}).json()
    assert (len(page["records"]), page["more"], len(rest["records"]), rest["more"]) == (100, True, 18, False)
    assert gateway.post("/records", json={}).json()["code"] == "unsupported-media-type"


def test_a_waiting_worker_gets_a_record_at_once_and_one_that_left_gets_none(gateway: httpx2.Client) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        gateway.post("/steps/copy/claim", json=WORK | {"worker": "gone", "wait": 60}, timeout=0.5)
    got: list[tuple[float, dict[str, Any]]] = []

    def work() -> None:
        found = claim(gateway, "copy", wait=60)
        got.append((time.monotonic(), found[0]))

    worker = threading.Thread(target=work)
    worker.start()
    time.sleep(0.5)
    gateway.put("/records/job/new", json={})
    sent = time.monotonic()
    worker.join()
    [(at, record)] = got
    assert at - sent < 50  # it waits for 60
    first = next(step for step in record["steps"] if step["name"] == "copy")
    assert (first["worker"], first["attempt"]) == ("one", 1)
    done = gateway.put(f"/records/{record['id']}/steps/copy", json={"attempt": 1, "state": "DONE", "result": [1]})
    assert (done.json()["last"], done.json()["steps"][0]["result"]) == ("copy", [1])
    late = gateway.put(f"/records/{record['id']}/steps/copy", json={"attempt": 7, "state": "DONE"})
    assert (late.status_code, late.json()["code"]) == (409, "step-superseded")
    redone = gateway.delete(f"/records/{record['id']}/steps/copy").json()
    assert redone["steps"][0]["state"] == "WAITING"
    [told] = [step for step in gateway.get("/steps").json()["steps"] if step["name"] == "copy"]
    assert told["name"] == "copy"
    assert told["waiting"] >= 1


@pytest.mark.parametrize(
    ("order", "field"),
    [
        ({"lease": 0}, "lease"),
        ({"lease": 86_400 * 365}, "lease"),
        ({"after": ["copy", "loop"]}, "after"),
        ({"kind": "File"}, "kind"),
        ({"worker": "a\nb"}, "worker"),
        ({"wait": 61}, "wait"),
        ({"query": {"colour": "red"}}, "query.colour"),
    ],
)
def test_a_bad_claim_names_the_field_and_declares_nothing(
    gateway: httpx2.Client, order: dict[str, Any], field: str
) -> None:
    refused = gateway.post("/steps/loop/claim", json=WORK | order)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid-request")
    assert field.partition(".")[0] in refused.text
    assert "loop" not in [step["name"] for step in gateway.get("/steps").json()["steps"]]


@pytest.mark.parametrize("step", ["sealed", "archived", "verify", "copy:tape"])
def test_the_datastores_own_steps_can_be_followed_and_not_claimed_or_ended(gateway: httpx2.Client, step: str) -> None:
    own = {"code": "invalid-request", "detail": f"step: the datastore itself performs {step!r}"}
    claimed = gateway.post(f"/steps/{step}/claim", json=WORK)
    ended = gateway.put(f"/records/other/one/steps/{step}", json={"attempt": 1, "state": "DONE"})
    for refused in (claimed, ended):
        assert refused.status_code == 422
        assert own.items() <= refused.json().items()
    redone = gateway.delete(f"/records/other/one/steps/{step}")
    is_state = step in BATCH_STEPS
    assert redone.status_code == (422 if is_state else 404)
    assert ("state of the batch" if is_state else "was never requested") in redone.json()["detail"]
    assert gateway.get("/records", params={"last": step}).json()["records"] == []
    assert gateway.post("/steps/follow/claim", json=WORK | {"after": [step]}).json()["records"] == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"attempt": 1, "state": "PAUSED"}, 422),
        ({"attempt": 0, "state": "DONE"}, 422),
        ({"attempt": 1, "state": "DONE", "result": "x" * 70_000}, 413),
        ({"attempt": 1, "state": "FAILED", "reason": "\x1b[31m"}, 422),
        ({"attempt": 1, "state": "DONE"}, 404),
    ],
)
def test_a_bad_end_is_refused(gateway: httpx2.Client, body: dict[str, Any], status: int) -> None:
    gateway.put("/records/other/one", json={})
    assert gateway.put("/records/other/one/steps/never", json=body).status_code == status


def test_a_feed_and_a_claim_pass_all_tiers_as_they_come_and_end_with_their_key(
    start_shared_trio: Callable[..., Trio], tmp_path: Path
) -> None:
    keys = Keyring(tmp_path / "keys.json")
    key = keys.make("reader", Scope.READ, Scope.WORK)
    trio = start_shared_trio(keys.settings)
    headers = {"Authorization": f"Bearer {key}"}
    with httpx2.Client(base_url=trio.url, headers=headers, timeout=90) as client:
        client.put("/records/file/one", json={})
        query = {"feed": "continuous", "kind": "file", "heartbeat": "1"}
        with client.stream("GET", "/changes", params=query) as answer:
            assert answer.headers["content-type"] == "application/x-ndjson"
            told = answer.iter_lines()
            assert json.loads(next(told))["id"] == "file/one"
            sent = time.monotonic()
            httpx2.put(f"{trio.url}/records/file/two", json={}, headers=headers)
            assert json.loads(next(line for line in told if line and '"id"' in line))["id"] == "file/two"
            assert time.monotonic() - sent < 30
            with ThreadPoolExecutor() as pool:
                waiting = pool.submit(client.post, "/steps/never/claim", json=WORK | {"kind": "other", "wait": 60})
                while "never" not in [step["name"] for step in client.get("/steps").json()["steps"]]:
                    time.sleep(0.05)
                keys.change(key, revoked=datetime.now(UTC))
                with pytest.raises(httpx2.RemoteProtocolError):
                    list(told)
                assert (waiting.result().status_code, time.monotonic() - sent < 55) == (401, True)
        assert client.get("/changes").status_code == 401
