"""The rate limit of callers, by name or by address, and the headers about it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from glitchflow_api import rate
from glitchflow_api.app import create_app
from glitchflow_api.rate import Buckets
from glitchflow_api.settings import GatewaySettings
from gwwire.public import Scope
from tests.support.keyring import Keyring


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rate, "time", clock)
    return clock


def client_of(**settings: object) -> TestClient:
    given = {"DS_BURL": "http://127.0.0.1:9", "RATE": 2, "BURST": 3, **settings}
    return TestClient(create_app(GatewaySettings.model_validate(given)))


@pytest.fixture
def client(clock: Clock) -> Iterator[TestClient]:
    assert clock
    with client_of() as client:
        yield client


def test_the_burst_is_answered_and_the_next_request_gets_a_retry_time(client: TestClient, clock: Clock) -> None:
    for left in (2, 1, 0):
        answer = client.get("/whoami")
        assert answer.status_code == 200
        assert answer.headers["ratelimit-policy"] == '"requests";q=3;w=2'
        assert answer.headers["ratelimit"] == f'"requests";r={left};t={2 if left < 1 else 1}'
    refused = client.get("/whoami")
    assert (refused.status_code, refused.json()["code"]) == (429, "too-many-requests")
    assert "RATE" in refused.json()["detail"]
    assert "BURST" in refused.json()["detail"]
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["ratelimit"] == '"requests";r=0;t=2'
    clock.now += 0.5
    assert client.get("/whoami").status_code == 200
    assert client.get("/whoami").status_code == 429
    clock.now += 100
    assert [client.get("/whoami").status_code for _ in range(4)] == [200, 200, 200, 429]


def test_further_requests_of_a_refused_caller_do_not_extend_the_wait(client: TestClient, clock: Clock) -> None:
    for _ in range(50):
        client.get("/whoami")
    clock.now += 0.5
    assert client.get("/whoami").status_code == 200


def test_orders_and_segments_count_like_questions_and_probes_do_not(client: TestClient) -> None:
    for _ in range(3):
        assert client.post("/streamdata", content=b"{}").status_code == 502
    assert client.post("/streamdata", content=b"{}").status_code == 429
    assert client.post("/train", json={}).status_code == 429
    assert [client.get("/healthz").status_code for _ in range(5)] == [200] * 5


@pytest.mark.usefixtures("clock")
def test_each_key_has_requests_of_its_own_wherever_it_comes_from(tmp_path: Path) -> None:
    keys = Keyring(tmp_path / "keys.json")
    alice, bob = ({"Authorization": f"Bearer {keys.make(name, Scope.READ)}"} for name in ("alice", "bob"))
    with client_of(**keys.settings) as client:
        assert [client.get("/whoami", headers=alice).status_code for _ in range(4)] == [200, 200, 200, 429]
        assert client.get("/whoami", headers=bob).status_code == 200
        assert client.get("/whoami").status_code == 200, "an address is not a name"


def test_a_callers_group_has_no_part_in_it_and_off_is_off() -> None:
    with client_of(RATE=0) as client:
        answers = [client.get("/whoami") for _ in range(20)]
    assert {answer.status_code for answer in answers} == {200}
    assert "ratelimit" not in answers[0].headers


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("testclient", "testclient", True),
    ],
)
def test_the_addresses_of_an_ipv6_home_are_one_caller(one: str, other: str, *, same: bool) -> None:
    assert (rate._client_network(one) == rate._client_network(other)) == same  # noqa: SLF001 (what an address amounts to)


def test_callers_with_full_buckets_are_forgotten_and_refused_callers_are_not() -> None:
    buckets = Buckets(1, 2)
    for number in range(9_999):
        buckets.take(f"caller {number}", 0.0)
    for _ in range(3):
        assert buckets.take("greedy", 100.0) > -2
    for number in range(50):
        buckets.take(f"new {number}", 100.0)
    assert buckets.take("greedy", 100.0) < 0
    assert len(buckets._buckets) < 100  # noqa: SLF001 (what it costs to remember)
