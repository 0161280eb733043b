"""Bad requests to the routes of records, steps and changes: a problem that names what is wrong, and nothing stored."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from gwwire.problems import PROBLEM_TYPE
from scripts.trio import Trio
from tests.support.segments import JSON

NDJSON = {"Content-Type": "application/x-ndjson"}
RECORD, STEP, CLAIM = "/records/bad/one", "/records/bad/one/steps/known", "/steps/known/claim"
NESTED = '{"a":' * 18 + "1" + "}" * 18
DEEP = '{"a":' * 5_000 + "1" + "}" * 5_000


def end(**values: Any) -> str:
    return json.dumps({"attempt": 1, "state": "DONE"} | values)


def claim(**values: Any) -> str:
    return json.dumps({"worker": "w", "kind": "bad"} | values)


#: Method, path, body, status, code.
BAD: dict[str, tuple[str, str, str | None, int, str]] = {
    "an id without a kind": ("PUT", "/records/bad", "{}", 422, "invalid-request"),
    "an id with an empty part": ("PUT", "/records/bad//one", "{}", 422, "invalid-request"),
    "an id with dots": ("PUT", "/records/bad/%2E%2E/one", "{}", 422, "invalid-request"),
    "an id with a control character": ("PUT", "/records/bad/a%0Ab", "{}", 422, "invalid-request"),
    "an id with a line break at its end": ("GET", "/records/bad/one%0A", None, 422, "invalid-request"),
    "an id that is not UTF-8": ("PUT", "/records/bad/%ff", "{}", 400, "bad-request"),
    "an id that is half a character": ("GET", "/records/bad/%c3", None, 400, "bad-request"),
    "a query that is not UTF-8": ("GET", "/records?run=%ff", None, 400, "bad-request"),
    "a record of the datastore": ("PUT", "/records/bundle/one", "{}", 403, "read-only"),
    "a change of a record of the datastore": ("PATCH", "/records/bundle/one", '{"run":"a"}', 403, "read-only"),
    "a key twice in conditions": ("PUT", RECORD, '{"conditions":{"a":[{"b":1,"b":2}]}}', 422, "invalid-request"),
    "a key twice in a result": ("PUT", STEP, end()[:-1] + ',"result":{"a":1,"a":2}}', 422, "invalid-request"),
    "a redo of a state of a batch": ("DELETE", f"{RECORD}/steps/sealed", None, 422, "invalid-request"),
    "an id with a NUL": ("PATCH", "/records/bad/a%00b", "{}", 422, "invalid-request"),
    "an id that is too long": ("PUT", f"/records/bad/{'x' * 600}", "{}", 422, "invalid-request"),
    "NaN": ("PUT", RECORD, '{"conditions":{"t":NaN}}', 400, "invalid-json"),
    "a number beyond a double": ("PUT", RECORD, '{"conditions":{"t":1e999}}', 422, "invalid-request"),
    "conditions that are a list": ("PUT", RECORD, '{"conditions":[1]}', 422, "invalid-request"),
    "conditions nested too deep": ("PUT", RECORD, f'{{"conditions":{NESTED}}}', 422, "too-deep"),
    "a body nested very deep": ("PUT", RECORD, f'{{"conditions":{DEEP}}}', 422, "too-deep"),
    "conditions that are too large": ("PUT", RECORD, json.dumps({"conditions": {"a": "x" * 70_000}}), 413, "too-large"),
    "an empty status": ("PATCH", RECORD, '{"status":""}', 422, "invalid-request"),
    "a status with an escape": ("PATCH", RECORD, '{"status":"\\u001b[31m"}', 422, "invalid-request"),
    "half a document": ("PUT", RECORD, '{"status":', 400, "invalid-json"),
    "an unknown state": ("PUT", STEP, end(state="PAUSED"), 422, "invalid-request"),
    "an attempt of 0": ("PUT", STEP, end(attempt=0), 422, "invalid-request"),
    "an attempt that nobody has": ("PUT", STEP, end(attempt=9), 409, "step-superseded"),
    "a result that is too large": ("PUT", STEP, end(result="x" * 70_000), 413, "too-large"),
    "a result nested too deep": ("PUT", STEP, end(result=json.loads(NESTED)), 422, "too-deep"),
    "a result that is NaN": ("PUT", STEP, '{"attempt":1,"state":"DONE","result":NaN}', 400, "invalid-json"),
    "a renewal of 0 s": ("PUT", STEP, end(state="RUNNING", lease=0), 422, "invalid-request"),
    "a step nobody claimed": ("PUT", f"{RECORD}/steps/never", end(), 404, "not-found"),
    "a redo of a step nobody claimed": ("DELETE", f"{RECORD}/steps/never", None, 404, "not-found"),
    "a step with a space": ("DELETE", f"{RECORD}/steps/a%20b", None, 422, "invalid-request"),
    "a lease of 0 s": ("POST", CLAIM, claim(lease=0), 422, "invalid-request"),
    "a lease of a year": ("POST", CLAIM, claim(lease=86_400 * 365), 422, "invalid-request"),
    "a lease that is NaN": ("POST", CLAIM, '{"worker":"w","lease":NaN}', 400, "invalid-json"),
    "a limit of 0": ("POST", CLAIM, claim(limit=0), 422, "invalid-request"),
    "a step after itself": ("POST", CLAIM, claim(after=["known"]), 422, "invalid-request"),
    "a circle of steps": ("POST", CLAIM, claim(after=["next"]), 422, "invalid-request"),
    "a circle by before": ("POST", CLAIM, claim(before=["known"]), 422, "invalid-request"),
    "a step of the datastore": ("POST", "/steps/sealed/claim", claim(), 422, "invalid-request"),
    "the removal of a step that is performed": ("DELETE", "/steps/known", None, 409, "step-running"),
    "the removal of an unknown step": ("DELETE", "/steps/never", None, 404, "not-found"),
    "the removal of a step of the datastore": ("DELETE", "/steps/verify", None, 422, "invalid-request"),
    "no worker": ("POST", CLAIM, "{}", 422, "invalid-request"),
    "an after below 0": ("GET", "/records?after=-1", None, 422, "invalid-request"),
    "a page of 0 records": ("GET", "/records?limit=0", None, 422, "invalid-request"),
    "a condition without an operator": ("GET", "/records?condition=t", None, 422, "invalid-request"),
    "a text compared by <": ("GET", "/changes?condition=t%3Cwarm", None, 422, "invalid-request"),
    "a since below 0": ("GET", "/changes?since=-1", None, 422, "invalid-request"),
    "a since beyond 64 bits": ("GET", f"/changes?since={2**63}", None, 422, "invalid-request"),
    "a limit given twice": ("GET", "/records?limit=1&limit=2", None, 422, "invalid-request"),
    "a limit given twice, encoded": ("GET", "/records?limit=1&l%69mit=1", None, 422, "invalid-request"),
    "a since that nothing has reached": ("GET", f"/changes?feed=continuous&since={2**62}", None, 409, "seq-ahead"),
    "an after that nothing has reached": ("GET", f"/records?after={2**62}", None, 409, "seq-ahead"),
    "segments after a seq that nothing has reached": ("GET", f"/segments?after={2**62}", None, 409, "seq-ahead"),
    "an unknown feed": ("GET", "/changes?feed=sometimes", None, 422, "invalid-request"),
}


@pytest.fixture(scope="module")
def gateway(start_shared_trio: Callable[..., Trio]) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=start_shared_trio({"MAX_BODY": "1MB"}).url, timeout=30) as client:
        client.put(RECORD, json={"conditions": {"t": 1}})
        client.post(CLAIM, content=claim(), headers=JSON)
        client.post("/steps/next/claim", content=claim(after=["known"]), headers=JSON)
        yield client


def stored(gateway: httpx2.Client) -> tuple[Any, Any]:
    steps = gateway.get("/steps").json()["steps"]
    return gateway.get("/records", params={"kind": "bad"}).json(), [(step["name"], step["after"]) for step in steps]


def problem(answer: httpx2.Response) -> Any:
    assert answer.headers["content-type"] == PROBLEM_TYPE
    assert answer.json()["detail"]
    assert len(answer.content) < 5000
    return answer.json()


@pytest.mark.parametrize("what", BAD)
def test_a_bad_request_is_refused_with_its_reason_and_stores_nothing(gateway: httpx2.Client, what: str) -> None:
    method, path, body, status, code = BAD[what]
    before = stored(gateway)
    refused = gateway.request(method, path, content=body, headers=JSON if body else None)
    assert (refused.status_code, problem(refused)["code"]) == (status, code)
    assert stored(gateway) == before


def test_a_record_that_changed_is_not_written(gateway: httpx2.Client) -> None:
    before = stored(gateway)
    for match in ('"999999"', "17", '"x"', ""):
        refused = gateway.put(RECORD, json={}, headers={"If-Match": match})
        assert (refused.status_code, problem(refused)["code"]) == (412, "record-changed")
    assert stored(gateway) == before


def test_an_address_of_a_megabyte_is_refused(gateway: httpx2.Client) -> None:
    answer = httpx2.put(f"{gateway.base_url}/records/bad/{'x' * 60_000}", json={})
    assert 400 <= answer.status_code < 500


def test_a_field_that_is_given_twice_is_refused(gateway: httpx2.Client) -> None:
    refused = gateway.put("/records/twice/one", content=b'{"run":"a","run":"b"}', headers=JSON)
    assert (refused.status_code, problem(refused)["field"]) == (422, "run")
    assert gateway.get("/records/twice/one").status_code == 404


def test_lists_are_given_by_repeating_the_parameter(gateway: httpx2.Client) -> None:
    query = "kind=bad&detector=L1&detector=H1&condition=t%3D1&condition=t%3C2"
    assert gateway.get(f"/records?{query}").status_code == 200


def test_bad_lines_are_answered_one_by_one(gateway: httpx2.Client) -> None:
    before = stored(gateway)
    lines = ["{", "[]", '{"id":"bad"}', '{"id":"bad/two","conditions":{"t":NaN}}', '{"id":"bundle/a"}']
    lines.append('{"id":"bad/' + "x" * 900_000 + '"}')
    answer = gateway.post("/records", content="\n".join(lines), headers=NDJSON)
    told = [json.loads(line)["status"] for line in answer.text.splitlines()]
    assert told == [400, 422, 422, 400, 403, 422]
    refused = gateway.post("/records", content='{"id":"bad/' + "x" * 2_000_000, headers=NDJSON)
    assert (refused.status_code, problem(refused)["code"]) == (413, "too-large")
    assert stored(gateway) == before
